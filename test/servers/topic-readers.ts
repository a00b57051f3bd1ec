/**
 * Programs that other people read Millrace's topics with, on the files of docs/readers: Kafka Streams, and Flink SQL in one process.
 * Their jars come from Maven, once per user.
 *
 *   <cache>/millrace/servers/
 *     streams-<version>-<hash>/   lib/, and classes/ of docs/readers/ItemTotals.java
 *     flink-<version>-<hash>/     lib/, and classes/ of flink-java/SqlFile.java
 */
import { createHash } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CACHE, ECJ, isOnPath, JAVA, javaVersion, makeJava, once, sourcesIn, textsOf } from './install.ts'
import { makeHome, removeHome, ServerProcess } from './process.ts'

const RELEASE = 17
const DOCS = fileURLToPath(new URL('../../docs/readers/', import.meta.url)).replace('/dist/docs/', '/docs/')

interface Program {
  readonly name: string
  readonly version: string
  readonly pom: string
  readonly source: string
}
const STREAMS: Program = {
  name: 'streams',
  version: '4.3.1',
  pom: join(sourcesIn('streams-java'), 'pom.xml'),
  source: join(DOCS, 'ItemTotals.java'),
}
const FLINK: Program = {
  name: 'flink',
  version: '2.2.1',
  pom: join(sourcesIn('flink-java'), 'pom.xml'),
  source: join(sourcesIn('flink-java'), 'SqlFile.java'),
}

/** Why this machine cannot run them (null: it can). */
export function missingForTopicReaders(): string | null {
  const missing: string[] = []
  if (javaVersion() < RELEASE) missing.push(`java (${RELEASE} or later)`)
  if (![STREAMS, FLINK].every(one => existsSync(folderOf(one))) && !isOnPath('mvn')) missing.push('mvn')
  return missing.length > 0 ? `Kafka Streams and Flink need ${missing.join(', ')}` : null
}

function folderOf({ name, version, pom, source }: Program): string {
  const hash = createHash('sha256').update(JSON.stringify([ECJ, version]))
  for (const text of [...textsOf(pom), ...textsOf(source)]) hash.update(text)
  return join(CACHE, `${name}-${version}-${hash.digest('hex').slice(0, 12)}`)
}

async function classPathOf(program: Program): Promise<string> {
  const { pom, version, source } = program
  const made = await once(folderOf(program), into =>
    makeJava(into, { pom, version, java: JAVA, release: RELEASE, sources: [source] }),
  )
  return [join(made, 'classes'), join(made, 'lib', '*')].join(delimiter)
}

export interface TopicReader extends AsyncDisposable {
  /** What it wrote, a line each. */
  readonly log: readonly string[]
}

/** docs/readers/ItemTotals.java: from `topic` into the topic `item-totals`. */
export async function startStreams(bootstrap: string, topic: string): Promise<TopicReader> {
  return start(
    STREAMS,
    () => ['ItemTotals', bootstrap, topic, 'item-totals'],
    /State transition .* to RUNNING/,
  )
}

/** docs/readers/item-totals.sql with `changes` made to its text: from the topic generate.items into the topic item-totals. */
export async function startFlink(changes: (sql: string) => string): Promise<TopicReader> {
  return start(
    FLINK,
    home => {
      const path = join(home, 'item-totals.sql')
      writeFileSync(path, changes(textsOf(join(DOCS, 'item-totals.sql'))[0]!))
      return ['--add-opens=java.base/java.util=ALL-UNNAMED', 'SqlFile', path]
    },
    /^running$/,
  )
}

async function start(
  program: Program,
  argumentsIn: (home: string) => readonly string[],
  listens: RegExp,
): Promise<TopicReader> {
  const missing = missingForTopicReaders()
  if (missing) throw new Error(missing)
  const classPath = await classPathOf(program)
  const home = makeHome(program.name)
  const process = new ServerProcess({
    directory: home,
    program: JAVA,
    arguments: [
      ...['-Xmx768m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', `-Djava.io.tmpdir=${home}`],
      ...['-cp', classPath, ...argumentsIn(home)],
    ],
    listens,
    isReady: async () => true,
  })
  try {
    await process.start(1)
  } catch (error) {
    removeHome(home)
    throw error
  }
  return {
    log: process.log,
    async [Symbol.asyncDispose]() {
      await process.kill9()
      removeHome(home)
    },
  }
}
