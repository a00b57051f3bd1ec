/**
 * Kill rounds: the real program against a real PostgreSQL, both killed with SIGKILL at moments spread evenly, while the ledger is
 * written. A generation is a pipeline from its first start to the check:
 *
 *   prepare ─▶ start ─▶ kill ─▶ … ─▶ start ─▶ kill ─▶ writers end ─▶ run --until-caught-up ─▶ checks ─▶ delete
 *              └──────── a round ──┘
 *
 * Its first rounds fall into creation and snapshot, the last ones into the stream.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type PostgresServer, startPostgres } from '../servers/postgres.ts'
import { type Random, randomOf } from '../sim/random.ts'
import { checkDead, checkGone, checkLog, checkSink, type Found } from './check.ts'
import { prepareLedger, ROWS, startWorkload } from './ledger.ts'
import { type Watch, watchIndex } from './watch.ts'

const MAIN = join(
  fileURLToPath(new URL('../../', import.meta.url)).replace(/dist\/$/, ''),
  'dist/core/cli/main.js',
)
const ROUNDS_A_GENERATION = 5
const CATCH_UP_MS = 120_000
/** Seen after rewrites, also with no kill of the server: PostgreSQL's own snapshot of its catalog lacks a table that its log names. */
const UNDECODABLE = /could not map filenumber/
const DELETE_MS = 30_000
const MADE_MS = 20_000

export interface Report extends Found {
  rounds: number
  generations: number
  serverKills: number
  /** Generations that PostgreSQL itself could not decode after a kill; they are counted, and not checked. */
  undecodable: number
  transactions: number
  /** Times the index was looked at while it was written. */
  polls: number
  /** Kills of the program before its slot stood, before its index held all of the ledger's rows, and later. */
  readonly kills: { creation: number; snapshot: number; stream: number }
  /** What the program said when it ended by itself before its kill; no server was killed under it. */
  readonly gaveUp: string[]
}

export const faultsOf = ({ lost, backwards, doubled, different }: Found): number =>
  lost.length + backwards.length + doubled.length + different.length

export const summaryOf = (report: Report): string => {
  const { creation, snapshot, stream } = report.kills
  return (
    `${report.rounds} rounds in ${report.generations} generations (${report.undecodable} that PostgreSQL could not decode, not checked), ${creation + snapshot + stream} kills (${creation} in creation, ${snapshot} in the snapshot, ` +
    `${stream} in the stream), ${report.gaveUp.length} gave up before, ${report.serverKills} server kills, ${report.transactions} transactions; ${report.changes} changes, ${report.rows} snapshot rows, ` +
    `${report.documents} documents, ${report.polls} looks at the sink: ` +
    `${report.lost.length} lost, ${report.backwards.length} backwards, ${report.doubled.length} doubled, ${report.different.length} different`
  )
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

interface Program {
  readonly child: ChildProcess
  readonly ended: Promise<number | null>
  stderr(): string
}

/** In a process group of its own, so that all of it can be killed. */
function start(folder: string, args: readonly string[], url: string): Program {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: folder,
    env: { ...process.env, URL: url },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  })
  let stderr = ''
  const said = createWriteStream(join(folder, 'stderr.log'), { flags: 'a' }) // of all lives, for who looks into a kept folder
  child.stderr!.on('data', text => {
    stderr = `${stderr}${text}`.slice(-4_000)
  })
  child.stderr!.pipe(said)
  const ended = new Promise<number | null>(resolve => child.on('exit', code => resolve(code)))
  return { child, ended, stderr: () => stderr }
}

const killGroup = (child: ChildProcess): void => {
  try {
    process.kill(-child.pid!, 'SIGKILL')
  } catch {
    // it ended by itself, because the server was gone
  }
}

const yaml = (name: string) => `name: ${name}
source:
  type: postgres
  url: \${env:URL}
  tables: [soak.ledger, soak.extra]
  heartbeat_ms: 500
  snapshot: { chunk_rows: 1000, parallel: 2 }
sinks:
  - { name: index, type: sqlite, path: index.db }
errors: { retry: { backoff_ms: 50, max_backoff_ms: 300 } }
`

interface Generation {
  readonly server: PostgresServer
  readonly name: string
  readonly folder: string
  readonly random: Random
  readonly report: Report
  /** `n` of the history above which every change must be in the log. */
  mark: number
  /** The slot stands. It is made only when every transaction has ended that ran before, which takes longer than many lives. */
  isMade: boolean
}

const noReport = (): Report => ({
  rounds: 0,
  generations: 0,
  serverKills: 0,
  undecodable: 0,
  transactions: 0,
  polls: 0,
  kills: { creation: 0, snapshot: 0, stream: 0 },
  gaveUp: [],
  changes: 0,
  rows: 0,
  documents: 0,
  lost: [],
  backwards: [],
  doubled: [],
  different: [],
})

/** Ends at the first generation with a fault; its folder is kept, and said. */
export async function killRounds(rounds: number, seed: number, say: (text: string) => void): Promise<Report> {
  const random = randomOf(seed)
  const report = noReport()
  await using server = await startPostgres()
  while (report.rounds < rounds) {
    const name = `soak-${++report.generations}`
    const folder = mkdtempSync(join(tmpdir(), 'millrace-soak-'))
    writeFileSync(join(folder, 'pipeline.yaml'), yaml(name))
    const generation = { server, name, folder, random, report, mark: Number.POSITIVE_INFINITY, isMade: false }
    await live(generation, Math.min(ROUNDS_A_GENERATION, rounds - report.rounds), seed, say)
    if (faultsOf(report) > 0) {
      say(`seed ${seed}, generation ${report.generations}; kept: ${folder}`)
      return report
    }
    rmSync(folder, { recursive: true, force: true })
  }
  return report
}

async function live(
  generation: Generation,
  rounds: number,
  seed: number,
  say: (text: string) => void,
): Promise<void> {
  const { server, folder, name, report } = generation
  await prepareLedger(server)
  const workload = startWorkload(server, seed * 1_000 + report.generations)
  const watch = watchIndex(join(folder, 'index.db'), report.backwards, async () => {
    const [row] = await server.sql<{ n: string }>('SELECT last_value AS n FROM soak.history_n_seq')
    generation.mark = Number(row!.n)
  })
  const early = generation.random.int(1, 2)
  for (let i = 0; i < rounds; i++) await round(generation, watch, i < early)
  await workload.stop()
  report.transactions += workload.transactions()
  await settle(generation)
  await watch.stop()
  report.polls += watch.polls()
  const [row] = await server.sql<{ n: string }>('SELECT count(*) AS n FROM soak.history')
  const errors = [...workload.errors].map(([code, count]) => `${count} × ${code}`).join(', ')
  // A ledger that stood still would make all of this say nothing.
  if (Number(row!.n) < 100 * rounds)
    report.different.push(`${name}: only ${row!.n} changes were committed (${errors})`)
  say(
    `${name}: ${row!.n} changes committed in ${workload.transactions()} transactions (${errors}), all above ${generation.mark}. So far: ${summaryOf(report)}`,
  )
}

/** `isEarly`: counted from the start of the program, so that the kill falls into creation; else from when the slot stands. */
async function round(generation: Generation, watch: Watch, isEarly: boolean): Promise<void> {
  const { server, folder, random, report } = generation
  const program = start(folder, ['run', 'pipeline.yaml'], server.url)
  const over = new AbortController()
  const made = slotMade(generation, over.signal)
  if (!isEarly) await Promise.race([made, program.ended, pause(MADE_MS)])
  await pause(random.int(200, 3_000))
  const isServerKilled = random.chance(0.2)
  const isProgramFirst = random.chance(0.5)
  if (program.child.exitCode !== null) report.gaveUp.push(program.stderr().slice(0, 300))
  if (isServerKilled) {
    if (isProgramFirst) kill(program, watch, generation)
    await server.kill9()
    report.serverKills++
    await startAgain(server)
    // Else it lives on, and has to find its way back to the server.
    if (!isProgramFirst) await pause(random.int(100, 2_000))
  }
  if (!isServerKilled || !isProgramFirst) kill(program, watch, generation)
  over.abort()
  await Promise.all([program.ended, made])
  report.rounds++
}

/** A process of the killed server may live on until it looks up; the new one does not start beside it. */
async function startAgain(server: PostgresServer): Promise<void> {
  for (let attempts = 1; ; attempts++)
    try {
      return await server.start()
    } catch (error) {
      if (attempts === 20 || !/still in use/.test((error as Error).message)) throw error
      await pause(500)
    }
}

/** Looks for a slot that is ready. */
async function slotMade(generation: Generation, over: AbortSignal): Promise<void> {
  while (!generation.isMade && !over.aborted) {
    await pause(30)
    const slots = await generation.server
      .sql('SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL')
      .catch(() => []) // the server is away
    generation.isMade = slots.length > 0
  }
}

function kill({ child }: Program, watch: Watch, { isMade, report: { kills } }: Generation): void {
  killGroup(child)
  if (!isMade) kills.creation++
  else if (watch.held() < 0.95 * ROWS) kills.snapshot++
  else kills.stream++
}

/** A last life that may finish, the checks, and the end of the pipeline. */
async function settle({ server, folder, name, report, mark }: Generation): Promise<void> {
  const forget = ['delete', name, '--yes', '--file', 'pipeline.yaml']
  if (!(await ends(folder, ['run', 'pipeline.yaml', '--until-caught-up'], server, CATCH_UP_MS, report))) {
    if (faultsOf(report) === 0) await ends(folder, forget, server, DELETE_MS, report)
    return
  }
  const dataDir = join(folder, '.millrace')
  await checkLog(server, dataDir, name, mark, report)
  await checkSink(server, join(folder, 'index.db'), report)
  await checkDead(dataDir, name, report)
  if (faultsOf(report) > 0) return // the folder is kept as it is
  if (await ends(folder, forget, server, DELETE_MS, report)) await checkGone(server, report)
}

async function ends(
  folder: string,
  args: readonly string[],
  server: PostgresServer,
  withinMs: number,
  report: Report,
): Promise<boolean> {
  const program = start(folder, args, server.url)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>(resolve => {
    timer = setTimeout(() => resolve('late'), withinMs)
  })
  const code = await Promise.race([program.ended, late])
  clearTimeout(timer)
  if (code === 0) return true
  killGroup(program.child)
  if (code === 1 && UNDECODABLE.test(program.stderr())) report.undecodable++
  else report.different.push(`"${args.join(' ')}" ended with ${code}: ${program.stderr()}`)
  return false
}
