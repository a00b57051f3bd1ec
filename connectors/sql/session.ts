/**
 * What a SQL database must be able to do for `writer.ts`: one connection, one transaction at a time. Whoever implements it knows the
 * vendor; who calls it knows batches, order and positions.
 */
import type { LogRecord, Table } from '../../core/record.ts'

/** A move of a task's position, compared-and-set on the previous one. */
export interface Move {
  readonly task: string
  readonly epoch: number
  readonly previous: string | null
  readonly next: string
}

export interface Claim {
  /** Our epoch stands there now. */
  readonly isOurs: boolean
  readonly position: string | null
  /** The one that was found; 0: none. */
  readonly epoch: number
}

/** `T`: a table as it stands there, made ready for records of one shape. */
export interface Session<T> extends AsyncDisposable {
  /** The connector's. */
  readonly name: string
  /** Makes the table of positions where it is missing. */
  claim(task: string, epoch: number): Promise<Claim>
  /** Makes the table or widens it where the shape needs that, in a transaction of its own. Throws `config` for what only a person can do. */
  prepare(shape: Table, name: string): Promise<T>
  /** Begins a transaction and moves the position; false: it stands elsewhere. null: nothing is moved. */
  begin(move: Move | null): Promise<boolean>
  commit(): Promise<void>
  rollback(): Promise<void>
  /** Each id once. `isFresh`: nobody expects them to be there. */
  upsert(target: T, records: readonly LogRecord[], isFresh: boolean): Promise<void>
  remove(target: T, records: readonly LogRecord[]): Promise<void>
  append(target: T, records: readonly LogRecord[]): Promise<void>
  sweep(target: T, origin: string, below: number): Promise<void>
  /** Of all tables, where the origin is a topic of the pipeline. */
  highest(pipeline: string): Promise<number>
  /** The database's error as ours; `data` for what values alone can cause. */
  errorOf(error: unknown): Error
}
