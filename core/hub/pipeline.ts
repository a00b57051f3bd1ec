/**
 * A pipeline while it runs: its two logs, one source task, one task for each (sink, partition), and the numbers people ask
 * for. A pipeline that fails never stops another: each has its own tasks, and nothing here throws out of a running one.
 */
import { setMaxListeners } from 'node:events'
import type { Clock, Log } from '../connector.ts'
import type { ChangeLog, EntryLog, LogOffset, TopicEnds } from '../log/log.ts'
import { detachedError } from '../log/retention.ts'
import { isWritten, tasksOf, writerTask } from '../pipeline/plan.ts'
import type { ParsedPipeline, ParsedSink } from '../pipeline/schema.ts'
import { type Detached, detachedTasks } from '../queue/detached.ts'
import { localQueue } from '../queue/local.ts'
import type { ChangeRecord, LogRecord } from '../record.ts'
import { readDeadLetters } from '../worker/dead-letters.ts'
import { startTask, type Task } from '../worker/task.ts'
import type { DataDirectory } from './directory.ts'
import type { Logs, PipelineLogs } from './logs.ts'
import { openProducer, type Producer } from './producer.ts'
import { openSink, openSource, type TaskParts } from './tasks.ts'

export interface HubParts {
  readonly directory: DataDirectory
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly redact: (text: string) => string
  readonly logs: Logs
}

export interface RunningPipeline extends AsyncDisposable {
  readonly definition: ParsedPipeline
  readonly log: ChangeLog
  readonly dead: EntryLog
  /** Of topics that people write: of what they brought here. */
  readonly source: Task
  /** null: a source is read. */
  readonly producer: Producer | null
  readonly sinks: readonly { readonly sink: ParsedSink; readonly partition: number; readonly task: Task }[]
  /** Last position that a sink task let go. */
  position(task: string): LogOffset | null
  /** Let go at the log's limit (J4). */
  isDetached(task: string): boolean
  /** Dead letters now; counted once from disk, then as they come. */
  deadCount(): number
  /**
   * Resolves when the source said that it caught up and every sink has passed what the log held then. Of topics that people write: what
   * it held at the start.
   */
  readonly caughtUp: Promise<void>
  isCaughtUp(): boolean
}

interface Running extends HubParts {
  readonly definition: ParsedPipeline
  readonly parts: TaskParts
  readonly changeLog: ChangeLog
  readonly stop: AbortController
  readonly positions: Map<string, LogOffset>
  readonly detached: Detached
  readonly sinkTasks: Map<string, Task>
  /** Ends of the log when the source caught up. */
  target: readonly TopicEnds[] | null
  caughtUp: boolean
  settle: () => void
  dead: number
}

const LEASE_MS = 15_000
export const RETAIN_EVERY_MS = 60_000

export async function startPipeline(definition: ParsedPipeline, parts: HubParts): Promise<RunningPipeline> {
  const detached = detachedTasks(parts.directory.state)
  const logs = await parts.logs.open(definition, {
    ...definition.log.retention,
    consumers: tasksOf(definition).sinks.map(one => one.name),
    isDetached: detached.has,
    atLimit: holding => detach(running, holding),
  })
  let settle = () => {}
  const caughtUp = new Promise<void>(resolve => {
    settle = resolve
  })
  const { changes: changeLog, dead: deadLog } = logs
  const dead = (await readDeadLetters(deadLog)).length
  const running: Running = {
    ...parts,
    definition,
    changeLog,
    parts: partsOf(definition, logs, parts, detached, () => running),
    stop: new AbortController(),
    positions: new Map(),
    detached,
    sinkTasks: new Map(),
    target: null,
    caughtUp: false,
    settle,
    dead,
  }
  setMaxListeners(0, running.stop.signal) // every task listens to it
  const producer = isWritten(definition)
    ? openProducer({ ...running, logs: async () => logs, failed: async () => {} })
    : null
  const source = producer?.task ?? startSource(running)
  const sinks = definition.sinks.flatMap(sink =>
    Array.from({ length: definition.log.partitions }, (_, partition) => ({
      sink,
      partition,
      task: startSink(running, sink, partition),
    })),
  )
  const retention = retainNowAndThen(running)
  if (producer) void aim(running)
  return {
    definition,
    log: changeLog,
    dead: deadLog,
    source,
    producer,
    sinks,
    position: task => running.positions.get(task) ?? null,
    isDetached: detached.has,
    deadCount: () => running.dead,
    caughtUp,
    isCaughtUp: () => running.caughtUp,
    async [Symbol.asyncDispose]() {
      running.stop.abort()
      const tasks = [source, ...sinks.map(one => one.task)].map(task => task.done)
      await Promise.all([...tasks, producer?.[Symbol.asyncDispose]()])
      await retention
      await logs[Symbol.asyncDispose]()
    },
  }
}

const partsOf = (
  definition: ParsedPipeline,
  logs: PipelineLogs,
  { clock, log, redact }: HubParts,
  detached: Detached,
  running: () => Running,
): TaskParts => ({
  definition,
  logs,
  clock,
  log,
  redact,
  isDetached: detached.has,
  resumed(task, at) {
    if (at !== null) running().positions.set(task, at)
    look(running())
  },
  died(count) {
    running().dead += count
  },
})

const taskOptions = (running: Running, name: string) => {
  const { definition, directory, clock, random, log, stop } = running
  const owner = `pid-${process.pid}`
  const queue = localQueue({ state: directory.state, clock, leaseMs: LEASE_MS })
  return {
    pipeline: definition.name,
    name,
    owner,
    queue,
    clock,
    random,
    log,
    retry: definition.errors.retry,
    signal: stop.signal,
  }
}

function startSource(running: Running): Task {
  const { definition } = running
  return startTask<ChangeRecord>({
    ...taskOptions(running, writerTask(definition)),
    open: context => openSource(running.parts, context),
    seen: batch => {
      if (batch.caughtUp) void aim(running)
    },
  })
}

function startSink(running: Running, sink: ParsedSink, partition: number): Task {
  const name = `${running.definition.name}/${sink.name}/${partition}`
  const task = startTask<LogRecord>({
    ...taskOptions(running, name),
    open: context => openSink(running.parts, sink, partition, context),
    seen: (_, durable) => {
      running.positions.set(name, durable as unknown as LogOffset)
      look(running)
    },
  })
  running.sinkTasks.set(name, task)
  return task
}

/** The source is level with its database: what the log holds now is what the sinks must pass. */
async function aim(running: Running): Promise<void> {
  const { changeLog, clock, stop } = running
  while (!running.target && !stop.signal.aborted)
    try {
      running.target = await changeLog.ends()
    } catch {
      await clock.sleep(1_000, stop.signal) // the log is away, which its tasks tell
    }
  look(running)
}

function look(running: Running): void {
  const { target, positions, definition, detached } = running
  if (!target || running.caughtUp) return
  for (const sink of definition.sinks)
    for (const { topic, partition, end } of target) {
      const task = `${definition.name}/${sink.name}/${partition}`
      if ((positions.get(task)?.next[topic] ?? 0) < end && !detached.has(task)) return
    }
  running.caughtUp = true
  running.settle()
}

/**
 * What `limits.policy` says of the sinks that hold the log at its limit. One that is only starting has not said where it stands: it
 * is given its attempts first, and the source waits.
 */
function detach(running: Running, holding: readonly string[]): boolean {
  const { definition, detached, sinkTasks, clock, log } = running
  if (definition.limits.policy !== 'detach_sink') return false
  const isKnown = (name: string) =>
    ['running', 'failing', 'halted'].includes(sinkTasks.get(name)?.state() ?? 'waiting')
  const late = holding.filter(isKnown)
  if (late.length === 0) return false
  detached.add(late, clock.nowUs() / 1000)
  for (const task of late) {
    const { message, kind, hint } = detachedError(task)
    log.error({ task, kind, hint }, message)
  }
  look(running)
  return true
}

async function retainNowAndThen({ clock, stop, changeLog, definition, log }: Running): Promise<void> {
  while (!stop.signal.aborted) {
    await clock.sleep(RETAIN_EVERY_MS, stop.signal)
    if (stop.signal.aborted) return
    try {
      await changeLog.retain()
    } catch (error) {
      log.warn({ pipeline: definition.name }, `retention of ${definition.name}: ${(error as Error).message}`)
    }
  }
}
