/**
 * A real store with S3's protocol for a test (s3proxy, from Maven's artifacts, once per user), on a free port of loopback, with its
 * objects as files in the folder for temporary files. `await using` ends it.
 *
 *   <cache>/millrace/servers/s3proxy-<version>-<hash>/lib/     its jars
 *   millrace-test-s3-XXXXXX/
 *     settings  data/<bucket>/                                 of the server
 */
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CACHE, COPY, isOnPath, JAVA, javaVersion, maven, once, sourcesIn, textsOf } from './install.ts'
import { allOrNone, makeHome, onFreePorts, removeHome, ServerProcess } from './process.ts'

const VERSION = '4.1.0'
const RELEASE = 17
/** Raised when the steps below change what they make. */
const LAYOUT = 1
const SOURCES = sourcesIn('s3-java')

export interface S3Server extends AsyncDisposable {
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly pid: number
  /** What it wrote, a line each, of all its runs. */
  readonly log: readonly string[]
  /** A new bucket; its name. */
  bucket(): string
  kill9(): Promise<void>
  /** SIGSTOP: connections stay open and nothing answers, until `thaw`. */
  freeze(): void
  thaw(): void
  /** Again, on the same port and data, after kill9. */
  start(): Promise<void>
}

/** Why this machine cannot run it (null: it can). What is in the cache already needs nothing to be made. */
export function missingForS3(): string | null {
  const missing: string[] = []
  if (javaVersion() < RELEASE) missing.push(`java (${RELEASE} or later)`)
  if (!existsSync(folder()) && !isOnPath('mvn')) missing.push('mvn')
  return missing.length > 0 ? `s3 needs ${missing.join(', ')}` : null
}

function folder(): string {
  const hash = createHash('sha256').update(JSON.stringify([LAYOUT, VERSION]))
  for (const text of textsOf(join(SOURCES, 'pom.xml'))) hash.update(text)
  return join(CACHE, `s3proxy-${VERSION}-${hash.digest('hex').slice(0, 12)}`)
}

async function make(into: string): Promise<void> {
  // Maven leaves nothing beside the pom it is given, but wants a folder it may write to.
  cpSync(join(SOURCES, 'pom.xml'), join(into, 'pom.xml'))
  await maven([
    ...['-f', join(into, 'pom.xml'), `-Dserver.version=${VERSION}`],
    ...[`${COPY}:copy-dependencies`, `-DoutputDirectory=${join(into, 'lib')}`],
  ])
}

const KEYS = { accessKeyId: 'millrace', secretAccessKey: 'a-secret-of-the-tests' }

/** `open`: lets in anybody, and so requests that were altered on their way. */
export async function startS3({ open = false } = {}): Promise<S3Server> {
  const missing = missingForS3()
  if (missing) throw new Error(missing)
  const made = await once(folder(), make)
  const home = makeHome('s3')
  try {
    return await onFreePorts(1, async ([port]) => {
      const server = new S3Proxy(made, home, port!, open)
      await allOrNone([server], () => server.start(1))
      return Object.assign(server, {
        async [Symbol.asyncDispose]() {
          await server.kill9()
          removeHome(home)
        },
      })
    })
  } catch (error) {
    removeHome(home)
    throw error
  }
}

class S3Proxy extends ServerProcess {
  readonly endpoint: string
  readonly accessKeyId = KEYS.accessKeyId
  readonly secretAccessKey = KEYS.secretAccessKey
  readonly #data: string
  #buckets = 0

  constructor(made: string, home: string, port: number, open: boolean) {
    const endpoint = `http://127.0.0.1:${port}`
    const data = join(home, 'data')
    mkdirSync(data, { recursive: true })
    const settings = join(home, 'settings')
    const lines = {
      's3proxy.endpoint': endpoint,
      's3proxy.authorization': open ? 'none' : 'aws-v2-or-v4',
      's3proxy.identity': KEYS.accessKeyId,
      's3proxy.credential': KEYS.secretAccessKey,
      'jclouds.provider': 'filesystem-nio2',
      'jclouds.identity': 'none',
      'jclouds.credential': 'none',
      'jclouds.filesystem.basedir': data,
    }
    writeFileSync(
      settings,
      Object.entries(lines)
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    )
    super({
      directory: home,
      program: JAVA,
      arguments: [
        ...['-Xmx384m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'],
        `-Dlogback.configurationFile=${join(SOURCES, 'logback.xml')}`,
        ...['-cp', join(made, 'lib', '*'), 'org.gaul.s3proxy.Main', '--properties', settings],
      ],
      listens: /Started .*ServerConnector/,
      isReady: async () => (await fetch(endpoint)).status > 0,
    })
    this.endpoint = endpoint
    this.#data = data
  }

  bucket(): string {
    const name = `bucket-${++this.#buckets}`
    mkdirSync(join(this.#data, name))
    return name
  }
}
