/**
 * A pipeline while it runs: its two logs, one source task, one task for each (sink, partition), and the numbers people ask
 * for. A pipeline that fails never stops another: each has its own tasks, and nothing here throws out of a running one.
 */
import { setMaxListeners } from 'node:events'
import type { Batch, Clock, Context, Log, Reader, Sink, Source, Writer } from '../connector.ts'
import { openEntryLog, openFileLog } from '../log/file.ts'
import type { ChangeLog, EntryLog, LogOffset } from '../log/log.ts'
import { nodeDisk } from '../log/node-disk.ts'
import type { ParsedPipeline, ParsedSink } from '../pipeline/schema.ts'
import { type DeadLetters, type Progress, resumeAt } from '../pump.ts'
import { localQueue } from '../queue/local.ts'
import { stateProgress } from '../queue/progress.ts'
import type { ChangeRecord, LogRecord } from '../record.ts'
import { transformed } from '../transform/transform.ts'
import { deadLetters, haltOnReject, readDeadLetters } from '../worker/dead-letters.ts'
import { type Opened, startTask, type Task } from '../worker/task.ts'
import type { DataDirectory } from './directory.ts'
import { only } from './only.ts'

export interface HubParts {
  readonly directory: DataDirectory
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly redact: (text: string) => string
  readonly lingerMs: number
  readonly batchBytes: number
}

export interface RunningPipeline extends AsyncDisposable {
  readonly definition: ParsedPipeline
  readonly log: ChangeLog
  readonly dead: EntryLog
  readonly source: Task
  readonly sinks: readonly { readonly sink: ParsedSink; readonly partition: number; readonly task: Task }[]
  /** Last position that a sink task let go. */
  position(task: string): LogOffset | null
  /** Dead letters now; counted once from disk, then as they come. */
  deadCount(): number
  /** Resolves when the source said that it caught up and every sink has passed what the log held then. */
  readonly caughtUp: Promise<void>
  isCaughtUp(): boolean
}

interface Running extends HubParts {
  readonly definition: ParsedPipeline
  readonly changeLog: ChangeLog
  readonly deadLog: EntryLog
  readonly stop: AbortController
  readonly positions: Map<string, LogOffset>
  /** Ends of the log when the source caught up. */
  target: ReadonlyMap<string, number> | null
  caughtUp: boolean
  settle: () => void
  dead: number
}

const LEASE_MS = 15_000
const RETAIN_EVERY_MS = 60_000

export async function startPipeline(definition: ParsedPipeline, parts: HubParts): Promise<RunningPipeline> {
  const { directory, clock, log, lingerMs, batchBytes } = parts
  const { name } = definition
  const shared = { disk: nodeDisk, clock, log, lingerMs, batchBytes, compression: definition.log.compression }
  const changeLog = await openFileLog({
    ...shared,
    directory: directory.logPath(name),
    name,
    partitions: definition.log.partitions,
    limitBytes: definition.limits.logBytes,
  })
  const deadLog = await openEntryLog({
    ...shared,
    directory: directory.deadPath(name),
    name: `${name}.dead`,
    limitBytes: Number.POSITIVE_INFINITY,
  })
  let settle = () => {}
  const caughtUp = new Promise<void>(resolve => {
    settle = resolve
  })
  const dead = (await readDeadLetters(deadLog)).length
  const running: Running = {
    ...parts,
    definition,
    changeLog,
    deadLog,
    stop: new AbortController(),
    positions: new Map(),
    target: null,
    caughtUp: false,
    settle,
    dead,
  }
  setMaxListeners(0, running.stop.signal) // every task listens to it
  const source = startSource(running)
  const sinks = definition.sinks.flatMap(sink =>
    Array.from({ length: definition.log.partitions }, (_, partition) => ({
      sink,
      partition,
      task: startSink(running, sink, partition),
    })),
  )
  const retention = retainNowAndThen(running)
  return {
    definition,
    log: changeLog,
    dead: deadLog,
    source,
    sinks,
    position: task => running.positions.get(task) ?? null,
    deadCount: () => running.dead,
    caughtUp,
    isCaughtUp: () => running.caughtUp,
    async [Symbol.asyncDispose]() {
      running.stop.abort()
      await Promise.all([source, ...sinks.map(one => one.task)].map(task => task.done))
      await retention
      await changeLog[Symbol.asyncDispose]()
      await deadLog[Symbol.asyncDispose]()
    },
  }
}

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
    ...taskOptions(running, `${definition.name}/source`),
    open: context => openSource(running, context),
    seen: batch => {
      if (batch.caughtUp) aim(running)
    },
  })
}

function startSink(running: Running, sink: ParsedSink, partition: number): Task {
  const task = `${running.definition.name}/${sink.name}/${partition}`
  return startTask<LogRecord>({
    ...taskOptions(running, task),
    open: context => openSink(running, sink, partition, context),
    seen: (batch: Batch) => {
      running.positions.set(task, batch.offset as unknown as LogOffset)
      look(running)
    },
  })
}

/** The source is level with its database: what the log holds now is what the sinks must pass. */
function aim(running: Running): void {
  if (running.target) return
  running.target = new Map(
    running.changeLog.ends().map(({ topic, partition, end }) => [`${topic}/${partition}`, end]),
  )
  look(running)
}

function look(running: Running): void {
  const { target, positions, definition } = running
  if (!target || running.caughtUp) return
  for (const sink of definition.sinks)
    for (const { topic, partition, end } of running.changeLog.ends()) {
      const due = target.get(`${topic}/${partition}`) ?? 0
      if (
        due > 0 &&
        end > 0 &&
        (positions.get(`${definition.name}/${sink.name}/${partition}`)?.next[topic] ?? 0) < due
      )
        return
    }
  running.caughtUp = true
  running.settle()
}

/** A source's writer always has its position in the log. */
const NO_PROGRESS: Progress = {
  load: async () => null,
  save: async () => {},
}

async function openSource(running: Running, context: Context): Promise<Opened<ChangeRecord>> {
  const { definition, changeLog } = running
  const { connector, config, transforms } = definition.source
  const inner = await changeLog.writer(context, await floorOf(running, context))
  const writer = transforms.length > 0 ? transformed<ChangeRecord>(inner, transforms) : inner
  return withReader(writer, async () => {
    const from = await resumeAt(writer, NO_PROGRESS)
    const reader = await (connector as Source).open(config as never, from, context)
    return { reader, progress: NO_PROGRESS, dead: letters<ChangeRecord>(running, 'source') }
  })
}

/** Without a stored number the first is above whatever a keyed sink of the pipeline holds (V3). Asked only of a new log. */
async function floorOf(running: Running, context: Context): Promise<number> {
  if (running.changeLog.ends().length > 0) return 0
  let floor = 0
  for (const { connector, config } of running.definition.sinks) {
    if (!connector.keyed) continue
    // A task name of its own: looking must not fence the sink's tasks.
    await using writer = await (connector as Sink).open(config as never, {
      ...context,
      task: `${context.task}/floor`,
    })
    floor = Math.max(floor, (await writer.highest?.()) ?? 0)
  }
  return floor
}

async function openSink(
  running: Running,
  sink: ParsedSink,
  partition: number,
  context: Context,
): Promise<Opened<LogRecord>> {
  const { changeLog, directory } = running
  const inner = await (sink.connector as Sink).open(sink.config as never, context)
  const changed = sink.transforms.length > 0 ? transformed<LogRecord>(inner, sink.transforms) : inner
  const writer = sink.only ? only(changed, sink.only) : changed // what a sink does not take its transforms need not understand
  return withReader(writer, async () => {
    const progress = stateProgress(directory.state, context)
    const from = await resumeAt(writer, progress)
    if (from !== null) running.positions.set(context.task, from as unknown as LogOffset)
    look(running)
    const reader = await changeLog.reader({ consumer: context.task, partition, from, signal: context.signal })
    return { reader, progress, dead: letters<LogRecord>(running, sink.name) }
  })
}

/** A writer that was opened is closed when what follows fails. */
async function withReader<R extends ChangeRecord>(
  writer: Writer<R>,
  open: () => Promise<{ reader: Reader<R>; progress: Progress; dead: DeadLetters<R> }>,
): Promise<Opened<R>> {
  try {
    return { writer, ...(await open()) }
  } catch (error) {
    await writer[Symbol.asyncDispose]()
    throw error
  }
}

function letters<R extends ChangeRecord>(running: Running, sink: string): DeadLetters<R> {
  const { definition, deadLog, clock, redact } = running
  if (definition.errors.onReject === 'halt') return haltOnReject<R>()
  const inner = deadLetters<R>({
    log: deadLog,
    pipeline: definition.name,
    sink,
    nowMs: () => clock.nowUs() / 1000,
    redact,
  })
  return {
    async add(rejected) {
      await inner.add(rejected)
      running.dead += rejected.length
      for (const { record, stage, error } of rejected)
        running.log.warn(
          { pipeline: definition.name, sink, stage, key: record.key },
          `dead letter: ${redact(error.message)}`,
        )
    },
  }
}

async function retainNowAndThen(running: Running): Promise<void> {
  const { clock, stop, changeLog, definition, log } = running
  const consumers = definition.sinks.flatMap(sink =>
    Array.from(
      { length: definition.log.partitions },
      (_, partition) => `${definition.name}/${sink.name}/${partition}`,
    ),
  )
  while (!stop.signal.aborted) {
    await clock.sleep(RETAIN_EVERY_MS, stop.signal)
    if (stop.signal.aborted) return
    try {
      await changeLog.retain(definition.log.retention.hours, consumers)
    } catch (error) {
      log.warn({ pipeline: definition.name }, `retention of ${definition.name}: ${(error as Error).message}`)
    }
  }
}
