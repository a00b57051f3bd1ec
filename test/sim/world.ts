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
import { join } from 'node:path'
import type { Context } from '../../core/connector.ts'
import { ticking } from '../../core/flow.ts'
import { type FileLog, openEntryLog, openFileLog } from '../../core/log/file.ts'
import type { EntryLog, LogOffset, Retention } from '../../core/log/log.ts'
import { resumeAt } from '../../core/pump.ts'
import { type Detached, detachedTasks } from '../../core/queue/detached.ts'
import { forgetOwners, localQueue } from '../../core/queue/local.ts'
import { stateProgress } from '../../core/queue/progress.ts'
import { openState, type StateFile } from '../../core/queue/state.ts'
import type { ChangeRecord, LogRecord } from '../../core/record.ts'
import { type Opened, startTask, type Task } from '../../core/worker/task.ts'
import { type SimDisk, simDisk } from './disk.ts'
import {
  type Faults,
  lost,
  pausedDead,
  pausedProgress,
  pausedReader,
  pausedWriter,
  seamlessReader,
} from './faults.ts'
import {
  type Ground,
  groundOf,
  type Handles,
  lettersOf,
  noted,
  openSource,
  openSqlite,
  silent,
} from './ground.ts'
import { gathering } from './memory.ts'
import { PIPELINE, planOf, sinkTasks } from './plan.ts'
import { randomOf } from './random.ts'
import type { Life } from './scheduler.ts'

const LEASE_MS = 60
const TICK_MS = 15

export interface World extends Ground {
  readonly seed: number
  readonly disk: SimDisk
}

export function worldOf(seed: number): World {
  const random = randomOf(seed)
  return { ...groundOf(planOf(seed, random), random), seed, disk: simDisk(random.next) }
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

export async function startProcess(
  world: World,
  life: Life,
  faulty: boolean,
  handles: Handles,
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
  readonly handles: Handles
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
    open: context => openSource(world, parts, faultsOf(parts), context),
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

async function openSink(
  parts: Parts,
  sink: 'sqlite' | 'memory',
  partition: number,
  context: Context,
): Promise<Opened<LogRecord>> {
  const { world, log, dead, detached, state, handles } = parts
  const faults = faultsOf(parts)
  const target = sink === 'memory' ? world.memory.open(context) : await openSqlite(world, context, handles)
  const isGathering = sink === 'memory' && world.plan.gathers
  const inner = isGathering ? gathering(target, () => world.random.chance(0.3)) : target
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
  const letters = pausedDead(lettersOf(dead, context, sink), faults)
  return { reader: noted(reader, world, context), writer, progress, dead: letters }
}
