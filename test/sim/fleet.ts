/**
 * The same tasks on several machines: the production log on a simulated cluster of Kafka (broker.ts), leases from a simulated queue (queue.ts), two or three
 * workers that compete for every task.
 *
 *   world (survives kills)     broker, queue, sqlite file, memory store, ledger
 *   └ worker                   client, log, tasks; killed and begun anew, frozen over its lease, cut off from the broker or the queue
 *
 * The queue is wiped or goes back in time, requests and answers are lost, Produce comes twice. After the last change all workers are
 * killed, and one without faults drains everything; then the checks of check.ts are made, against the ledger and the broker's own account.
 */
import { setMaxListeners } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sqlite } from '../../connectors/sqlite/sink.ts'
import type { Clock, Context, Log, Reader } from '../../core/connector.ts'
import { type KafkaLog, openKafkaEntryLog, openKafkaLog } from '../../core/log/kafka/log.ts'
import type { KafkaSettings } from '../../core/log/kafka/settings.ts'
import type { EntryLog, LogOffset } from '../../core/log/log.ts'
import { type Progress, resumeAt } from '../../core/pump.ts'
import type { ChangeRecord, LogRecord } from '../../core/record.ts'
import { deadLetters } from '../../core/worker/dead-letters.ts'
import { type Opened, startTask, type Task } from '../../core/worker/task.ts'
import { type SimBroker, simBroker } from './broker.ts'
import { checkDead, checkLog, checkSinks, readLog, versionWatch } from './check.ts'
import {
  type Faults,
  fencedWriter,
  lost,
  type Owners,
  pausedDead,
  pausedReader,
  pausedWriter,
} from './faults.ts'
import { ledgerOf } from './ledger.ts'
import { memoryStore } from './memory.ts'
import { type SimQueue, simQueue } from './queue.ts'
import { type Random, randomOf } from './random.ts'
import { type Life, type Scheduler, schedulerOf } from './scheduler.ts'
import { simKafka } from './wire.ts'
import { PIPELINE, type Plan, planOf } from './world.ts'

const START_MS = 1_750_000_000_000
const LEASE_MS = 1_500
const MAX_STEPS = 400_000
const MISTAKES: readonly string[] = ['bug', 'config', 'offset_lost', 'data']
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} }

interface Cuts {
  brokerMs: number
  queueMs: number
}

interface Fleet {
  readonly plan: Plan
  readonly random: Random
  readonly scheduler: Scheduler
  readonly broker: SimBroker
  readonly queue: SimQueue
  readonly folder: string
  readonly memory: ReturnType<typeof memoryStore>
  readonly ledger: ReturnType<typeof ledgerOf>
  readonly positions: Map<string, LogOffset>
  readonly owners: Owners
  readonly workers: Worker[]
  readonly cuts: Cuts[]
  sqlitePath(): string
}

interface Worker {
  readonly life: { alive: boolean; frozenUntilMs: number }
  readonly handles: { close(): void }[]
  readonly stop: AbortController
  log: KafkaLog | null
  dead: EntryLog | null
  tasks: readonly Task[]
}

const settings: KafkaSettings = {
  hub: 'sim',
  brokers: ['sim:9092'],
  topicPrefix: '',
  tls: null,
  sasl: null,
  producer: {
    batchSizeBytes: 600, // several record batches of a transaction
    lingerMs: 0,
    compression: 'none',
    retryBackoffMs: 10,
    requestTimeoutMs: 1_000,
    transactionTimeoutMs: 10_000,
  },
  consumer: {
    maxPollRecords: 50,
    maxPollIntervalMs: 60_000,
    fetchMaxWaitMs: 100,
    fetchMaxBytes: 1 << 20,
    maxPartitionFetchBytes: 1 << 20,
  },
  replicationFactor: -1,
  topicConfig: {},
}

function fleetOf(seed: number): Fleet {
  const random = randomOf(seed + 5_500_501)
  const plan: Plan = {
    ...planOf(seed, random),
    kills: random.int(0, 5),
    failChance: random.pick([0, 0.003, 0.01]),
  }
  const folder = mkdtempSync(join(process.platform === 'linux' ? '/dev/shm' : tmpdir(), 'millrace-fleet-'))
  const scheduler = schedulerOf(random, START_MS)
  return {
    plan,
    random,
    scheduler,
    broker: simBroker(random, scheduler.nowMs),
    queue: simQueue(LEASE_MS),
    folder,
    memory: memoryStore(),
    ledger: ledgerOf(plan.ledger, random),
    positions: new Map(),
    owners: { newest: new Map(), finds: [] },
    workers: [],
    cuts: Array.from({ length: random.int(2, 3) }, () => ({ brokerMs: 0, queueMs: 0 })),
    sqlitePath: () => join(folder, 'index.db'),
  }
}

interface Parts {
  readonly fleet: Fleet
  readonly worker: Worker
  readonly clock: Clock
  readonly log: KafkaLog
  readonly dead: EntryLog
  readonly failChance: number
}

/** `failed`: what it met that it may not. */
function startWorker(fleet: Fleet, cuts: Cuts, faulty: boolean, failed: (error: Error) => void): Worker {
  const worker: Worker = {
    life: { alive: true, frozenUntilMs: 0 },
    handles: [],
    stop: new AbortController(),
    log: null,
    dead: null,
    tasks: [],
  }
  setMaxListeners(0, worker.stop.signal)
  const open = async () => {
    const clock = fleet.scheduler.clock(worker.life)
    for (;;)
      try {
        return await openWorker(fleet, worker, clock, cuts, faulty)
      } catch (error) {
        if ((error as { kind?: string }).kind !== 'unavailable') throw error
        await clock.sleep(30)
      }
  }
  open().catch(failed)
  return worker
}

async function openWorker(
  fleet: Fleet,
  worker: Worker,
  clock: Clock,
  cuts: Cuts,
  faulty: boolean,
): Promise<void> {
  const { scheduler, random, plan, broker, queue } = fleet
  const failChance = faulty ? plan.failChance : 0
  const line = { random, clock, failChance, pause: () => scheduler.step(worker.life) }
  const kafka = simKafka({ ...line, broker, cutUntilMs: () => cuts.brokerMs })
  const shared = { kafka, settings, clock, log: silent, compression: 'none' as const }
  const log = await openKafkaLog({
    ...shared,
    name: PIPELINE,
    partitions: plan.partitions,
    retentionHours: 1e6,
    retention: null,
  })
  const dead = await openKafkaEntryLog({ ...shared, pipeline: PIPELINE })
  worker.log = log
  worker.dead = dead
  const common = {
    pipeline: PIPELINE,
    owner: `worker-${fleet.workers.indexOf(worker)}`,
    queue: queue.client({ ...line, cutUntilMs: () => cuts.queueMs }),
    clock,
    random: random.next,
    log: silent,
    retry: { maxAttempts: 3, backoffMs: 20, maxBackoffMs: 200 },
    signal: worker.stop.signal,
  }
  const parts: Parts = { fleet, worker, clock, log, dead, failChance }
  worker.tasks = [
    startTask<ChangeRecord>({
      ...common,
      name: `${PIPELINE}/source`,
      open: context => openSource(parts, context),
    }),
    ...plan.sinks.flatMap(sink =>
      Array.from({ length: plan.partitions }, (_, partition) =>
        startTask<LogRecord>({
          ...common,
          name: `${PIPELINE}/${sink}/${partition}`,
          open: context => openSink(parts, sink, partition, context),
        }),
      ),
    ),
  ]
}

const faultsOf = ({ fleet: { scheduler, random }, worker, failChance }: Parts): Faults => ({
  pause: () => scheduler.step(worker.life),
  maybeFail(what) {
    if (random.chance(failChance)) throw lost(what)
  },
})

const noProgress: Progress = { load: async () => null, save: async () => {} }

async function openSource(parts: Parts, context: Context): Promise<Opened<ChangeRecord>> {
  const { fleet, log, dead } = parts
  const faults = faultsOf(parts)
  const inner = fencedWriter(await log.writer(context, 0), context, fleet.owners)
  const writer = pausedWriter(inner, faults, false)
  const from = await resumeAt(writer, noProgress)
  const reader = pausedReader(fleet.ledger.reader(from, faults.pause), faults)
  return { reader, writer, progress: noProgress, dead: lettersOf<ChangeRecord>(dead, context, 'source') }
}

const lettersOf = <R extends ChangeRecord>(log: EntryLog, { clock }: Context, sink: string) =>
  deadLetters<R>({ log, pipeline: PIPELINE, sink, nowMs: () => clock.nowUs() / 1000, redact: text => text })

async function openSink(
  parts: Parts,
  sink: 'sqlite' | 'memory',
  partition: number,
  context: Context,
): Promise<Opened<LogRecord>> {
  const { fleet, worker, log, dead } = parts
  const faults = faultsOf(parts)
  const opened =
    sink === 'memory'
      ? fleet.memory.open(context)
      : await sqlite.open({ path: fleet.sqlitePath(), table: '${table}', numbers: 'literals' }, context)
  if (sink === 'sqlite') worker.handles.push({ close: () => void opened[Symbol.asyncDispose]() })
  const writer = pausedWriter(
    sink === 'memory' ? opened : fencedWriter(opened, context, fleet.owners),
    faults,
    true,
  )
  const progress = log.progress(context, sink, partition)
  const from = (await resumeAt(writer, progress)) as unknown as LogOffset | null
  if (from) fleet.positions.set(context.task, from)
  const reader = await log.reader({
    consumer: context.task,
    partition,
    from: from as never,
    maxRecords: fleet.random.int(1, 9),
    signal: context.signal,
  })
  const whole = noted(
    pausedReader(nothingSkipped(reader, fleet, partition, context.task, from), faults),
    fleet,
    context,
  )
  return { reader: whole, writer, progress, dead: pausedDead(lettersOf(dead, context, sink), faults) }
}

/** Between what a task had and what it reads next the broker holds no committed record (V5). */
function nothingSkipped(
  reader: Reader,
  { broker, owners }: Fleet,
  partition: number,
  task: string,
  from: LogOffset | null,
): Reader {
  const due = new Map(Object.entries(from?.next ?? {}))
  return {
    ...reader,
    async *[Symbol.asyncIterator]() {
      for await (const batch of reader) {
        for (const { topic, offset } of batch.records) {
          const before = due.get(topic) ?? 0
          const between = broker.topics.get(topic)![partition]!.slice(before, offset)
          if (offset < before) owners.finds.push(`${task} read ${topic} at ${offset}, and ${before} was due`)
          if (between.some(one => one.message && one.transaction.state === 'committed'))
            owners.finds.push(
              `${task} read ${topic} at ${offset}, and left out what stands from ${before} on`,
            )
          due.set(topic, offset + 1)
        }
        yield batch
      }
    },
  }
}

const noted = (reader: Reader, fleet: Fleet, { task }: Context): Reader => ({
  ...reader,
  [Symbol.asyncIterator]: () => reader[Symbol.asyncIterator](),
  async commit(offset) {
    await reader.commit?.(offset)
    fleet.positions.set(task, offset as unknown as LogOffset)
  },
})

function refuseMistakes({ owners, workers }: Fleet): void {
  if (owners.finds[0]) throw new Error(owners.finds[0])
  for (const task of workers.flatMap(one => (one.life.alive ? one.tasks : []))) {
    const error = task.error()
    if (error && MISTAKES.includes(error.kind))
      throw new Error(`${task.name} failed (${error.kind}): ${error.message}`, {
        cause: error.cause ?? error,
      })
  }
}

/** No sink's task has a committed record before it. */
function isDrained({ plan, positions, broker, workers }: Fleet): boolean {
  const isEnded = workers.some(
    one =>
      one.life.alive &&
      one.tasks.some(task => task.name === `${PIPELINE}/source` && task.state() === 'ended'),
  )
  if (!isEnded) return false
  const topics = [...broker.topics.keys()].filter(name => name.startsWith(`${PIPELINE}.sim.`))
  return plan.sinks.every(sink =>
    topics.every(topic =>
      broker.topics.get(topic)!.every((entries, partition) => {
        const next = positions.get(`${PIPELINE}/${sink}/${partition}`)?.next[topic] ?? 0
        return !entries.slice(next).some(one => one.message && one.transaction.state !== 'aborted')
      }),
    ),
  )
}

const hasOpen = ({ broker }: Fleet): boolean =>
  [...broker.topics].some(([topic, all]) =>
    all.some((entries, partition) => broker.stableEnd(topic, partition) < entries.length),
  )

function shake(fleet: Fleet, restart: (index: number) => void, kills: { left: number; done: number }): void {
  const { random, plan, scheduler, workers, cuts, queue } = fleet
  const nowMs = scheduler.nowMs()
  if (kills.left > 0 && random.chance(0.002)) {
    kills.left--
    kills.done++
    restart(random.int(0, cuts.length - 1))
  }
  if (random.chance(plan.freezeChance / 4))
    random.pick(workers).life.frozenUntilMs = nowMs + random.int(50, 4 * LEASE_MS)
  if (random.chance(plan.failChance / 10)) random.pick(cuts).brokerMs = nowMs + random.int(20, 3 * LEASE_MS)
  if (random.chance(plan.failChance / 10)) random.pick(cuts).queueMs = nowMs + random.int(20, 3 * LEASE_MS)
  if (random.chance(0.001)) queue.note()
  if (random.chance(plan.failChance / 20)) queue.wipe()
  if (random.chance(plan.failChance / 20)) queue.goBack()
  if (random.chance(plan.jumpChance / 4)) scheduler.jump(random.int(-5_000, 5_000))
}

export interface FleetOutcome {
  readonly steps: number
  readonly kills: number
}

/** Every failure names the seed. */
export async function runFleetSeed(seed: number): Promise<FleetOutcome> {
  const fleet = fleetOf(seed)
  try {
    const kills = await troubled(fleet)
    await drained(fleet)
    return { steps: fleet.scheduler.steps, kills }
  } catch (error) {
    throw new Error(
      `fleet seed ${seed}: ${(error as Error).message}\nplan ${JSON.stringify(fleet.plan)}; ${standing(fleet)}`,
      { cause: error },
    )
  } finally {
    for (const worker of fleet.workers) kill(worker)
    rmSync(fleet.folder, { recursive: true, force: true })
  }
}

function kill(worker: Worker): void {
  worker.life.alive = false
  for (const handle of worker.handles.splice(0)) handle.close()
}

async function troubled(fleet: Fleet): Promise<number> {
  const { scheduler, random, workers, cuts, plan } = fleet
  let failure: Error | undefined
  const fail = (error: Error) => {
    failure ??= error
  }
  const start = (index: number) => {
    workers[index] = startWorker(fleet, cuts[index]!, true, fail)
  }
  for (const index of cuts.keys()) start(index)
  const kills = { left: plan.kills, done: 0 }
  const watch = versionWatch(fleet)
  const until = random.int(1_000, 30_000)
  scheduler.onTick = () => {
    refuseMistakes(fleet)
    shake(
      fleet,
      index => {
        kill(workers[index]!)
        start(index)
      },
      kills,
    )
    if (random.chance(0.005)) watch()
  }
  await scheduler.run(() => failure !== undefined || isDrained(fleet) || scheduler.steps > until, MAX_STEPS)
  if (failure) throw failure
  return kills.done
}

async function drained(fleet: Fleet): Promise<void> {
  const { scheduler, workers, plan } = fleet
  for (const worker of workers) kill(worker)
  workers.length = 0
  let failure: Error | undefined
  let isDone = false
  const worker = startWorker(fleet, { brokerMs: 0, queueMs: 0 }, false, error => {
    failure = error
  })
  workers.push(worker)
  scheduler.onTick = () => refuseMistakes(fleet)
  const whole = async () => {
    const life: Life = worker.life
    // What an appender of dead letters had begun when it was killed hides what others wrote behind it, until its transaction times out.
    while (!isDrained(fleet) || hasOpen(fleet)) await scheduler.sleep(life, 20)
    const records = await readLog({ log: worker.log! })
    checkLog(records, plan.ledger, plan.partitions, false)
    const still = { dead: worker.dead!, detached: { has: () => false } }
    checkSinks(fleet, still)
    await checkDead(fleet, still, records)
  }
  whole().then(
    () => {
      isDone = true
    },
    error => {
      failure = error as Error
    },
  )
  await scheduler.run(() => isDone || failure !== undefined, MAX_STEPS + scheduler.steps)
  if (failure) throw failure
}

/** Where everybody stood, for who has to find out why. */
const standing = ({ workers, positions, broker }: Fleet): string =>
  JSON.stringify({
    tasks: workers.flatMap(one =>
      one.tasks.map(task => `${task.name} ${task.state()} ${task.error()?.message ?? ''}`),
    ),
    positions: Object.fromEntries(positions),
    ends: Object.fromEntries(
      [...broker.topics].map(([topic, all]) => [topic, all.map(entries => entries.length)]),
    ),
  })
