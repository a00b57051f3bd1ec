/** A chunk of the snapshot, and what the handoff needs of a server to read one: PostgreSQL, or the simulation's model of it. */
import type { Fill, TidRange } from './position.ts'

export interface Snapshot {
  sees(xid: bigint): boolean
}

export interface ChunkRows {
  readonly keys: readonly string[]
  /** JSON text; an empty string was struck out. */
  readonly rows: string[]
  readonly bytes: number
}

/** A transaction that holds the table's lock and the snapshot S. */
export interface ChunkSession {
  readonly snapshot: Snapshot
  /** As found under the lock. null: the table is gone. */
  readonly found: Pick<Fill, 'nodes' | 'shape'> | null
  /** null: more than the limits; nothing was kept. */
  copy(range: TidRange, maxRows: number, maxBytes: number): Promise<ChunkRows | null>
  end(): Promise<void>
}

export interface ChunkServer {
  begin(table: string, range: TidRange): Promise<ChunkSession>
  /** A transactional logical message, committed with synchronous_commit = local. */
  emit(token: string): Promise<void>
  /** What is to be read of a table whose file node or shape changed, as it is now. null: it is gone. */
  plan(table: string): Promise<Fill | null>
  nowMs(): number
  sleep(ms: number): Promise<void>
}

export interface Chunk {
  readonly table: string
  readonly range: TidRange
  mustSee: readonly bigint[]
  /** The message W of this attempt. */
  token: string
  passed: boolean
  /** Keys the stream brought while COPY runs; null once the rows are in memory. */
  remembered: Set<string> | null
  rows: ChunkRows | null
  /** Key → index in rows, made when the first key strikes. */
  index: Map<string, number> | null
  dropped: boolean
  /** Resolves when the chunk was appended or dropped. */
  readonly over: Promise<void>
  readonly settle: () => void
}
