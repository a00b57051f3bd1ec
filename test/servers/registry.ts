/**
 * A real schema registry for a test (Apicurio, from Maven's artifacts, once per user) on a free port of loopback, all in memory, with
 * Confluent's API. `await using` ends it.
 *
 *   <cache>/millrace/servers/apicurio-<version>/     its jars, as it is delivered
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { CACHE, COPY, isOnPath, javaVersion, maven, once, run } from './install.ts'
import { allOrNone, makeHome, onFreePorts, removeHome, ServerProcess } from './process.ts'
import { hasNewJava, newJava } from './search-install.ts'

const VERSION = '3.3.3'
const RELEASE = 21
const FOLDER = join(CACHE, `apicurio-${VERSION}`)

export interface RegistryServer extends AsyncDisposable {
  /** Of Confluent's API. */
  readonly url: string
  kill9(): Promise<void>
}

/** Why this machine cannot run it (null: it can). What is in the cache already needs nothing to be made. */
export function missingForRegistry(): string | null {
  const missing: string[] = []
  if (!existsSync(FOLDER) && !isOnPath('mvn')) missing.push('mvn')
  if (javaVersion() < RELEASE && !hasNewJava()) missing.push('python3 with pip, for a newer Java')
  return missing.length > 0 ? `a schema registry needs ${missing.join(', ')}` : null
}

async function make(into: string): Promise<void> {
  const artifact = `io.apicurio:apicurio-registry-app:${VERSION}:tar.gz:all`
  await maven([`${COPY}:copy`, `-Dartifact=${artifact}`, `-DoutputDirectory=${into}`])
  const archive = join(into, `apicurio-registry-app-${VERSION}-all.tar.gz`)
  await run('tar', ['-xzf', archive, '-C', into])
  await run('rm', [archive])
}

export async function startRegistry(): Promise<RegistryServer> {
  const missing = missingForRegistry()
  if (missing) throw new Error(missing)
  const made = await once(FOLDER, make)
  const java = await newJava(RELEASE)
  const home = makeHome('registry')
  try {
    return await onFreePorts(2, async ([port, management]) => {
      const url = `http://127.0.0.1:${port}/apis/ccompat/v7`
      const server = new ServerProcess({
        directory: home,
        program: java,
        arguments: [
          ...['-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'],
          ...['-Dquarkus.http.host=127.0.0.1', `-Dquarkus.http.port=${port}`],
          ...['-Dquarkus.management.host=127.0.0.1', `-Dquarkus.management.port=${management}`],
          ...['-Dapicurio.storage.kind=sql', '-Dapicurio.storage.sql.kind=h2'],
          ...['-jar', join(made, 'quarkus-run.jar')],
        ],
        listens: /Listening on/,
        isReady: async () => (await fetch(`${url}/subjects`)).ok,
      })
      await allOrNone([server], () => server.start(1))
      return {
        url,
        kill9: () => server.kill9(),
        async [Symbol.asyncDispose]() {
          await server.kill9()
          removeHome(home)
        },
      }
    })
  } catch (error) {
    removeHome(home)
    throw error
  }
}
