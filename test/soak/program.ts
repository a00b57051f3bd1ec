/** The program under a soak: a child in a process group of its own, and a database server that is started again after a kill. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PostgresServer } from '../servers/postgres.ts'

const MAIN = join(
  fileURLToPath(new URL('../../', import.meta.url)).replace(/dist\/$/, ''),
  'dist/core/cli/main.js',
)

export const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** Far longer than anything takes on a busy machine. */
const HANGS_MS = 150_000

/** What never ends is told by its name, and the run with it: else a test says no more than that its time was over. */
export async function within<T>(what: string, work: Promise<T>, ms = HANGS_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${what}: not done within ${ms / 1000} s`)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

export interface Program {
  readonly child: ChildProcess
  readonly ended: Promise<number | null>
  stderr(): string
}

/** In a process group of its own, so that all of it can be killed. What it says is kept in `<logName>.log`, of all lives. */
export function start(folder: string, args: readonly string[], url: string, logName = 'stderr'): Program {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: folder,
    env: { ...process.env, URL: url },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  })
  let stderr = ''
  const said = createWriteStream(join(folder, `${logName}.log`), { flags: 'a' }) // for who looks into a kept folder
  child.stderr!.on('data', text => {
    stderr = `${stderr}${text}`.slice(-4_000)
  })
  child.stderr!.pipe(said)
  const ended = new Promise<number | null>(resolve => child.on('exit', code => resolve(code)))
  return { child, ended, stderr: () => stderr }
}

/**
 * Of one that does not end: whether it was stopped (T), computes (R) or waits (S, D), and for what in the kernel; its CPU in ticks.
 * Source: proc_pid_stat(5), where what is behind the name in parentheses begins with the state.
 */
export function stateOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const waits = readFileSync(`/proc/${pid}/wchan`, 'utf8')
    return `runs: state ${fields[0]}, ${Number(fields[11]) + Number(fields[12])} ticks of CPU, waits in ${waits}`
  } catch {
    return 'runs' // elsewhere than on Linux, or it ended at this moment
  }
}

export const killGroup = (child: ChildProcess): void => {
  try {
    process.kill(-child.pid!, 'SIGKILL')
  } catch {
    // it ended by itself, because the server was gone
  }
}

/** What it printed when it had ended; '' when it could not. */
export async function printed(folder: string, args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let text = ''
  child.stdout.on('data', part => (text += part))
  const closed = new Promise(resolve => child.on('close', resolve))
  await within(`millrace ${args.join(' ')}`, closed).finally(() => child.kill('SIGKILL'))
  return text
}

/** A process of the killed server may live on until it looks up; the new one does not start beside it. */
export async function startAgain(server: PostgresServer): Promise<void> {
  for (let attempts = 1; ; attempts++)
    try {
      return await server.start()
    } catch (error) {
      if (attempts === 20 || !/still in use/.test((error as Error).message)) throw error
      await pause(500)
    }
}
