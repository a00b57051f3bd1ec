/**
 * Kill rounds: the real program against a real PostgreSQL, both killed with SIGKILL at moments spread evenly, while the ledger is
 * written. A generation is a pipeline from its first start to the check:
 *
 *   prepare ─▶ start ─▶ kill ─▶ … ─▶ start ─▶ kill ─▶ writers end ─▶ run --until-caught-up ─▶ checks ─▶ delete
 *              └──────── a round ──┘
 *
 * Its first rounds fall into creation, the next ones into the snapshot, the last ones into the stream.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type PostgresServer, startPostgres } from '../servers/postgres.ts'
import { type Random, randomOf } from '../sim/random.ts'
import {
  checkDead,
  checkGone,
  checkLog,
  checkSink,
  deadIn,
  type Found,
  faultsOf,
  logIn,
  nothingFound,
} from './check.ts'
import { prepareLedger, ROWS, startWorkload } from './ledger.ts'
import { killGroup, type Program, pause, start, startAgain } from './program.ts'
import { type SoakSink, sqliteSink } from './sinks.ts'
import { type Watch, watchSink } from './watch.ts'

const ROUNDS_A_GENERATION = 5
const CATCH_UP_MS = 120_000
const DELETE_MS = 30_000
/** How long a round waits for its phase. */
const PHASE_MS = 60_000

export interface Report extends Found {
  rounds: number
  generations: number
  serverKills: number
  sinkKills: number
  sinkFreezes: number
  transactions: number
  /** Times the index was looked at while it was written. */
  polls: number
  /** Kills of the program before its slot stood, before its index held all of the ledger's rows, and later. */
  readonly kills: { creation: number; snapshot: number; stream: number }
  /** What the program said when it ended by itself before its kill; no server was killed under it. */
  readonly gaveUp: string[]
}

export const summaryOf = (report: Report): string => {
  const { creation, snapshot, stream } = report.kills
  return (
    `${report.rounds} rounds in ${report.generations} generations, ${creation + snapshot + stream} kills (${creation} in creation, ${snapshot} in the snapshot, ` +
    `${stream} in the stream), ${report.gaveUp.length} gave up before, ${report.serverKills} server kills, ${report.sinkKills} kills and ${report.sinkFreezes} freezes of the sink, ${report.transactions} transactions; ${report.changes} changes, ${report.rows} snapshot rows, ` +
    `${report.documents} documents, ${report.polls} looks at the sink: ` +
    `${report.lost.length} lost, ${report.backwards.length} backwards, ${report.doubled.length} doubled, ${report.different.length} different`
  )
}

const yaml = (name: string, sink: string) => `name: ${name}
source:
  type: postgres
  url: \${env:URL}
  tables: [soak.ledger, soak.extra]
  heartbeat_ms: 500
  snapshot: { chunk_rows: 200, parallel: 2 }
sinks:
  - ${sink}
errors: { retry: { backoff_ms: 50, max_backoff_ms: 300 } }
`

interface Generation {
  readonly server: PostgresServer
  readonly sink: SoakSink
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
  sinkKills: 0,
  sinkFreezes: 0,
  transactions: 0,
  polls: 0,
  kills: { creation: 0, snapshot: 0, stream: 0 },
  gaveUp: [],
  ...nothingFound(),
})

/** Ends at the first generation with a fault; its folder is kept, and said. */
export async function killRounds(
  rounds: number,
  seed: number,
  say: (text: string) => void,
  sink: SoakSink = sqliteSink(),
): Promise<Report> {
  const random = randomOf(seed)
  const report = noReport()
  await using server = await startPostgres()
  while (report.rounds < rounds) {
    const name = `soak-${++report.generations}`
    const folder = mkdtempSync(join(tmpdir(), 'millrace-soak-'))
    await sink.reset()
    writeFileSync(join(folder, 'pipeline.yaml'), yaml(name, sink.yaml(folder)))
    const generation = {
      server,
      sink,
      name,
      folder,
      random,
      report,
      mark: Number.POSITIVE_INFINITY,
      isMade: false,
    }
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
  const { server, sink, folder, name, report } = generation
  await prepareLedger(server)
  const workload = startWorkload(server, seed * 1_000 + report.generations)
  const watch = watchSink(sink, folder, report.backwards, async () => {
    const [row] = await server.sql<{ n: string }>('SELECT last_value AS n FROM soak.history_n_seq')
    generation.mark = Number(row!.n)
  })
  const early = generation.random.int(1, 2)
  for (let i = 0; i < rounds; i++) {
    const phase = i < early ? 'creation' : i < ROUNDS_A_GENERATION - 2 ? 'snapshot' : 'stream'
    await round(generation, watch, phase, () => workload.holdNow())
  }
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

/** How long after its start the program is killed is counted from when its phase has begun, and that is waited for a while only. */
async function round(
  generation: Generation,
  watch: Watch,
  phase: keyof Report['kills'],
  holdNow: () => void,
): Promise<void> {
  const { server, sink, folder, random, report } = generation
  const program = start(folder, ['run', 'pipeline.yaml'], server.url)
  const over = new AbortController()
  const made = slotMade(generation, over.signal, holdNow)
  const isWanted = () =>
    phase === 'creation' || (generation.isMade && (phase === 'snapshot' || isFilled(watch)))
  for (let waited = 0; waited < PHASE_MS && !isWanted() && program.child.exitCode === null; waited += 20)
    await pause(20)
  await pause(random.int(200, 3_000))
  const isServerKilled = random.chance(0.2)
  const troubled = trouble(sink, random, report)
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
  await Promise.all([program.ended, made, troubled])
  report.rounds++
}

/** The sink's own server is killed, or stands still for a while, beside everything else. */
async function trouble({ crash, freeze }: SoakSink, random: Random, report: Report): Promise<void> {
  const chance = random.int(1, 100)
  if (crash && chance <= 20) {
    report.sinkKills++
    await crash()
  } else if (freeze && chance <= 40) {
    report.sinkFreezes++
    await freeze(random.int(100, 4_000))
  }
}

/** Looks for a slot that is ready; the first chunks then meet commits that they cannot see. */
async function slotMade(generation: Generation, over: AbortSignal, holdNow: () => void): Promise<void> {
  while (!generation.isMade && !over.aborted) {
    await pause(10)
    const slots = await generation.server
      .sql('SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL')
      .catch(() => []) // the server is away
    generation.isMade = slots.length > 0
    if (generation.isMade) holdNow()
  }
}

/** Of so many rows no snapshot is missing many. */
const isFilled = (watch: Watch): boolean => watch.held() >= 0.95 * ROWS

function kill({ child }: Program, watch: Watch, { isMade, report: { kills } }: Generation): void {
  killGroup(child)
  if (!isMade) kills.creation++
  else if (!isFilled(watch)) kills.snapshot++
  else kills.stream++
}

/** A last life that may finish, the checks, and the end of the pipeline. */
async function settle({ server, sink, folder, name, report, mark }: Generation): Promise<void> {
  const forget = ['delete', name, '--yes', '--file', 'pipeline.yaml']
  if (!(await ends(folder, ['run', 'pipeline.yaml', '--until-caught-up'], server, CATCH_UP_MS, report)))
    return
  const dataDir = join(folder, '.millrace')
  {
    await using log = await logIn(dataDir, name)
    await checkLog(server, log, mark, report)
    await checkSink(server, sink, folder, report)
    await using dead = await deadIn(dataDir, name)
    await checkDead(dead, report)
  }
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
  report.different.push(`"${args.join(' ')}" ended with ${code}: ${program.stderr()}`)
  return false
}
