/** How the tasks of a pipeline are opened: reader, writer, progress and dead letters of each. Whoever runs them says where. */
import type { Clock, Context, Log, Reader, Sink, Source, Writer } from '../connector.ts'
import { prefetched, ticking } from '../flow.ts'
import type { LogOffset } from '../log/log.ts'
import { detachedError } from '../log/retention.ts'
import { floorTask } from '../pipeline/plan.ts'
import type { ParsedPipeline, ParsedSink } from '../pipeline/schema.ts'
import { type DeadLetters, type Progress, resumeAt } from '../pump.ts'
import type { ChangeRecord, LogRecord } from '../record.ts'
import { transformed } from '../transform/transform.ts'
import { deadLetters, haltOnReject } from '../worker/dead-letters.ts'
import { reporting } from '../worker/reporting.ts'
import type { Opened } from '../worker/task.ts'
import type { PipelineLogs } from './logs.ts'
import { only } from './only.ts'

export interface TaskParts {
  readonly definition: ParsedPipeline
  readonly logs: PipelineLogs
  readonly clock: Clock
  readonly log: Log
  readonly redact: (text: string) => string
  /** Let go at the log's limit (J4). */
  isDetached(task: string): boolean
  /** Where a sink's task goes on; null: from the log's start. */
  resumed(task: string, at: LogOffset | null): void
  /** So many more dead letters. */
  died(count: number): void
}

/** A source's writer always has its position in the log. */
const NO_PROGRESS: Progress = {
  load: async () => null,
  save: async () => {},
}

export type WriterParts = Pick<TaskParts, 'definition' | 'logs'>

/** The log's one writer (V1), behind what must never touch the disk. */
export async function openWriter(parts: WriterParts, context: Context): Promise<Writer<ChangeRecord>> {
  const { definition, logs } = parts
  const { transforms } = definition.source
  const inner = await logs.changes.writer(context, await floorOf(parts, context))
  return transforms.length > 0 ? transformed<ChangeRecord>(inner, transforms) : inner
}

export async function openSource(parts: TaskParts, context: Context): Promise<Opened<ChangeRecord>> {
  const { connector, config } = parts.definition.source
  const writer = await openWriter(parts, context)
  return withReader(writer, async () => {
    const from = await resumeAt(writer, NO_PROGRESS)
    const reader = await (connector as Source).open(config as never, from, context)
    return { reader, progress: NO_PROGRESS, dead: letters<ChangeRecord>(parts, 'source') }
  })
}

/** Without a stored number the first is above whatever a keyed sink of the pipeline holds (V3). Asked only of a new log. */
async function floorOf({ definition, logs }: WriterParts, context: Context): Promise<number> {
  if ((await logs.changes.ends()).length > 0) return 0
  let floor = 0
  for (const { connector, config } of definition.sinks) {
    if (!(connector as Sink).keyed(config as never)) continue
    await using writer = await (connector as Sink).open(config as never, {
      ...context,
      task: floorTask(definition),
    })
    floor = Math.max(floor, (await writer.highest?.()) ?? 0)
  }
  return floor
}

export async function openSink(
  parts: TaskParts,
  sink: ParsedSink,
  partition: number,
  context: Context,
): Promise<Opened<LogRecord>> {
  const { logs, clock, isDetached, resumed } = parts
  if (isDetached(context.task)) throw detachedError(context.task) // before the sink is asked for anything
  const inner = await (sink.connector as Sink).open(sink.config as never, context)
  const changed = sink.transforms.length > 0 ? transformed<LogRecord>(inner, sink.transforms) : inner
  const writer = sink.only ? only(changed, sink.only) : changed // what a sink does not take its transforms need not understand
  const progress = logs.progress(context, sink.name, partition)
  return withReader(
    writer,
    async () => {
      const from = await resumeAt(writer, progress)
      resumed(context.task, from as unknown as LogOffset | null)
      const { batch, tickMs } = sink.connector as Sink
      const reader = await logs.changes.reader({
        consumer: context.task,
        partition,
        from,
        signal: context.signal,
        ...(batch ? { maxRecords: batch.records, maxBytes: batch.bytes } : {}),
      })
      // Who names a batch waits for somebody else while it is written.
      const ahead = batch ? prefetched(reader) : reader
      const ticked = tickMs ? ticking(ahead, clock, tickMs) : ahead
      const open = () => logs.progress(context, sink.name, partition)
      return {
        reader: writer.position && logs.isWatched ? reporting(ticked, { context, from, open }) : ticked,
        progress,
        dead: letters<LogRecord>(parts, sink.name),
      }
    },
    progress,
  )
}

/** A writer that was opened is closed when what follows fails, and so is its progress. */
async function withReader<R extends ChangeRecord>(
  writer: Writer<R>,
  open: () => Promise<{ reader: Reader<R>; progress: Progress; dead: DeadLetters<R> }>,
  progress: Progress = NO_PROGRESS,
): Promise<Opened<R>> {
  try {
    return { writer, ...(await open()) }
  } catch (error) {
    await writer[Symbol.asyncDispose]()
    await progress[Symbol.asyncDispose]?.()
    throw error
  }
}

function letters<R extends ChangeRecord>(parts: TaskParts, sink: string): DeadLetters<R> {
  const { definition, logs, clock, log, redact, died } = parts
  if (definition.errors.onReject === 'halt') return haltOnReject<R>()
  const inner = deadLetters<R>({
    log: logs.dead,
    pipeline: definition.name,
    sink,
    nowMs: () => clock.nowUs() / 1000,
    redact,
  })
  return {
    async add(rejected) {
      await inner.add(rejected)
      died(rejected.length)
      for (const { record, stage, error } of rejected)
        log.warn(
          { pipeline: definition.name, sink, stage, key: record.key },
          `dead letter: ${redact(error.message)}`,
        )
    },
  }
}
