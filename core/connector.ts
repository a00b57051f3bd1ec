/**
 * The contract of sources and sinks: read this first.
 *
 *   source task   pump(source reader → log writer)
 *   sink task     pump(log reader    → sink writer)
 *
 * A log is a Writer to those who fill it and a Reader to those who drain it; features are functions from Reader to Reader or
 * from Writer to Writer (flow.ts, transform/). Contract file: imports record and errors only.
 */
import type { z } from 'zod'
import { type ConnectorError, Fenced } from './errors.ts'
import type { ChangeRecord, Json, LogRecord } from './record.ts'

/** Where to resume. Only the source that made it looks inside; survives JSON.parse(JSON.stringify(x)). */
export type Offset = Json

/** One read, one write, one step of progress. No records: only the offset moves (a heartbeat). */
export interface Batch<R extends ChangeRecord = LogRecord> {
  readonly records: readonly R[]
  readonly offset: Offset
  /** Set by a source: by here all was read that stood upstream, snapshot included, when the reader opened or later. */
  readonly caughtUp?: true
}

/** A record the sink or a transform cannot take, as it was read from the log; wrappers map theirs back. */
export interface Rejected<R extends ChangeRecord = LogRecord> {
  readonly record: R
  /** Who refused it: the sink's or the transform's name. */
  readonly stage: string
  readonly error: ConnectorError
}

/** Iterating pulls: the writer sets the pace. Ends when exhausted or when the context's signal aborts. One iteration only. */
export interface Reader<R extends ChangeRecord = LogRecord> extends AsyncIterable<Batch<R>>, AsyncDisposable {
  /** Called by the pump when more is durable: all up to here is, the upstream may forget it. Never ahead of the writes. */
  commit?(offset: Offset): Promise<void>
}

export interface Writer<R extends ChangeRecord = LogRecord> extends AsyncDisposable {
  /**
   * Durable when it resolves (but see `durable`). The same batch twice = once; old after newer = nothing. Never called twice at once.
   * With `position`: writes all and the offset, or nothing (then it returns the bad ones, as they were read, P1).
   * Without: may have written the good ones. Throws Fenced when a newer owner wrote.
   */
  write(batch: Batch<R>): Promise<readonly Rejected<R>[]>
  /** The offset kept with the data, in one transaction, compared-and-set on the previous one (P2). Called once, before the first write. */
  position?(): Promise<Offset | null>
  /**
   * Of a writer that gathers over batches: the offset up to which all is durable, of a batch it was given or of `position`; null: nothing
   * since it was opened. Then `write` only promises that it has the batch. Absent: all that was written is durable.
   */
  durable?(): Offset | null
  /** The highest version it holds for this pipeline (V3); 0: none. */
  highest?(): Promise<number>
}

/** An input everywhere, so that the simulator owns time. */
export interface Clock {
  /** Microseconds since 1970, an integer. May jump. */
  nowUs(): number
  /** Milliseconds since some start. Never goes back. */
  monotonicMs(): number
  /** Resolves after `ms`, or at once when `signal` aborts (it does not throw). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** Structured logging; fields hold no secrets. */
export interface Log {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
}
export type LogFields = Readonly<Record<string, unknown>>

/** Named numbers of a task, read by status and the page. */
export interface Metrics {
  add(name: string, by: number): void
  set(name: string, to: number): void
}

export interface Context {
  readonly pipeline: string
  /** "<pipeline>/source" or "<pipeline>/<sink>/<partition>": the name under which a writer keeps its position. */
  readonly task: string
  /** Rises with every owner of the task; stored with the position before the first write (L1). */
  readonly epoch: number
  /** The lease's end on the monotonic clock; it moves with each renewal. */
  deadlineMs(): number
  /** The only stop. */
  readonly signal: AbortSignal
  readonly log: Log
  readonly clock: Clock
  readonly metrics: Metrics
}

/** To be called directly before each write to the outside (L1). */
export function assertLease(context: Context): void {
  if (context.clock.monotonicMs() >= context.deadlineMs())
    throw new Fenced(`the lease of ${context.task} ran out before the write`)
}

export type Delivery = 'exactly_once' | 'idempotent' | 'at_least_once'

interface Connector<C extends z.ZodObject = z.ZodObject> {
  /** = the folder = `type:` in YAML = the doc page = the test file. */
  readonly name: string
  /** One sentence for docs and listings. */
  readonly summary: string
  /** A strictObject; each field carries .meta({ title, description, secret? }). */
  readonly config: C
  /** Each is parsed by a test; those that need no server are run. */
  readonly examples: readonly { readonly title: string; readonly config: z.input<C> }[]
  /** Preflight: connects, looks, leaves; changes nothing. Errors carry a hint to act on. */
  check(config: z.output<C>, context: Context): Promise<void>
}

/** What a source will read, for `plan`. */
export interface PlannedTable {
  readonly table: Table
  /** An estimate; null: unknown. */
  readonly rows: number | null
}
type Table = ChangeRecord['table']

export interface SourcePlan {
  readonly tables: readonly PlannedTable[]
  /** What will be made upstream or exists there: "slot", "publication" → name and state. */
  readonly upstream: readonly { readonly kind: string; readonly name: string; readonly exists: boolean }[]
}

/** A table as it reaches a sink, behind all transforms. */
export interface TableAtSink {
  readonly table: Table
  readonly topic: string
}

/** Where a sink puts rows (an index, a table), for `plan`. */
export interface SinkTarget {
  readonly name: string
  /** "schema.table" of what goes there. */
  readonly tables: readonly string[]
  readonly exists: boolean
  /** What it is made as, in the sink's own words. */
  readonly definition: Json
  /** How what stands there differs from that, in words; what can be added is. */
  readonly differences: readonly string[]
}

/** A topic whose rows people bring: POST /api/v1/topics/{topic} and `millrace produce`. */
export interface WrittenTopic {
  /** Without the columns that come with the rows. */
  readonly table: Table
  /** Media types that it can read. */
  readonly takes: readonly string[]
  /** What a body of one of these types holds, in its order. Throws `data` at a record that is bad. */
  records(body: Buffer, type: string, nowMs: number): Iterable<ChangeRecord>
}

export interface Source<C extends z.ZodObject = z.ZodObject> extends Connector<C> {
  /** Looks, changes nothing. Throws `config` for what can never work (a table without a key). */
  plan(config: z.output<C>, context: Context): Promise<SourcePlan>
  /** `from` null: from the beginning, with a snapshot. */
  open(config: z.output<C>, from: Offset | null, context: Context): Promise<Reader<ChangeRecord>>
  /**
   * Of a source that people write. No task reads it then and `open` is never called: whoever is asked to write does so into the log, as
   * its one writer (V1). Connects to nothing.
   */
  topics?(config: z.output<C>): readonly WrittenTopic[]
  /** Takes away what `open` made upstream (slot, publication). Repeatable. Answers with what was dropped, for people. */
  drop?(config: z.output<C>, context: Context): Promise<readonly string[]>
}

export interface Sink<C extends z.ZodObject = z.ZodObject> extends Connector<C> {
  /** Shown by plan and docs, held by the kit (L4). */
  delivery(config: z.output<C>): Delivery
  /** True: keeps rows by id, refuses older after newer, sweeps. */
  keyed(config: z.output<C>): boolean
  /** How much it is best handed at once; less comes when less is there. Default: the log's. */
  readonly batch?: { readonly records: number; readonly bytes: number }
  /** It gathers: while its log is silent it is written an empty batch so often, at which it may flush. */
  readonly tickMs?: number
  /** Where rows of this table go: `plan` refuses two tables that meet in one target (V6). */
  target?(config: z.output<C>, table: Table): string
  /** Looks, changes nothing: what will be made. Throws `config` for what can never work (a routing by a column that may change). */
  plan?(config: z.output<C>, tables: readonly TableAtSink[], context: Context): Promise<readonly SinkTarget[]>
  open(config: z.output<C>, context: Context): Promise<Writer>
  /** Takes away what these tasks keep beside the data, positions above all (`delete`); the data stay. Repeatable. */
  forget?(config: z.output<C>, tasks: readonly string[], context: Context): Promise<void>
  /** Full-text search, where the sink is an index: at most `limit` documents, best first. */
  search?(config: z.output<C>, words: string, limit: number): Promise<SearchResult>
}

export interface SearchResult {
  readonly total: number
  readonly hits: readonly {
    readonly table: string
    readonly id: string
    readonly document: Json
    readonly version: number
  }[]
}

export const defineSource = <C extends z.ZodObject>(source: Source<C>): Source<C> => source
export const defineSink = <C extends z.ZodObject>(sink: Sink<C>): Sink<C> => sink
