/**
 * Decodes pgoutput, protocol version 1, as sent inside CopyData/XLogData: one call per message, rows straight to JSON text.
 * Format: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 *
 *   B lsn:8 ts:8 xid:4                        C flags:1 lsn:8 end:8 ts:8
 *   R oid:4 schema\0 name\0 identity:1 n:2 [flags:1 name\0 type:4 modifier:4]…
 *   I oid:4 'N' tuple                         U oid:4 ['K' | 'O' tuple] 'N' tuple
 *   D oid:4 'K' | 'O' tuple                   T n:4 options:1 [oid:4]…
 *   M flags:1 lsn:8 prefix\0 n:4 bytes        Y type, O origin: of no use here
 *   tuple = n:2 [ 'n' null | 'u' unchanged TOAST | 't' n:4 text ]…
 *
 * Knows no sockets and no catalog: what becomes of a table's columns is asked of `planOf`. Never reads beyond `end`.
 */
import { ConnectorError } from '../../core/errors.ts'
import { closeRow, keyText, NULL, Out, type RowPlan, Slots, writeValue } from './encode.ts'

export interface WireColumn {
  readonly name: string
  /** As it was declared: a domain's own oid. */
  readonly oid: number
  readonly modifier: number
  /** Part of the replica identity; of FULL, every column is. */
  readonly isIdentity: boolean
}

/** A table's shape, sent before its first change and again after it changed. */
export interface Relation {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** pg_class.relreplident: default, nothing, full, index. */
  readonly identity: 'd' | 'n' | 'f' | 'i'
  readonly columns: readonly WireColumn[]
}

export interface Change {
  readonly op: 'c' | 'u' | 'd'
  readonly relation: Relation
  readonly plan: RowPlan
  readonly key: string
  /** Of an update that changed the key: the key it had. */
  readonly oldKey: string | null
  /** Known under REPLICA IDENTITY FULL only. */
  readonly before: string | null
  readonly after: string | null
  /** Taken columns that are missing in `after`: big values that the update did not touch. null: none. */
  readonly unchanged: readonly string[] | null
  readonly lsn: bigint
}

/** Called while decoding, in the order of the messages. */
export interface Handlers {
  /** `commitLsn`: where the commit record begins. `commitUs`: microseconds since 1970. */
  begin(xid: number, commitLsn: bigint, commitUs: number): void
  /** `endLsn`: behind the commit record; what may be confirmed once everything before it is durable. */
  commit(commitLsn: bigint, endLsn: bigint): void
  /** New to this connection, or perhaps of another shape than before. `planOf` is asked at its next change. */
  relation(relation: Relation): void
  change(change: Change): void
  truncate(relations: readonly Relation[], options: { cascade: boolean; restartIdentity: boolean }): void
  message(isTransactional: boolean, prefix: string, content: string, lsn: bigint): void
}

export interface PgOutputDecoder {
  /** One message in `buffer` from `start` to `end`; `lsn` is XLogData's start. Throws `bug` on what is none. */
  decode(buffer: Buffer, start: number, end: number, lsn: bigint): void
}

/** A relation, with its plan once it was asked for. null: changes of this table are passed over. */
interface Known {
  readonly relation: Relation
  readonly slots: Slots
  readonly oldSlots: Slots
  plan: RowPlan | null | undefined
}

interface State {
  readonly planOf: (relation: Relation) => RowPlan | null
  readonly handlers: Handlers
  readonly known: Map<number, Known>
  readonly out: Out
  buffer: Buffer
  /** Read so far. */
  at: number
  end: number
  unchanged: string[] | null
}

/** `planOf` is called once per Relation message, at the first change after it. Its columns must be those of the relation. */
export function pgOutputDecoder(
  planOf: (relation: Relation) => RowPlan | null,
  handlers: Handlers,
): PgOutputDecoder {
  const state: State = {
    planOf,
    handlers,
    known: new Map(),
    out: new Out(),
    buffer: Buffer.alloc(0),
    at: 0,
    end: 0,
    unchanged: null,
  }
  return {
    decode(buffer, start, end, lsn) {
      if (start >= end || end > buffer.length) throw broken('an empty message')
      state.buffer = buffer
      state.at = start + 1
      state.end = end
      decode(state, buffer[start]!, lsn)
      if (state.at !== end) throw broken(`${end - state.at} bytes too many`, buffer[start])
    },
  }
}

const broken = (what: string, tag?: number): ConnectorError =>
  new ConnectorError(
    'bug',
    `a message of pgoutput${tag === undefined ? '' : ` "${String.fromCharCode(tag)}"`} cannot be read: ${what}`,
  )

function decode(state: State, tag: number, lsn: bigint): void {
  switch (tag) {
    case 73: // I
      insert(state, lsn)
      break
    case 85: // U
      update(state, lsn)
      break
    case 68: // D
      remove(state, lsn)
      break
    case 66: // B
      begin(state)
      break
    case 67: // C
      commit(state)
      break
    case 82: // R
      relation(state)
      break
    case 84: // T
      truncate(state)
      break
    case 77: // M
      message(state)
      break
    case 89: // Y
    case 79: // O
      state.at = state.end
      break
    default:
      throw broken('not a message of protocol version 1', tag)
  }
}

/** Moves over `length` bytes and answers where they begin. */
function take(state: State, length: number): number {
  const { at } = state
  if (length < 0 || at + length > state.end) throw broken('it is cut short')
  state.at = at + length
  return at
}
const byte = (state: State): number => state.buffer[take(state, 1)]!
const int16 = (state: State): number => state.buffer.readUInt16BE(take(state, 2))
const int32 = (state: State): number => state.buffer.readUInt32BE(take(state, 4))
const int64 = (state: State): bigint => state.buffer.readBigUInt64BE(take(state, 8))

function text(state: State): string {
  const from = state.at
  const zero = state.buffer.indexOf(0, from)
  if (zero < 0 || zero >= state.end) throw broken('a name does not end')
  state.at = zero + 1
  return state.buffer.utf8Slice(from, zero)
}

/** Microseconds from 1970 to 2000, where PostgreSQL's clock begins. */
const EPOCH_US = 946_684_800_000_000

function begin(state: State): void {
  const lsn = int64(state)
  const us = Number(state.buffer.readBigInt64BE(take(state, 8)))
  state.handlers.begin(int32(state), lsn, us + EPOCH_US)
}

function commit(state: State): void {
  take(state, 1)
  const lsn = int64(state)
  const end = int64(state)
  take(state, 8)
  state.handlers.commit(lsn, end)
}

function relation(state: State): void {
  const oid = int32(state)
  const schema = text(state) || 'pg_catalog' // sent empty to save bytes
  const name = text(state)
  const identity = String.fromCharCode(byte(state)) as Relation['identity']
  const count = int16(state)
  const columns: WireColumn[] = []
  for (let i = 0; i < count; i++) {
    const flags = byte(state)
    const column = text(state)
    const type = int32(state)
    const modifier = state.buffer.readInt32BE(take(state, 4))
    columns.push({ name: column, oid: type, modifier, isIdentity: (flags & 1) === 1 })
  }
  const known = { oid, schema, name, identity, columns }
  state.known.set(oid, {
    relation: known,
    slots: new Slots(count),
    oldSlots: new Slots(count),
    plan: undefined,
  })
  state.handlers.relation(known)
}

function truncate(state: State): void {
  const count = int32(state)
  const options = byte(state)
  const relations: Relation[] = []
  for (let i = 0; i < count; i++) relations.push(knownOf(state).relation)
  state.handlers.truncate(relations, {
    cascade: (options & 1) === 1,
    restartIdentity: (options & 2) === 2,
  })
}

function message(state: State): void {
  const flags = byte(state)
  const lsn = int64(state)
  const prefix = text(state)
  const length = int32(state)
  const from = take(state, length)
  state.handlers.message((flags & 1) === 1, prefix, state.buffer.utf8Slice(from, from + length), lsn)
}

function knownOf(state: State): Known {
  const oid = int32(state)
  const known = state.known.get(oid)
  if (!known) throw broken(`relation ${oid} was not described`)
  return known
}

/** The relation of a change with its plan; null: its changes are passed over. */
function planned(state: State): (Known & { plan: RowPlan }) | null {
  const known = knownOf(state)
  if (known.plan === undefined) {
    known.plan = state.planOf(known.relation)
    if (known.plan && known.plan.columns.length !== known.relation.columns.length)
      throw broken(`the plan of ${known.relation.name} has another number of columns`)
  }
  if (known.plan === null) {
    state.at = state.end
    return null
  }
  return known as Known & { plan: RowPlan }
}

const NEW = 78
const KEY = 75
const OLD = 79

function insert(state: State, lsn: bigint): void {
  const known = planned(state)
  if (!known) return
  if (byte(state) !== NEW) throw broken('an insert without a row')
  const { out } = state
  const { relation, plan, slots } = known
  out.at = 0
  const after = row(state, plan, slots, null)
  const key = keyText(out, plan, slots)
  state.handlers.change({
    op: 'c',
    relation,
    plan,
    key,
    oldKey: null,
    before: null,
    after,
    unchanged: state.unchanged,
    lsn,
  })
}

function update(state: State, lsn: bigint): void {
  const known = planned(state)
  if (!known) return
  const { out } = state
  const { relation, plan, slots, oldSlots } = known
  out.at = 0
  let kind = byte(state)
  let before: string | null = null
  let oldKey: string | null = null
  const hasOld = kind !== NEW
  if (hasOld) {
    if (kind !== KEY && kind !== OLD) throw broken('an update without a row')
    const old = row(state, plan, oldSlots, null)
    oldKey = keyText(out, plan, oldSlots)
    if (kind === OLD) before = old
    kind = byte(state)
  }
  if (kind !== NEW) throw broken('an update without a new row')
  const after = row(state, plan, slots, hasOld ? oldSlots : null, before !== null)
  const { unchanged } = state
  const key = keyText(out, plan, slots)
  if (oldKey === key) oldKey = null
  state.handlers.change({ op: 'u', relation, plan, key, oldKey, before, after, unchanged, lsn })
}

function remove(state: State, lsn: bigint): void {
  const known = planned(state)
  if (!known) return
  const { out } = state
  const { relation, plan, oldSlots } = known
  out.at = 0
  const kind = byte(state)
  if (kind !== KEY && kind !== OLD) throw broken('a delete without a row')
  const old = row(state, plan, oldSlots, null)
  const key = keyText(out, plan, oldSlots)
  const before = kind === OLD ? old : null
  state.handlers.change({
    op: 'd',
    relation,
    plan,
    key,
    oldKey: null,
    before,
    after: null,
    unchanged: null,
    lsn,
  })
}

/**
 * One tuple as JSON text, behind what is in the buffer. An unchanged big value is taken from the old row when that is whole
 * (or, of a key column, has it); else it is left out and named in `state.unchanged`.
 */
function row(state: State, plan: RowPlan, slots: Slots, old: Slots | null, isOldWhole = false): string {
  const { out, buffer, end } = state
  const { columns } = plan
  const count = int16(state)
  if (count !== columns.length) throw broken(`a row of ${count} columns, and there are ${columns.length}`)
  const from = out.at
  out.bits = 0
  state.unchanged = null
  let { at } = state
  for (let i = 0; i < count; i++) {
    if (at >= end) throw broken('a row is cut short')
    const kind = buffer[at++]!
    let length = 0
    if (kind === 116) {
      if (at + 4 > end) throw broken('a row is cut short')
      length = (buffer[at]! << 24) | (buffer[at + 1]! << 16) | (buffer[at + 2]! << 8) | buffer[at + 3]!
      at += 4
      if (length < 0 || at + length > end) throw broken('a row is cut short')
    } else if (kind !== 110 && kind !== 117) throw broken('a value is neither text nor null')
    const column = columns[i]
    if (!column) {
      at += length
      continue
    }
    const isInOld = kind === 117 && old !== null && (isOldWhole || plan.key.some(one => one.index === i))
    if (kind === 117 && !isInOld) {
      state.unchanged ??= []
      state.unchanged.push(column.name)
      slots.from[i] = slots.to[i] = out.at
      continue
    }
    out.copy(column.prefix, 0, column.prefix.length)
    slots.from[i] = out.at
    if (kind === 116) writeValue(out, column.type, buffer, at, at + length)
    else if (kind === 110) out.copy(NULL, 0, 4)
    else out.copy(out.bytes, old!.from[i]!, old!.to[i]!)
    slots.to[i] = out.at
    at += length
  }
  state.at = at
  closeRow(out, from)
  return out.text(from)
}
