/**
 * What flows: one change of one row. Contract file: imported by every layer, imports nothing.
 *
 * Rows and keys stay JSON *text* from the source's decoder to the sink: text is lossless (all 19 digits of a bigint, every
 * digit of a numeric), costs one string instead of an object per value, and is what the log stores. Who needs the columns
 * asks `format/row.ts` to split a row (raw JSON text per column) or to decode it.
 */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** c insert, u update, d delete, r row of a snapshot, sweep: see `below`. */
export type Op = 'c' | 'u' | 'd' | 'r' | 'sweep'

/** `type`: a name of `format/types.ts` ("int8", "numeric", "timestamptz"…), "[]" behind it for an array; else "text". */
export interface Column {
  readonly name: string
  readonly type: string
}

/** The shape of a table at the moment of a change. Shared by all records of that shape, so identity is a cheap test. */
export interface Table {
  readonly schema: string
  readonly name: string
  /** Key columns in key order; empty: the table has no key. */
  readonly key: readonly string[]
  readonly columns: readonly Column[]
}

export interface ChangeRecord {
  readonly op: Op
  readonly table: Table
  /** JSON text, no spaces: `{"id":1}`, key columns in key order. Of a sweep: `{"sweep":"schema.table"}`. */
  readonly key: string
  /** JSON text of an object, or null: unknown (before) or gone (after). */
  readonly before: string | null
  readonly after: string | null
  /** JSON text of an object: connector, name, schema, table, txId, lsn, ts_us, snapshot, missing?. For people and checks only (V2). */
  readonly source: string
  /** When the source database committed it, ms since 1970. Becomes the log's timestamp. */
  readonly commitMs: number
  /** When we read it, ms since 1970 (`ts_ms` of the envelope). */
  readonly readMs: number
  /** Sweep only: rows of this table and origin with a smaller version are gone. -1 = "my own version", filled by the log (S1). */
  readonly below: number | null
}

/** A change as it was read from the log: with its place and its number. Wrappers that alter it keep these four. */
export interface LogRecord extends ChangeRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** Rises with the log (V1). The one number by which keyed sinks refuse older after newer (V4). */
  readonly version: number
}

/** Where a row came from, kept by keyed sinks with the row (V6): `<topic>/<partition>`. */
export const originOf = (record: LogRecord): string => `${record.topic}/${record.partition}`

/**
 * A change whose big columns could not be read again, for the row is gone (H9): an update, or the insert that a key change brings.
 * Keyed sinks leave it out: its delete follows.
 */
export const isMissingColumns = (record: ChangeRecord): boolean =>
  (record.op === 'u' || record.op === 'c') && record.source.includes('"missing":[')
