/**
 * The contract of a log: topics with partitions that one source task fills and any number of sink tasks drain, each at its
 * own pace. Drivers: file.ts (embedded, a directory), kafka/. Which bytes a record has is `format/envelope.ts`'s.
 *
 * A position in a log is `LogOffset`, and carries the log's id: a position of another log, one beyond the end or one below
 * the start is `offset_lost`; no reader ever jumps (V5).
 */
import type { Context, Offset, Reader, Writer } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { ChangeRecord, LogRecord, Table } from '../record.ts'

export { COMPRESSIONS, type Compression, missingCompression } from './codec.ts'

/** `<pipeline>.<schema>.<table>`; characters that Kafka does not take become `_`. */
export const topicOf = (pipeline: string, { schema, name }: Pick<Table, 'schema' | 'name'>): string =>
  `${pipeline}.${topicPart(schema)}.${topicPart(name)}`
const topicPart = (name: string): string => name.replace(/[^A-Za-z0-9_-]/g, '_')

/** `next`: the offset of the next record by topic. A topic that is not named is read from its start. */
export interface LogOffset {
  readonly log: string
  readonly next: { readonly [topic: string]: number }
}

/** One record of one topic-partition, for logs that hold no changes (dead letters). */
export interface Entry {
  readonly topic: string
  readonly partition: number
  readonly key: string
  readonly value: string
  readonly timestampMs: number
}
export interface PlacedEntry extends Entry {
  readonly offset: number
}

export interface TopicEnds {
  readonly topic: string
  readonly partition: number
  /** First offset still held. */
  readonly start: number
  /** Offset of the next record to be written. */
  readonly end: number
}

export interface LogReaderOptions {
  /** Who reads, "<pipeline>/<sink>/<partition>": retention waits for what it has committed. */
  readonly consumer: string
  readonly partition: number
  /** null: from the log's start. */
  readonly from: Offset | null
  /** A batch is cut at this many records… */
  readonly maxRecords?: number
  /** …or this many bytes of values. */
  readonly maxBytes?: number
  readonly signal: AbortSignal
  /** true: ends at the present end instead of waiting for more. */
  readonly untilEnd?: boolean
}

/** What a log keeps, and for whom (J4). */
export interface Retention {
  readonly hours: number
  /** Above it what every consumer has passed goes before its time. */
  readonly bytes?: number | undefined
  /** Who drains the log, as named in `LogReaderOptions`: nothing goes that one of them has not read. */
  readonly consumers: readonly string[]
  /** It is waited for no more, and is refused. */
  isDetached(consumer: string): boolean
  /**
   * The log is at its limit, and `holding` have not read its oldest segment. Answers whether it has detached one of them, for good:
   * that must outlive the process before the answer is given.
   */
  atLimit(holding: readonly string[]): boolean
}

export interface ChangeLog extends AsyncDisposable {
  /** Made with the log, renewed by a restore (V5). */
  readonly id: string
  readonly partitions: number
  /**
   * The one writer (V1). Numbers records, appends batch, offset and last number atomically, resolves when synced (J1, J2).
   * Always has `position`. `floor`: without a stored number the first is above it (V3). Opening it fences an older epoch.
   */
  writer(context: Context, floor: number): Promise<Writer<ChangeRecord>>
  reader(options: LogReaderOptions): Promise<Reader>
  /** Of all topics and partitions, as synced. */
  ends(): Promise<readonly TopicEnds[]>
  /** Bytes on disk; null: it is not ours to know. */
  sizeBytes(): number | null
  /** Lets go of what its `Retention` says, as far as every consumer has passed it (J4). Nothing while one of them is unknown. */
  retain(): Promise<void>
}

/** A log of plain entries with many appenders in one process (`<name>.dead`, P3). */
export interface EntryLog extends AsyncDisposable {
  readonly id: string
  /** Resolves when synced; concurrent appends share a sync. */
  append(entries: readonly Entry[]): Promise<void>
  /** All entries from the start, as synced when called. */
  entries(): AsyncIterable<PlacedEntry>
}

const LOST_HINT =
  'The log was made anew, cut or restored. Start the sink anew, or the pipeline: millrace delete NAME --yes.'

export const lostPosition = (what: string): ConnectorError =>
  new ConnectorError('offset_lost', `the position does not belong to this log: ${what}`, { hint: LOST_HINT })

/** Those of a batch that a writer which keeps its position has not had: whoever only appends must not take one twice. */
export function unseen(records: readonly LogRecord[], position: Offset | null): readonly LogRecord[] {
  const next = (position as unknown as Partial<LogOffset> | null)?.next
  if (!next) return records
  const isOld = ({ topic, offset }: LogRecord) => offset < (next[topic] ?? 0)
  return records.some(isOld) ? records.filter(record => !isOld(record)) : records
}
