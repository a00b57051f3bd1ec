/**
 * One seeded run of the production data plane: pump, task, queue, log, sqlite sink, dead letters; with a virtual clock, a disk
 * that forgets what was not synced, and a process that is killed at any await.
 *
 *   world (survives kills)        disk, state file, sqlite file, memory store, ledger
 *   └ life (one process)          log, queue, two workers that compete for every task; a worker may freeze past its lease
 *
 * After the last change a life without faults drains everything; then the checks of `check.ts` are made.
 */
import { setMaxListeners } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sqlite } from '../../connectors/sqlite/sink.ts'
import type { Context, Log, Writer } from '../../core/connector.ts'
import { ticking } from '../../core/flow.ts'
import { type FileLog, openEntryLog, openFileLog } from '../../core/log/file.ts'
import type { EntryLog, LogOffset, Retention } from '../../core/log/log.ts'
import { type Progress, resumeAt } from '../../core/pump.ts'
import { type Detached, detachedTasks } from '../../core/queue/detached.ts'
import { forgetOwners, localQueue } from '../../core/queue/local.ts'
import { stateProgress } from '../../core/queue/progress.ts'
import { openState, type StateFile } from '../../core/queue/state.ts'
import type { ChangeRecord, LogRecord } from '../../core/record.ts'
import { deadLetters } from '../../core/worker/dead-letters.ts'
import { type Opened, startTask, type Task } from '../../core/worker/task.ts'
import { type SimDisk, simDisk } from './disk.ts'
import {
  type Faults,
  fencedWriter,
  lost,
  type Owners,
  pausedDead,
  pausedProgress,
  pausedReader,
  pausedWriter,
  seamlessReader,
} from './faults.ts'
import { type LedgerOptions, ledgerOf } from './ledger.ts'
import { gathering, memoryStore } from './memory.ts'
import { type Random, randomOf } from './random.ts'
import { type Life, type Scheduler, schedulerOf } from './scheduler.ts'

export const PIPELINE = 'sim'
const START_MS = 1_750_000_000_000
const LEASE_MS = 60
const TICK_MS = 15
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} }

export interface Plan {
  readonly ledger: LedgerOptions
  readonly partitions: number
  readonly segmentBytes: number
  readonly kills: number
  readonly failChance: number
  readonly freezeChance: number
  readonly jumpChance: number
  readonly diskFaults: boolean
  readonly retain: boolean
  /** `log.retention.bytes` */
  readonly retainBytes: number | null
  /** `limits.log_bytes` */
  readonly limitBytes: number
  /** The policy at the limit. */
  readonly detaches: boolean
  readonly sinks: readonly ('sqlite' | 'memory')[]
  /** The memory sink gathers over batches. */
  readonly gathers: boolean
}

export function planOf(seed: number, random: Random): Plan {
  // Of a stream of its own, so that the seeds of seeds.txt are what they were; none of those has a limit.
  const later = randomOf(seed + 7_000_120)
  const isLimited = later.chance(0.35)
  const latest = randomOf(seed + 9_400_301)
  return {
    ledger: {
      seed,
      changes: random.int(10, 120) + (isLimited ? 60 : 0),
      keys: random.int(2, 12),
      badEvery: random.chance(0.5) ? random.int(5, 30) : 0,
      sweepEvery: random.chance(0.5) ? random.int(15, 60) : 0,
    },
    partitions: random.int(1, 3),
    segmentBytes: random.pick([512, 2_000, 1_000_000]),
    kills: random.int(0, 6),
    failChance: random.pick([0, 0.005, 0.02]),
    freezeChance: random.pick([0, 0.002, 0.01]),
    jumpChance: random.pick([0, 0.005]),
    diskFaults: random.chance(0.3),
    retain: random.chance(0.3),
    retainBytes: later.chance(0.25) ? later.int(0, 6_000) : null,
    limitBytes: isLimited ? later.int(2_000, 6_000) : Number.POSITIVE_INFINITY,
    detaches: isLimited && later.chance(0.5),
    sinks: random.pick([['sqlite'], ['memory'], ['sqlite', 'memory']] as const),
    gathers: latest.chance(0.4),
  }
}

export interface World {
  readonly seed: number
  readonly plan: Plan
  readonly random: Random
  readonly scheduler: Scheduler
  readonly disk: SimDisk
  readonly folder: string
  readonly memory: ReturnType<typeof memoryStore>
  readonly ledger: ReturnType<typeof ledgerOf>
  /** Last committed position of each sink task. */
  readonly positions: Map<string, LogOffset>
  readonly owners: Owners
  sqlitePath(): string
  dispose(): void
}

export function worldOf(seed: number): World {
  const random = randomOf(seed)
  const plan = planOf(seed, random)
  const folder = mkdtempSync(join(process.platform === 'linux' ? '/dev/shm' : tmpdir(), 'millrace-sim-'))
  return {
    seed,
    plan,
    random,
    scheduler: schedulerOf(random, START_MS),
    disk: simDisk(random.next),
    folder,
    memory: memoryStore(),
    ledger: ledgerOf(plan.ledger, random),
    positions: new Map(),
    owners: { newest: new Map(), finds: [] },
    sqlitePath: () => join(folder, 'index.db'),
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** One process: from start to kill. */
export interface Process {
  readonly life: Life
  readonly log: FileLog
  readonly dead: EntryLog
  readonly detached: Detached
  readonly tasks: readonly Task[]
  stop(): Promise<void>
}

/** `handles`: what the kill leaves of things that are not simulated (files), for the caller to close. */
export async function startProcess(
  world: World,
  life: Life,
  faulty: boolean,
  handles: { close(): void }[],
): Promise<Process> {
  const { scheduler, plan } = world
  const disk = world.disk.mount(() => scheduler.step(life))
  const state = openState(join(world.folder, 'state.db'))
  handles.push({ close: () => void (state.open && state.close()) })
  forgetOwners(state)
  const detached = detachedTasks(state)
  const shared = {
    disk,
    clock: scheduler.clock(life),
    compression: 'none' as const,
    segmentBytes: plan.segmentBytes,
    lingerMs: 0,
    batchBytes: 100_000,
    log: silent,
  }
  const log = await openFileLog({
    ...shared,
    directory: '/data/log',
    name: PIPELINE,
    partitions: plan.partitions,
    limitBytes: plan.limitBytes,
    retention: retentionOf(world, detached),
  })
  const dead = await openEntryLog({
    ...shared,
    directory: '/data/dead',
    name: `${PIPELINE}.dead`,
    limitBytes: Number.POSITIVE_INFINITY,
  })
  // Who opens a log finds all of it on the disk for good: a reader may see it at once (J2).
  for (const name of ['/data/log', '/data/dead'].flatMap(world.disk.unsynced))
    world.owners.finds.push(`${name} was opened and not synced`)
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  const workers: Life[] = faulty ? [life, workerOf(life)] : [life]
  const parts = { world, life, log, dead, detached, state, handles, faulty, signal: stop.signal }
  const tasks = workers.flatMap((worker, i) => tasksOf({ ...parts, worker, owner: `worker-${i}` }))
  const guard = scheduler.onTick
  scheduler.onTick = () => {
    guard?.()
    if (faulty && life.alive) shake(world, workers)
  }
  return {
    life,
    log,
    dead,
    detached,
    tasks,
    async stop() {
      stop.abort()
      await Promise.all(tasks.map(task => task.done))
      await log[Symbol.asyncDispose]()
      await dead[Symbol.asyncDispose]()
    },
  }
}

export const sinkTasks = ({ sinks, partitions }: Plan): readonly string[] =>
  sinks.flatMap(sink =>
    Array.from({ length: partitions }, (_, partition) => `${PIPELINE}/${sink}/${partition}`),
  )

/** Whom the policy lets go is left to chance: the log must be right whomever it is. */
const retentionOf = ({ plan, random, scheduler }: World, detached: Detached): Retention => ({
  hours: plan.retain ? 0 : 1e6,
  ...(plan.retainBytes === null ? {} : { bytes: plan.retainBytes }),
  consumers: sinkTasks(plan),
  isDetached: detached.has,
  atLimit(holding) {
    const late = plan.detaches ? holding.filter(() => random.chance(0.5)) : []
    if (late.length > 0) detached.add(late, scheduler.nowMs())
    return late.length > 0
  },
})

/** Lives and dies with its process, and freezes by itself. */
const workerOf = (process: Life): Life => ({
  get alive() {
    return process.alive
  },
  frozenUntilMs: 0,
})

function shake({ random, plan, scheduler, disk }: World, workers: readonly Life[]): void {
  if (random.chance(plan.freezeChance))
    random.pick(workers).frozenUntilMs = scheduler.nowMs() + random.int(20, 8 * LEASE_MS)
  if (random.chance(plan.jumpChance)) scheduler.jump(random.int(-5_000, 5_000))
  if (plan.diskFaults && random.chance(0.003)) disk.fill(random.int(0, 400))
  if (plan.diskFaults && random.chance(0.02)) disk.fill(Number.POSITIVE_INFINITY)
  if (plan.diskFaults && random.chance(0.002)) disk.failNextSync()
}

interface Parts {
  readonly world: World
  readonly life: Life
  /** Whose time it is: the process's own, or that of a worker that may freeze. */
  readonly worker: Life
  readonly owner: string
  readonly log: FileLog
  readonly dead: EntryLog
  readonly detached: Detached
  readonly state: StateFile
  readonly handles: { close(): void }[]
  readonly faulty: boolean
  readonly signal: AbortSignal
}

function tasksOf(parts: Parts): Task[] {
  const { world, owner, state, signal } = parts
  const clock = world.scheduler.clock(parts.worker)
  const queue = localQueue({ state, clock, leaseMs: LEASE_MS })
  const retry = { maxAttempts: 3, backoffMs: 20, maxBackoffMs: 200 }
  const common = {
    pipeline: PIPELINE,
    owner,
    queue,
    clock,
    random: world.random.next,
    log: silent,
    retry,
    signal,
  }
  const source = startTask<ChangeRecord>({
    ...common,
    name: `${PIPELINE}/source`,
    open: context => openSource(parts, context),
  })
  const sinks = world.plan.sinks.flatMap(sink =>
    Array.from({ length: world.plan.partitions }, (_, partition) =>
      startTask<LogRecord>({
        ...common,
        name: `${PIPELINE}/${sink}/${partition}`,
        open: context => openSink(parts, sink, partition, context),
      }),
    ),
  )
  return [source, ...sinks]
}

function faultsOf({ world, worker, faulty }: Parts): Faults {
  const { random, plan, scheduler } = world
  return {
    pause: () => scheduler.step(worker),
    maybeFail(what) {
      if (faulty && random.chance(plan.failChance)) throw lost(what)
    },
  }
}

const noProgress: Progress = {
  load: async () => null,
  save: async () => {},
}

async function openSource(parts: Parts, context: Context): Promise<Opened<ChangeRecord>> {
  const { world, log, dead } = parts
  const faults = faultsOf(parts)
  const inner = fencedWriter(await log.writer(context, 0), context, world.owners)
  const writer = pausedWriter(inner, faults, false)
  const from = await resumeAt(writer, noProgress)
  const reader = pausedReader(world.ledger.reader(from, faults.pause), faults)
  const { nowUs } = context.clock
  const letters = deadLetters<ChangeRecord>({
    log: dead,
    pipeline: PIPELINE,
    sink: 'source',
    nowMs: () => nowUs() / 1000,
    redact: text => text,
  })
  return { reader, writer, progress: noProgress, dead: letters }
}

async function openSink(
  parts: Parts,
  sink: 'sqlite' | 'memory',
  partition: number,
  context: Context,
): Promise<Opened<LogRecord>> {
  const { world, log, dead, detached, state, handles } = parts
  const faults = faultsOf(parts)
  let inner: Writer
  if (sink === 'sqlite') {
    inner = await sqlite.open({ path: world.sqlitePath(), table: '${table}', numbers: 'literals' }, context)
    const opened = inner
    inner = fencedWriter(opened, context, world.owners)
    handles.push({ close: () => void opened[Symbol.asyncDispose]() })
  } else {
    const memory = world.memory.open(context)
    inner = world.plan.gathers ? gathering(memory, () => world.random.chance(0.3)) : memory
  }
  const writer = pausedWriter(inner, faults, true)
  const progress = pausedProgress(stateProgress(state, context), faults)
  const from = await resumeAt(writer, progress)
  if (from !== null) world.positions.set(context.task, from as unknown as LogOffset)
  const isLate = detached.has(context.task)
  const opened = await log.reader({
    consumer: context.task,
    partition,
    from,
    maxRecords: world.random.int(1, 9),
    signal: context.signal,
  })
  if (isLate) world.owners.finds.push(`${context.task} is detached, and reads again`)
  const seamless = seamlessReader(opened, context.task, from as LogOffset | null, detached, world.owners)
  const paused = pausedReader(seamless, faults)
  const reader = inner.durable ? ticking(paused, context.clock, TICK_MS) : paused
  const noted = {
    ...reader,
    [Symbol.asyncIterator]: () => reader[Symbol.asyncIterator](),
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
    commit: async (offset: unknown) => {
      await reader.commit?.(offset as never)
      world.positions.set(context.task, offset as LogOffset)
    },
  }
  const { nowUs } = context.clock
  const letters = deadLetters({
    log: dead,
    pipeline: PIPELINE,
    sink,
    nowMs: () => nowUs() / 1000,
    redact: text => text,
  })
  return { reader: noted, writer, progress, dead: pausedDead(letters, faults) }
}
