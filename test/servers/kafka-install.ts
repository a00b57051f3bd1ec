/**
 * The Kafka that tests start, brought once per user from Maven's artifacts, with a small Java program of our own (kafka-java/) in
 * the place of its launchers, which are in its download only. Starts no server.
 *
 *   <cache>/millrace/servers/
 *     kafka-<version>-<hash>/      made whole under another name, then renamed; the hash is of what it is made from
 *       lib/                       the broker's jars
 *       classes/                   our main program
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { CACHE, ECJ, isOnPath, JAVA, javaVersion, makeJava, once, sourcesIn, textsOf } from './install.ts'

const VERSION = '4.3.1'
/** The oldest that brokers of this version run on. */
const RELEASE = 17
/** Raised when the steps below change what they make. */
const LAYOUT = 1
const SOURCES = sourcesIn('kafka-java')

export interface KafkaInstallation {
  readonly java: string
  readonly classPath: string
  /** Takes the path of its configuration, the id of its cluster, and logins to begin with. */
  readonly main: string
}

/** Why this machine cannot run it (null: it can). What is in the cache already needs nothing to be made. */
export function missingForKafka(options: { secure?: boolean } = {}): string | null {
  const missing: string[] = []
  if (javaVersion() < RELEASE) missing.push(`java (${RELEASE} or later)`)
  if (!existsSync(folder()) && !isOnPath('mvn')) missing.push('mvn')
  if (options.secure && !isOnPath('openssl')) missing.push('openssl')
  return missing.length > 0 ? `kafka needs ${missing.join(', ')}` : null
}

/** From the cache; a minute the first time. */
export async function installKafka(): Promise<KafkaInstallation> {
  const missing = missingForKafka()
  if (missing) throw new Error(missing)
  const pom = join(SOURCES, 'pom.xml')
  const sources = [join(SOURCES, 'KafkaNode.java')]
  const made = await once(folder(), into =>
    makeJava(into, { pom, version: VERSION, java: JAVA, release: RELEASE, sources }),
  )
  return {
    java: JAVA,
    classPath: [join(made, 'classes'), join(made, 'lib', '*')].join(delimiter),
    main: 'KafkaNode',
  }
}

function folder(): string {
  const hash = createHash('sha256').update(JSON.stringify([LAYOUT, ECJ, VERSION]))
  for (const text of textsOf(SOURCES)) hash.update(text)
  return join(CACHE, `kafka-${VERSION}-${hash.digest('hex').slice(0, 12)}`)
}
