/**
 * Failover: a hub and two workers on three brokers, Redis, PostgreSQL, an index in SQLite and one in a search cluster, while the ledger is
 * written; each of them killed with SIGKILL again and again, one at a time and at random, workers frozen beyond their leases as well.
 * When the ledger stands still and everything is back, the three checks hold. Prints the longest time that a task did not move.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKafkaEntryLog } from '../../core/log/kafka/log.ts'
import { realClock } from '../../core/worker/clock.ts'
import { openLog, settingsOf, silentLog } from '../core/log/kafka-settings.ts'
import { type KafkaCluster, startKafka } from '../servers/kafka.ts'
import { type PostgresServer, startPostgres } from '../servers/postgres.ts'
import { type RedisServer, startRedis } from '../servers/redis.ts'
import { type Random, randomOf } from '../sim/random.ts'
import { checkDead, checkLog, checkSink, type Found, faultsOf, nothingFound } from './check.ts'
import { prepareLedger, startWorkload } from './ledger.ts'
import { type Program, pause, printed, start, startAgain, stateOf, within } from './program.ts'
import { type SoakSink, searchSink, sqliteSink } from './sinks.ts'
import { type Watch, watchSink } from './watch.ts'

const NAME = 'ledger'
const HUB = 'soak'
const CALM_MS = 180_000
const START_MS = 120_000

export interface FailoverReport extends Found {
  /** What was killed or frozen → how often. */
  readonly troubles: Map<string, number>
  /** Task → the longest time between two of its steps, while there was something to do. */
  readonly gapsMs: Map<string, number>
  transactions: number
}

interface Setup {
  readonly folder: string
  readonly kafka: KafkaCluster
  readonly redis: RedisServer
  readonly postgres: PostgresServer
  readonly sqlite: SoakSink
  readonly search: SoakSink
  readonly programs: Map<string, Program>
  readonly say: (text: string) => void
}

const hubYaml = ({ bootstrap }: KafkaCluster, redis: RedisServer) => `name: ${HUB}
log:
  type: kafka
  brokers: [${bootstrap.map(one => `"${one}"`).join(', ')}]
  topic: { replication.factor: 3, min.insync.replicas: 2 }
  producer: { request.timeout.ms: 5000 }
queue: { type: bullmq, url: "${redis.url}" }
`

const pipelineYaml = (sqlite: string, search: string) => `name: ${NAME}
source:
  type: postgres
  url: \${env:URL}
  tables: [soak.ledger, soak.extra]
  heartbeat_ms: 500
  snapshot: { chunk_rows: 2000, parallel: 2 }
sinks:
  - ${sqlite}
  - ${search.replace('name: index', 'name: search')}
errors: { retry: { backoff_ms: 50, max_backoff_ms: 1000 } }
`

function begin({ folder, postgres, programs }: Setup, name: string): void {
  const args = name === 'hub' ? ['hub', '--port', '0'] : ['worker', '--concurrency', '10']
  programs.set(name, start(folder, args, postgres.url, name))
}

async function killProgram(setup: Setup, name: string): Promise<void> {
  const { child, ended } = setup.programs.get(name)!
  child.kill('SIGKILL')
  await within(`the end of ${name} after SIGKILL`, ended)
}

const KINDS = [
  'hub',
  'worker-1',
  'worker-2',
  'frozen worker',
  'broker',
  'broker',
  'redis',
  'postgres',
  'search',
] as const

/** One trouble, from its beginning to when it is over. */
async function trouble(setup: Setup, random: Random, kind: (typeof KINDS)[number]): Promise<void> {
  const { kafka, redis, postgres, search, programs } = setup
  const awayMs = random.int(200, 4_000)
  if (kind === 'frozen worker') {
    const { child } = programs.get(random.pick(['worker-1', 'worker-2']))!
    child.kill('SIGSTOP')
    await pause(random.int(6_000, 9_000)) // its leases of five seconds run out
    child.kill('SIGCONT')
  } else if (kind === 'broker') {
    const broker = random.pick(kafka.brokers)
    await broker.kill9()
    await pause(awayMs)
    await broker.start()
  } else if (kind === 'redis') {
    await redis.kill9()
    await pause(awayMs)
    await redis.start()
  } else if (kind === 'postgres') {
    await postgres.kill9()
    await pause(awayMs)
    await startAgain(postgres)
  } else if (kind === 'search') await search.crash!()
  else {
    await killProgram(setup, kind)
    await pause(awayMs)
    begin(setup, kind)
  }
}

interface Shown {
  readonly pipelines: readonly {
    readonly tasks: readonly { readonly name: string; readonly metrics: { readonly moved_ms?: number } }[]
  }[]
}

/** By what the hub shows; while it is away nothing is seen, and the gap is what stands between two looks. */
async function watchGaps({ folder }: Setup, gapsMs: Map<string, number>, over: AbortSignal): Promise<void> {
  const moved = new Map<string, number>()
  while (!over.aborted) {
    await pause(1_000)
    for (const { name, metrics } of await statusOf(folder)) {
      const [now, before] = [metrics.moved_ms ?? 0, moved.get(name) ?? 0]
      if (now > before) {
        if (before > 0) gapsMs.set(name, Math.max(gapsMs.get(name) ?? 0, now - before))
        moved.set(name, now)
      }
    }
  }
}

async function statusOf(folder: string): Promise<Shown['pipelines'][number]['tasks']> {
  const text = await printed(folder, ['status', '--json'])
  try {
    return (JSON.parse(text) as Shown).pipelines.flatMap(one => one.tasks)
  } catch {
    return [] // the hub is away
  }
}

export async function failover(
  minutes: number,
  seed: number,
  say: (text: string) => void,
  isKept = false,
): Promise<FailoverReport> {
  const random = randomOf(seed)
  const report: FailoverReport = {
    troubles: new Map(),
    gapsMs: new Map(),
    transactions: 0,
    ...nothingFound(),
  }
  await using kafka = await startKafka({ brokers: 3 })
  await using redis = await startRedis()
  await using postgres = await startPostgres()
  await using search = await searchSink('elasticsearch-9')
  const folder = mkdtempSync(join(tmpdir(), 'millrace-failover-'))
  const sqlite = sqliteSink()
  mkdirSync(join(folder, 'pipelines'))
  writeFileSync(join(folder, 'hub.yaml'), hubYaml(kafka, redis))
  writeFileSync(
    join(folder, 'pipelines', `${NAME}.yaml`),
    pipelineYaml(sqlite.yaml(folder), search.yaml(folder)),
  )
  const setup: Setup = { folder, kafka, redis, postgres, sqlite, search, programs: new Map(), say }
  await search.reset()
  try {
    await live(setup, minutes, random, seed, report)
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${lastWords(setup)}`, { cause: error })
  } finally {
    for (const { child } of setup.programs.values()) child.kill('SIGKILL')
  }
  if (faultsOf(report) === 0 && !isKept) rmSync(folder, { recursive: true, force: true })
  else say(`seed ${seed}; kept: ${folder}`)
  return report
}

/** What each program said last, and what one that runs does now: the folder may be gone with the machine. */
const lastWords = ({ folder, programs }: Setup): string =>
  [...programs]
    .map(([name, { child }]) => {
      const said = readFileSync(join(folder, `${name}.log`), 'utf8').slice(-2_000)
      return `-- ${name} (${child.exitCode ?? child.signalCode ?? stateOf(child.pid!)}):\n${said}`
    })
    .join('\n')

async function live(
  setup: Setup,
  minutes: number,
  random: Random,
  seed: number,
  report: FailoverReport,
): Promise<void> {
  const { postgres, sqlite, search, folder, say } = setup
  await prepareLedger(postgres)
  for (const name of ['hub', 'worker-1', 'worker-2']) begin(setup, name)
  let mark = Number.POSITIVE_INFINITY
  const watches = [
    watchSink(sqlite, folder, report.backwards, async () => {
      const [row] = await postgres.sql<{ n: string }>('SELECT last_value AS n FROM soak.history_n_seq')
      mark = Number(row!.n)
    }),
    watchSink(search, folder, report.backwards, async () => {}),
  ]
  const workload = startWorkload(postgres, seed)
  await begun(setup, watches[0]!)
  const over = new AbortController()
  const gaps = watchGaps(setup, report.gapsMs, over.signal)
  for (const until = Date.now() + minutes * 60_000; Date.now() < until; ) {
    const kind = random.pick(KINDS)
    await within(`the trouble "${kind}"`, trouble(setup, random, kind))
    report.troubles.set(kind, (report.troubles.get(kind) ?? 0) + 1)
    say(`${kind}`)
    refuseEnded(setup)
    await pause(random.int(500, 5_000))
  }
  over.abort()
  await within('the watch of gaps', gaps)
  await within('the end of the workload', workload.stop())
  report.transactions = workload.transactions()
  await calm(setup)
  refuseEnded(setup)
  for (const watch of watches) await within('the watch of a sink', watch.stop())
  await checkAll(setup, mark, report)
}

/** Whoever supervises it would start it again; here nobody does, and nothing that we do to the others is a reason to end. */
function refuseEnded({ programs }: Setup): void {
  for (const [name, { child }] of programs)
    if (child.exitCode !== null) throw new Error(`${name} ended by itself, with ${child.exitCode}`)
}

/** Else the first minutes would fall into its start. */
async function begun({ say, folder }: Setup, watch: Watch): Promise<void> {
  const until = Date.now() + START_MS
  while (watch.held() === 0) {
    if (Date.now() > until)
      throw new Error(`nothing was delivered within ${START_MS / 1000} s; see ${folder}`)
    await pause(100)
  }
  say('the first rows are in the index')
}

/** Until both sinks are what the source is, or for so long that they never will be. */
async function calm(setup: Setup): Promise<void> {
  const until = Date.now() + CALM_MS
  for (;;) {
    const found = nothingFound()
    for (const sink of [setup.sqlite, setup.search])
      await within('a look at a sink', checkSink(setup.postgres, sink, setup.folder, found)).catch(() =>
        found.different.push('away'),
      )
    if (found.different.length === 0 || Date.now() > until) return
    await pause(2_000)
  }
}

async function checkAll(setup: Setup, mark: number, report: FailoverReport): Promise<void> {
  const { postgres, sqlite, search, folder, kafka, programs } = setup
  for (const [name, { child, ended }] of programs) {
    child.kill('SIGTERM')
    await within(`the end of ${name} after SIGTERM`, ended)
    if (child.exitCode !== 0)
      report.different.push(`${name} ended with ${child.exitCode ?? child.signalCode} after SIGTERM`)
  }
  const settings = settingsOf(kafka.bootstrap, '', { hub: HUB, replicationFactor: 3 })
  await using log = await openLog(settings, { name: NAME })
  await within('the check of the log', checkLog(postgres, log, mark, report))
  for (const sink of [sqlite, search])
    await within('the check of a sink', checkSink(postgres, sink, folder, report))
  await using dead = await openKafkaEntryLog({
    settings,
    clock: realClock,
    log: silentLog,
    pipeline: NAME,
    compression: 'lz4',
  })
  await within('the check of the dead letters', checkDead(dead, report))
}

export const failoverSummary = (report: FailoverReport): string => {
  const troubles = [...report.troubles].map(([kind, count]) => `${count} × ${kind}`).join(', ')
  const gaps = [...report.gapsMs].map(([task, ms]) => `${task} ${(ms / 1000).toFixed(1)} s`).join(', ')
  return (
    `${troubles}; ${report.transactions} transactions, ${report.changes} changes, ${report.rows} snapshot rows, ${report.documents} documents: ` +
    `${report.lost.length} lost, ${report.backwards.length} backwards, ${report.doubled.length} doubled, ${report.different.length} different. Longest gap of a task: ${gaps}`
  )
}
