/**
 * What the installations of the tests' servers have in common: each is made once per user in a folder of the cache, from jars
 * that Maven brings and small Java programs of our own, and is known by what it is made from.
 */
import { execFile, spawnSync } from 'node:child_process'
import {
  accessSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'millrace', 'servers')
/** On the path or in JAVA_HOME. */
export const JAVA = process.env.JAVA_HOME ? join(process.env.JAVA_HOME, 'bin', 'java') : 'java'
/** A compiler in a jar: of Java it needs no more than what runs the server, and it reads class files newer than javac 17 does. */
export const ECJ = '3.46.100'
export const COPY = 'org.apache.maven.plugins:maven-dependency-plugin:2.8'

const execute = promisify(execFile)

/** Path of a folder with Java sources beside this file. Also from dist/, which holds no Java. */
export const sourcesIn = (folder: string): string =>
  fileURLToPath(new URL(`${folder}/`, import.meta.url)).replace('/dist/test/', '/test/')

/** Maven tells its errors on standard output, which Node would leave out of its own. */
export async function run(command: string, args: readonly string[], cwd?: string): Promise<void> {
  try {
    await execute(command, args, { cwd })
  } catch (error) {
    const { stdout = '', stderr = '', message } = error as Error & { stdout?: string; stderr?: string }
    const told = `${stdout}${stderr}`.trim().slice(-3_000) || message
    throw new Error(`${command} failed:\n${told}`, { cause: error })
  }
}

/**
 * One Maven at a time: what it keeps for all is no place for two. The lock holds the pid of who has it, so that one whose owner was
 * killed is taken away.
 */
export async function maven(args: readonly string[]): Promise<void> {
  const lock = join(CACHE, 'maven.lock')
  mkdirSync(CACHE, { recursive: true })
  while (!tookLock(lock)) await sleep(200)
  try {
    await run('mvn', ['-q', '-B', ...args])
  } finally {
    rmSync(lock, { force: true })
  }
}

function tookLock(lock: string): boolean {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  try {
    process.kill(Number(readFileSync(lock, 'utf8')), 0)
  } catch (error) {
    // No such file: it was given back at this moment.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') rmSync(lock, { force: true })
  }
  return false
}

/** Made under another name, so that a folder of this name is whole; of two processes at it the later one takes the other's. */
export async function once(folder: string, make: (into: string) => Promise<void>): Promise<string> {
  if (existsSync(folder)) return folder
  mkdirSync(dirname(folder), { recursive: true })
  const making = mkdtempSync(`${folder}.making-`)
  try {
    await make(making)
    renameSync(making, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
  } finally {
    rmSync(making, { recursive: true, force: true })
  }
  return folder
}

export interface JavaMaking {
  /** Its dependencies are the server's jars, and the compiler's as ${ecj.version}. */
  readonly pom: string
  /** Of the server: ${server.version} in the pom. */
  readonly version: string
  /** That compiles. */
  readonly java: string
  /** The Java whose class files are made. */
  readonly release: number
  /** Java files, or folders of them. */
  readonly sources: readonly string[]
}

/** Makes into/lib/ and into/classes/. */
export async function makeJava(into: string, making: JavaMaking): Promise<void> {
  const { pom, version, java, release, sources } = making
  const [lib, classes] = [join(into, 'lib'), join(into, 'classes')]
  // Maven leaves nothing beside the pom it is given, but wants a folder it may write to.
  cpSync(pom, join(into, 'pom.xml'))
  await maven([
    ...['-f', join(into, 'pom.xml'), `-Dserver.version=${version}`, `-Decj.version=${ECJ}`],
    ...[`${COPY}:copy-dependencies`, `-DoutputDirectory=${lib}`],
  ])
  const compiler = join(lib, `ecj-${ECJ}.jar`)
  const jars = readdirSync(lib).map(name => join(lib, name))
  await run(java, [
    ...['-jar', compiler, '-nowarn', '-proc:none', '-source', String(release), '-target', String(release)],
    ...['-cp', jars.join(delimiter), '-d', classes, ...sources],
  ])
  rmSync(compiler)
}

/** Of a file, or of the files of a folder. */
export function textsOf(path: string): string[] {
  if (!path.endsWith('/') && /\.\w+$/.test(path)) return [readFileSync(path, 'utf8')]
  return readdirSync(path)
    .sort()
    .map(name => readFileSync(join(path, name), 'utf8'))
}

let knownVersion: number | null = null
/** Of JAVA; 0: there is none. */
export function javaVersion(): number {
  if (knownVersion === null) {
    const { stderr } = spawnSync(JAVA, ['-XshowSettings:properties', '-version'], { encoding: 'utf8' })
    knownVersion = Number(/java\.specification\.version = (\d+)/.exec(stderr ?? '')?.[1] ?? 0)
  }
  return knownVersion
}

export function isOnPath(command: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(folder => {
    try {
      accessSync(join(folder, command), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
