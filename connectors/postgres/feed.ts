/**
 * Puts what the stream decodes and the chunks that may be appended into one order of batches, each with the offset to resume
 * behind it (H5, H10). No sockets, no clock: the reader feeds it, the simulation too.
 *
 *   decode:  begin ─▶ change* ─▶ commit         position moves with every change: { lsn, open: { commit, done } }
 *   take:    all that is pending, with the position now;  else a chunk, with its mark;  else only the position, if it moved
 *
 * A transaction that was resumed inside: the server sends it whole, and its first `done` changes are passed over.
 */
import type { Batch } from '../../core/connector.ts'
import type { ChangeRecord, Json } from '../../core/record.ts'
import type { Chunk } from './chunk.ts'
import type { Handoff } from './handoff.ts'
import { FORMAT, type Following, lsnOf, lsnText } from './position.ts'

export interface FeedOptions {
  /** The rows of a chunk that were not struck out, as records. */
  readonly recordsOf: (chunk: Chunk) => ChangeRecord[]
  /** Above this many pending records, or bytes, the reader should pause the socket. */
  readonly maxRecords: number
  readonly maxBytes: number
}

export interface Feed {
  begin(xid: bigint, commitLsn: bigint): void
  /** True: the change that comes now is in the log already; it need not be decoded, only counted with `skip`. */
  isSkipping(): boolean
  skip(): void
  /** The records of one change (two of a key change), and the keys it touches in the source's terms. */
  change(records: readonly ChangeRecord[], table: string, keys: readonly string[], bytes: number): void
  truncate(records: readonly ChangeRecord[], tables: readonly string[]): void
  commit(endLsn: bigint): void
  /** Everything that stood upstream was decoded: the next batch says so. */
  reachedEnd(): void
  isFull(): boolean
  hasMoved(): boolean
  /** `force`: also when nothing but the position moved. */
  take(force: boolean): Batch<ChangeRecord> | null
}

interface State {
  readonly from: Following
  readonly handoff: Handoff
  lsn: bigint
  commitLsn: bigint
  /** Changes of the open transaction that are decoded; -1: between transactions. */
  done: number
  skipTo: number
  pending: ChangeRecord[]
  bytes: number
  moved: boolean
  atEnd: boolean
}

export function feedOf(from: Following, handoff: Handoff, options: FeedOptions): Feed {
  const state: State = {
    from,
    handoff,
    lsn: lsnOf(from.lsn),
    commitLsn: from.open ? lsnOf(from.open.commit) : 0n,
    done: -1,
    skipTo: 0,
    pending: [],
    bytes: 0,
    moved: false,
    atEnd: false,
  }
  const note = (records: readonly ChangeRecord[]) => {
    state.done++
    for (const record of records) state.pending.push(record)
  }
  return {
    begin: (xid, commitLsn) => begin(state, xid, commitLsn),
    isSkipping: () => state.done < state.skipTo,
    skip() {
      state.done++
    },
    change(records, table, keys, bytes) {
      note(records)
      state.bytes += bytes
      for (const key of keys) handoff.changed(table, key)
    },
    truncate(records, tables) {
      note(records)
      for (const table of tables) handoff.disturbed(table)
    },
    commit(endLsn) {
      if (endLsn > state.lsn) state.lsn = endLsn
      state.done = -1
      state.moved = true
    },
    reachedEnd() {
      state.atEnd = true
    },
    isFull: () =>
      state.pending.length >= options.maxRecords || state.bytes >= options.maxBytes || handoff.mustWait(),
    hasMoved: () => state.moved,
    take: force => take(state, options, force),
  }
}

function begin(state: State, xid: bigint, commitLsn: bigint): void {
  const { from, handoff } = state
  const isDone = commitLsn < lsnOf(from.lsn)
  const isResumed = from.open !== null && lsnOf(from.open.commit) === commitLsn
  state.skipTo = isDone ? Number.POSITIVE_INFINITY : isResumed ? from.open!.done : 0
  state.commitLsn = commitLsn
  state.done = 0
  if (!isDone) handoff.begun(xid)
}

function take(state: State, options: FeedOptions, force: boolean): Batch<ChangeRecord> | null {
  if (state.pending.length > 0) {
    const records = state.pending
    state.pending = []
    state.bytes = 0
    return batchOf(state, records)
  }
  const chunk = state.handoff.ready()
  if (chunk) {
    const records = options.recordsOf(chunk)
    state.handoff.appended(chunk) // before the offset is made: its mark goes with its rows
    return batchOf(state, records)
  }
  return state.atEnd || (force && state.moved) ? batchOf(state, []) : null
}

function batchOf(state: State, records: readonly ChangeRecord[]): Batch<ChangeRecord> {
  const { atEnd } = state
  state.moved = false
  state.atEnd = false
  const offset = positionNow(state) as unknown as Json
  return atEnd ? { records, offset, caughtUp: true } : { records, offset }
}

function positionNow(state: State): Following {
  const { from, handoff, done, skipTo } = state
  const { system, timeline } = from
  const resumed = from.open && lsnOf(from.open.commit) >= state.lsn ? from.open : null
  // Inside a transaction whose beginning is passed over, the position is still the one we came with.
  const isBehind = done >= 0 && done < skipTo && Number.isFinite(skipTo)
  const open =
    isBehind || (done < 0 && resumed)
      ? resumed
      : done > 0 && Number.isFinite(skipTo)
        ? { commit: lsnText(state.commitLsn), done }
        : null
  return {
    format: FORMAT,
    state: 'following',
    system,
    timeline,
    lsn: lsnText(state.lsn),
    open,
    unseen: handoff.unseen().map(String),
    fill: handoff.fills(),
  }
}
