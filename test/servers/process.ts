/**
 * Servers of tests as child processes: what a test may do to one, and their end with the test, however that went. A guard, one
 * process for all servers of a test's, kills those that run when its standard input ends, and so those that are frozen too.
 *
 *   <temporary files>/millrace-test-<family>-XXXXXX/     what the servers of one call write
 *     owner     pid of the test; when that is gone, the next test removes the folder
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../connectors/postgres/embedded.ts'

const START_MS = 120_000
const STOP_MS = 20_000

/** A folder for servers' files. What tests left behind that were killed is removed first. */
export function makeHome(family: string): string {
  const prefix = `millrace-test-${family}-`
  for (const name of readdirSync(tmpdir()).filter(one => one.startsWith(prefix))) sweep(join(tmpdir(), name))
  const home = mkdtempSync(join(tmpdir(), prefix))
  writeFileSync(join(home, 'owner'), String(process.pid))
  return home
}

function sweep(home: string): void {
  try {
    process.kill(Number(readFileSync(join(home, 'owner'), 'utf8')), 0)
  } catch (error) {
    // No such file: it is being made at this moment.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') removeHome(home)
  }
}

export function removeHome(home: string): void {
  rmSync(home, { recursive: true, force: true, maxRetries: 5 })
}

const GUARD = `
pids=' '
while read -r what pid; do
  case $what in
    began) pids="$pids$pid " ;;
    ended) pids="\${pids%% $pid *} \${pids#* $pid }" ;;
  esac
done
kill -9 $pids`

let guard: ChildProcess | null = null
function tellGuard(what: 'began' | 'ended', pid: number): void {
  if (!guard) {
    // In a group of its own: what ends a whole group would end it with the test, and a frozen server outlive both.
    guard = spawn('/bin/sh', ['-c', GUARD], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    guard.stdin?.on('error', () => {})
    guard.unref()
    ;(guard.stdin as unknown as { unref(): void }).unref()
  }
  guard.stdin?.write(`${what} ${pid}\n`)
}

/** How a server is run, each time. */
export interface Plan {
  readonly directory: string
  readonly program: string
  readonly arguments: readonly string[]
  /** What it writes when its ports are its own. Nothing is asked before: until then another server may have them. */
  readonly listens: RegExp
  /** Whether it can be used. Asked again until it says so; an error says no. */
  isReady(): Promise<boolean>
}

interface Running {
  readonly child: ChildProcess
  readonly ended: Promise<void>
  hasEnded: boolean
  isListening: boolean
}

/** A server that is not started yet. */
export class ServerProcess {
  readonly #plan: Plan
  readonly #log: string[] = []
  #running: Running | null = null

  constructor(plan: Plan) {
    this.#plan = plan
  }

  get pid(): number {
    return this.#running?.child.pid ?? 0
  }

  /** What it wrote, a line each, of all its runs. */
  get log(): readonly string[] {
    return this.#log
  }

  /** SIGTERM, then SIGKILL. Repeatable. */
  async stop(): Promise<void> {
    // A frozen one would not notice.
    this.#signal('SIGCONT')
    this.#signal('SIGTERM')
    const isLate = await Promise.race([this.#running?.ended, sleep(STOP_MS, true, { ref: false })])
    if (isLate) await this.kill9()
  }

  /** SIGKILL. Resolves when it is gone. */
  async kill9(): Promise<void> {
    this.#signal('SIGKILL')
    await this.#running?.ended
  }

  /** SIGSTOP: connections stay open and nothing answers, until `thaw`. */
  freeze(): void {
    this.#signal('SIGSTOP')
  }

  thaw(): void {
    this.#signal('SIGCONT')
  }

  /**
   * Also again, on the same ports and data, after stop or kill9: ports it had before may be somebody's connection for a while,
   * hence the attempts.
   */
  async start(attempts = 10): Promise<void> {
    if (this.#running && !this.#running.hasEnded) throw new Error('it runs already')
    for (let attempt = 1; ; attempt++) {
      const from = this.#log.length
      this.#running = this.#launch()
      if (await this.#becomesReady(this.#running)) return
      const told = this.#log.slice(from).slice(-40).join('\n')
      const error = new Error(`${this.#plan.program} did not start:\n${told}`)
      if (attempt >= attempts || !isPortTaken(error)) throw error
      await sleep(500)
    }
  }

  #signal(name: NodeJS.Signals): void {
    this.#running?.child.kill(name)
  }

  #launch(): Running {
    const { directory, program, arguments: args, listens } = this.#plan
    const child = spawn(program, args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] })
    const { pid } = child
    if (pid) tellGuard('began', pid)
    const ended = new Promise<void>(done => {
      child.once('exit', () => pid && tellGuard('ended', pid))
      child.once('error', error => {
        this.#log.push(error.message)
        done()
      })
      // Not 'exit': by 'close' all it wrote has been read.
      child.once('close', () => done())
    }).then(() => {
      running.hasEnded = true
    })
    const running: Running = { child, ended, hasEnded: false, isListening: false }
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', line => {
        this.#log.push(line)
        running.isListening ||= listens.test(line)
      })
    return running
  }

  /** False: it ended, or was ended for taking too long. */
  async #becomesReady(running: Running): Promise<boolean> {
    const until = performance.now() + START_MS
    while (!running.hasEnded && performance.now() < until) {
      if (running.isListening && (await this.#plan.isReady().catch(() => false))) return true
      await sleep(50)
    }
    running.child.kill('SIGKILL')
    await running.ended
    return false
  }
}

/** A free port may be taken until the server listens there: then on others. */
export async function onFreePorts<T>(count: number, start: (ports: number[]) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const ports = new Set<number>()
    while (ports.size < count) ports.add(await freePort())
    try {
      return await start([...ports])
    } catch (error) {
      if (attempt === 5 || !isPortTaken(error)) throw error
    }
  }
}

/** When `start` fails, none of them is left; others may wait for the one that did. */
export async function allOrNone(
  servers: readonly ServerProcess[],
  start: () => Promise<unknown>,
): Promise<void> {
  try {
    await start()
  } catch (error) {
    await Promise.all(servers.map(one => one.kill9()))
    throw error
  }
}

/** Waits until `check` says so; an error says no. */
export async function eventually(what: string, check: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + START_MS
  let last: unknown = 'it never did'
  while (performance.now() < until) {
    const holds = await check().catch(error => {
      last = error
      return false
    })
    if (holds) return
    await sleep(50)
  }
  throw new Error(`not in time: ${what}: ${last}`)
}

const isPortTaken = (error: unknown): boolean => /Address already in use/.test(String(error))
