/**
 * Rows as bytes of JSON, straight from the bytes of the wire: what the stream (pgoutput.ts) and the chunks (copy.ts) have in
 * common, so that a row has the same text and the same key from both. A row is written into one reused buffer and becomes a
 * string by one call: no object per column, no ropes. The rules of the values are those of values.ts, which also does the rare
 * ones; here are the ways that must be fast.
 */
import { ConnectorError } from '../../core/errors.ts'
import type { Table } from '../../core/record.ts'
import { quote } from '../../core/row.ts'
import { KIND, type Kind, type PgType } from './values.ts'

/** A table as its rows come over the wire, and what becomes of each column. Compiled once per shape. */
export interface RowPlan {
  /** Carried by the records: the columns taken, in order. */
  readonly table: Table
  /** In the order of the wire; null: not taken. */
  readonly columns: readonly (PlannedColumn | null)[]
  /** In key order: place in `columns`, and `{"a":` or `,"b":`. */
  readonly key: readonly { readonly index: number; readonly prefix: Buffer }[]
}

export interface PlannedColumn {
  readonly name: string
  readonly type: PgType
  /** `,"name":` */
  readonly prefix: Buffer
}

export interface PlanColumn {
  readonly name: string
  readonly type: PgType
  readonly isTaken: boolean
}

/** `key`: in key order; its columns are taken whatever `isTaken` says. Throws `config` when the wire lacks one of them. */
export function rowPlan(
  schema: string,
  name: string,
  key: readonly string[],
  columns: readonly PlanColumn[],
): RowPlan {
  const planned = columns.map(({ name: column, type, isTaken }) =>
    isTaken || key.includes(column)
      ? { name: column, type, prefix: Buffer.from(`,${quote(column)}:`) }
      : null,
  )
  return {
    table: {
      schema,
      name,
      key,
      columns: planned.flatMap(column => (column ? [{ name: column.name, type: column.type.name }] : [])),
    },
    columns: planned,
    key: key.map((column, i) => {
      const index = columns.findIndex(one => one.name === column)
      if (index < 0)
        throw new ConnectorError('config', `${schema}.${name} comes without its key column "${column}"`, {
          hint: 'A publication with a list of columns must have those of the key.',
        })
      return { index, prefix: Buffer.from(`${i === 0 ? '{' : ','}${quote(column)}:`) }
    }),
  }
}

/** The buffer under a row while it is written. */
export class Out {
  bytes = Buffer.allocUnsafeSlow(64 * 1024)
  at = 0
  /** All bytes of the row or-ed: below 128, the row is ASCII and the quick way to a string is open. */
  bits = 0

  room(length: number): void {
    if (this.at + length > this.bytes.length) this.grow(length)
  }

  private grow(length: number): void {
    const bytes = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.at + length + 1024))
    this.bytes.copy(bytes, 0, 0, this.at)
    this.bytes = bytes
  }

  /** A copy of bytes of ours or of another buffer. */
  copy(from: Buffer, start: number, end: number): void {
    this.room(end - start)
    const { bytes } = this
    let { at, bits } = this
    for (let i = start; i < end; i++) {
      const c = from[i]!
      bits |= c
      bytes[at++] = c
    }
    this.at = at
    this.bits = bits
  }

  write(text: string): void {
    this.room(text.length * 3)
    const length = this.bytes.write(text, this.at, 'utf8')
    if (length !== text.length) this.bits |= 128
    this.at += length
  }

  /** What was written since `from`, as a flat string. */
  text(from: number, to = this.at): string {
    return this.bits < 128 ? this.bytes.latin1Slice(from, to) : this.bytes.utf8Slice(from, to)
  }
}

declare global {
  // The calls under Buffer.toString, in every Node.js from 4 on: without the look-up of an encoding's name per row.
  interface Buffer {
    latin1Slice(start: number, end: number): string
    utf8Slice(start: number, end: number): string
  }
}

/** Where each value of a row lies in the buffer: for the key, and for big columns that are taken from the old row. */
export class Slots {
  readonly from: Int32Array
  readonly to: Int32Array
  constructor(columns: number) {
    this.from = new Int32Array(columns)
    this.to = new Int32Array(columns)
  }
}

const TRUE = Buffer.from('true')
const FALSE = Buffer.from('false')

const QUOTE = 34
const PLUS = 43
const ZERO = 48
const COLON = 58
const SPACE = 32
const BACKSLASH = 92

/** One value, not null. */
export function writeValue(out: Out, type: PgType, from: Buffer, start: number, end: number): void {
  switch (type.kind) {
    case KIND.number:
      if (start === end) throw new ConnectorError('bug', `an ${type.name} came as an empty text`)
      // Literals begin with a digit or a sign and end with a digit; NaN, Infinity and -Infinity do not.
      if (from[start]! < COLON && from[end - 1]! < COLON) out.copy(from, start, end)
      else writeAscii(out, from, start, end)
      break
    case KIND.bool:
      if (from[start] === 116) out.copy(TRUE, 0, 4)
      else out.copy(FALSE, 0, 5)
      break
    case KIND.ascii:
      writeAscii(out, from, start, end)
      break
    case KIND.text:
      writeText(out, from, start, end)
      break
    case KIND.json:
      writeJson(out, from, start, end)
      break
    default:
      if (!writePlainTime(out, type.kind, from, start, end))
        out.write(type.toJson(from.utf8Slice(start, end)))
  }
}

/** A date or time of a year from 1 to 9999. False: it is another, or no time at all. */
function writePlainTime(out: Out, kind: Kind, from: Buffer, start: number, end: number): boolean {
  if (kind === KIND.date && end - start === 10) writeAscii(out, from, start, end)
  else if (kind === KIND.timestamp && from[start + 10] === SPACE && from[end - 1]! < COLON)
    writeTime(out, from, start, end, 0)
  else if (
    kind === KIND.timestamptz &&
    from[start + 10] === SPACE &&
    from[end - 3] === PLUS &&
    from[end - 2] === ZERO &&
    from[end - 1] === ZERO
  )
    writeTime(out, from, start, end - 3, 90)
  else return false
  return true
}

/** In quotes, where nothing can need an escape. */
function writeAscii(out: Out, from: Buffer, start: number, end: number): void {
  out.room(end - start + 2)
  const { bytes } = out
  let { at } = out
  bytes[at++] = QUOTE
  for (let i = start; i < end; i++) bytes[at++] = from[i]!
  bytes[at++] = QUOTE
  out.at = at
}

/** "2026-01-31 10:00:00.5+00" → 2026-01-31T10:00:00.5Z. `last`: the byte behind it, 0 for none. */
function writeTime(out: Out, from: Buffer, start: number, end: number, last: number): void {
  out.room(end - start + 3)
  const { bytes } = out
  let { at } = out
  bytes[at++] = QUOTE
  for (let i = start; i < end; i++) bytes[at++] = from[i]!
  bytes[out.at + 11] = 84
  if (last !== 0) bytes[at++] = last
  bytes[at++] = QUOTE
  out.at = at
}

const HEX = Buffer.from('0123456789abcdef')
/** The letter behind the backslash, for control characters that have one: \b \t \n \f \r. 0: \u00xx. As JSON.stringify does. */
const SHORT = new Uint8Array(32)
SHORT.set([98, 116, 110, 0, 102, 114], 8)

function writeText(out: Out, from: Buffer, start: number, end: number): void {
  out.room(end - start + 2)
  let { bytes } = out
  let { at, bits } = out
  bytes[at++] = QUOTE
  for (let i = start; i < end; i++) {
    const c = from[i]!
    bits |= c
    if (c >= SPACE && c !== QUOTE && c !== BACKSLASH) {
      bytes[at++] = c
      continue
    }
    out.at = at
    out.room(end - i + 7)
    bytes = out.bytes
    bytes[at++] = BACKSLASH
    if (c >= SPACE) bytes[at++] = c
    else if (SHORT[c] !== 0) bytes[at++] = SHORT[c]!
    else {
      bytes[at++] = 117
      bytes[at++] = ZERO
      bytes[at++] = ZERO
      bytes[at++] = HEX[c >> 4]!
      bytes[at++] = HEX[c & 15]!
    }
  }
  bytes[at++] = QUOTE
  out.at = at
  out.bits = bits
}

function writeJson(out: Out, from: Buffer, start: number, end: number): void {
  // Who reads a row's text may rely on a value beginning where it begins.
  while (start < end && from[start]! <= SPACE) start++
  while (start < end && from[end - 1]! <= SPACE) end--
  out.room(end - start)
  const { bytes } = out
  let { at, bits } = out
  for (let i = start; i < end; i++) {
    const c = from[i]!
    bits |= c
    bytes[at++] = Math.max(c, SPACE)
  }
  out.at = at
  out.bits = bits
}

export const NULL = Buffer.from('null')

/** The key's text of the row whose values lie at `slots`; leaves the buffer as it was. */
export function keyText(out: Out, plan: RowPlan, slots: Slots): string {
  const from = out.at
  const { bits } = out
  const { key } = plan
  if (key.length === 0) return '{}'
  out.bits = 0
  for (let i = 0; i < key.length; i++) {
    const { index, prefix } = key[i]!
    // PostgreSQL logs the key's value whenever it is not in the new row itself.
    if (slots.from[index] === slots.to[index])
      throw new ConnectorError('bug', `a row of ${plan.table.schema}.${plan.table.name} came without its key`)
    out.copy(prefix, 0, prefix.length)
    out.room(slots.to[index]! - slots.from[index]! + 1)
    out.copy(out.bytes, slots.from[index]!, slots.to[index]!)
  }
  out.room(1)
  out.bytes[out.at++] = 125
  const text = out.text(from)
  out.at = from
  out.bits = bits
  return text
}

/** Every column was written behind a comma: the first becomes the brace. */
export function closeRow(out: Out, from: number): void {
  out.room(2)
  if (out.at === from) out.at++
  out.bytes[from] = 123
  out.bytes[out.at++] = 125
}
