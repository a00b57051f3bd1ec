/**
 * Columns as typed formats (Parquet, Avro) hold them: from the names of types that tables carry to a few kinds, and from the raw JSON
 * text of a value to the value. No digit is lost on the way; what a kind cannot hold is refused as `data`.
 */
import { ConnectorError } from '../errors.ts'
import type { Column } from '../record.ts'
import { plain, splitRow } from '../row.ts'

export type Kind =
  | 'boolean'
  | 'int'
  | 'long'
  | 'float'
  | 'double'
  | 'decimal'
  | 'string'
  | 'json'
  | 'bytes'
  | 'uuid'
  | 'date'
  | 'timestamp'
  | 'timestamptz'

/** What a `numeric` becomes, whose table does not say how many digits it has. */
export type Numeric = 'string' | 'double' | { readonly precision: number; readonly scale: number }

export type TypedValue = boolean | number | bigint | string | Buffer | null

export interface TypedColumn {
  readonly name: string
  readonly kind: Kind
  /** Of a decimal. */
  readonly precision: number
  readonly scale: number
  /** Takes whatever there is. */
  readonly takesAll: boolean
  /** Raw JSON text, not null → a number for int, float and date (days), bigint for long, timestamps (µs) and decimal (unscaled). */
  of(raw: string): TypedValue
}

const KINDS: Readonly<Record<string, Kind>> = {
  bool: 'boolean',
  int2: 'int',
  int4: 'int',
  int8: 'long',
  float4: 'float',
  float8: 'double',
  json: 'json',
  jsonb: 'json',
  bytea: 'bytes',
  uuid: 'uuid',
  date: 'date',
  timestamp: 'timestamp',
  timestamptz: 'timestamptz',
}

/** Kept by identity: records of one shape share their columns. */
const known = new WeakMap<readonly Column[], Map<string, readonly TypedColumn[]>>()

export function typedColumns(columns: readonly Column[], numeric: Numeric): readonly TypedColumn[] {
  const byNumeric = known.get(columns) ?? new Map<string, readonly TypedColumn[]>()
  if (byNumeric.size === 0) known.set(columns, byNumeric)
  const key = JSON.stringify(numeric)
  const found = byNumeric.get(key) ?? columns.map(column => typed(column, numeric))
  byNumeric.set(key, found)
  return found
}

function typed({ name, type }: Column, numeric: Numeric): TypedColumn {
  const { precision, scale } = typeof numeric === 'object' ? numeric : { precision: 0, scale: 0 }
  const kind = kindOf(type, numeric)
  const refuse = (raw: string, why: string): never => {
    throw new ConnectorError('data', `column ${name} (${type}) holds ${raw.slice(0, 60)}, ${why}`)
  }
  const takesAll = kind === 'string' || kind === 'json' || kind === 'bytes'
  return { name, kind, precision, scale, takesAll, of: raw => READ[kind](raw, refuse, precision, scale) }
}

function kindOf(type: string, numeric: Numeric): Kind {
  if (type.endsWith('[]')) return 'json'
  if (type === 'numeric') return typeof numeric === 'object' ? 'decimal' : numeric
  return KINDS[type] ?? 'string'
}

/** So many characters are a safe integer. */
const SAFE_DIGITS = 15

type Refuse = (raw: string, why: string) => never
type Read = (raw: string, refuse: Refuse, precision: number, scale: number) => TypedValue

const number: Read = (raw, refuse) => {
  const text = plain(raw)
  const value = Number(text)
  if (text === '' || (Number.isNaN(value) && text !== 'NaN')) refuse(raw, 'which is no number')
  return value
}

const READ: Readonly<Record<Kind, Read>> = {
  boolean: (raw, refuse) =>
    raw === 'true' || (raw !== 'false' && refuse(raw, 'which is neither true nor false')),
  int(raw, refuse) {
    const value = Number(raw)
    if ((value | 0) !== value) refuse(raw, 'which is no integer of 32 bits')
    return value
  },
  long(raw, refuse) {
    const text = plain(raw)
    if (!/^-?\d{1,19}$/.test(text)) refuse(raw, 'which is no integer of 64 bits')
    if (text.length <= SAFE_DIGITS) return BigInt(Number(text)) // from a number it is made in a third of the time
    const value = BigInt(text)
    if (BigInt.asIntN(64, value) !== value) refuse(raw, 'which is no integer of 64 bits')
    return value
  },
  float: number,
  double: number,
  decimal: (raw, refuse, precision, scale) => unscaled(raw, refuse, precision, scale),
  string: raw => plain(raw),
  json: raw => raw,
  bytes: raw => Buffer.from(plain(raw), 'base64'),
  uuid(raw, refuse) {
    const text = plain(raw)
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) refuse(raw, 'which is no UUID')
    return text
  },
  date(raw, refuse) {
    const days = Date.parse(plain(raw)) / 86_400_000
    if (!Number.isInteger(days)) refuse(raw, 'which is no date that the format can hold')
    return days
  },
  timestamp: (raw, refuse) => micros(raw, refuse),
  timestamptz: (raw, refuse) => micros(raw, refuse),
}

function unscaled(raw: string, refuse: Refuse, precision: number, scale: number): bigint {
  const parts = /^(-?)(\d+)(?:\.(\d+))?$/.exec(plain(raw))
  if (!parts) return refuse(raw, 'which is no decimal number')
  const fraction = (parts[3] ?? '').replace(/0+$/, '')
  if (fraction.length > scale) refuse(raw, `and has more than ${scale} digits behind the point`)
  const digits = `${parts[2]}${fraction.padEnd(scale, '0')}`.replace(/^0+(?=\d)/, '')
  if (digits.length > precision) refuse(raw, `and has more than ${precision} digits`)
  return BigInt(parts[1] + digits)
}

/** A time without zone counts as UTC. Text of up to six digits of a second, as the log holds it. */
function micros(raw: string, refuse: Refuse): bigint {
  const text = plain(raw)
  const us = usualMicros(text)
  if (us >= 0) return BigInt(us)
  const point = text.indexOf('.', 19)
  const end = text.endsWith('Z') ? text.length - 1 : text.length
  const ms = Date.parse(`${text.slice(0, point < 0 ? end : point)}Z`)
  if (Number.isNaN(ms)) return refuse(raw, 'which is no time that the format can hold')
  const fraction = point < 0 ? 0 : Number(text.slice(point + 1, end).padEnd(6, '0'))
  if (!Number.isInteger(fraction)) refuse(raw, 'which is no time that the format can hold')
  return BigInt(ms) * 1_000n + BigInt(fraction)
}

const ZERO = 48
/** The number of digits from..to; NaN where something else stands there. */
function digits(text: string, from: number, to: number): number {
  let value = 0
  for (let i = from; i < to; i++) {
    const digit = text.charCodeAt(i) - ZERO
    if (!(digit >= 0 && digit <= 9)) return Number.NaN
    value = value * 10 + digit
  }
  return value
}

/** Microseconds of 2^53, and a day less. */
const MOST_MS = 2 ** 53 / 1_000 - 86_400_000
let lastDay = ''
let lastDayMs = Number.NaN
/**
 * Of 2026-06-15T14:00:10[.123456][Z] from 1970 to 2255, microseconds as a safe integer: most times there are, at a fifth of what the
 * general way takes. -1: another form, or no time.
 */
function usualMicros(text: string): number {
  const end = text.endsWith('Z') ? text.length - 1 : text.length
  if (end < 19 || end > 26 || text[4] !== '-' || text[10] !== 'T' || text[13] !== ':' || text[16] !== ':')
    return -1
  const day = text.slice(0, 10)
  if (day !== lastDay) {
    lastDayMs = Date.parse(`${day}T00:00:00Z`)
    lastDay = day
  }
  const [hours, minutes, seconds] = [digits(text, 11, 13), digits(text, 14, 16), digits(text, 17, 19)]
  if (!(hours < 24 && minutes < 60 && seconds < 60 && lastDayMs >= 0 && lastDayMs < MOST_MS)) return -1
  let fraction = 0
  if (end > 19) {
    if (text[19] !== '.' || end === 20) return -1
    fraction = digits(text, 20, end) * 10 ** (26 - end)
    if (Number.isNaN(fraction)) return -1
  }
  return (lastDayMs + ((hours * 60 + minutes) * 60 + seconds) * 1_000) * 1_000 + fraction
}

/** JSON text holds no control character. */
const BETWEEN = '\u001f'

/** Of the column at `i`, which most often stands there in the row, too. */
function rawAt(
  names: readonly string[],
  values: readonly string[],
  i: number,
  { name }: TypedColumn,
): string {
  const at = names[i] === name ? i : names.indexOf(name)
  return at < 0 ? 'null' : values[at]!
}

const typedValue = (raw: string, column: TypedColumn): TypedValue => (raw === 'null' ? null : column.of(raw))

/**
 * The raw values of a row (JSON text) in the order of `columns`, as a line that is taken apart again at little cost: rows are read twice,
 * when they come and when their file is made. Throws `data` for what a column cannot hold.
 */
export function rawLine(row: string, columns: readonly TypedColumn[]): string {
  const { names, values } = splitRow(row)
  let line = ''
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i]!
    const raw = rawAt(names, values, i, column)
    if (!column.takesAll && raw !== 'null') column.of(raw)
    line += i === 0 ? raw : BETWEEN + raw
  }
  return line
}

/** The values of a row in the order of `columns`, at once. Throws `data` for what a column cannot hold. */
export function valuesOf(row: string, columns: readonly TypedColumn[]): TypedValue[] {
  const { names, values } = splitRow(row)
  return columns.map((column, i) => typedValue(rawAt(names, values, i, column), column))
}

/** Each value behind those of its column, without a row of them in between. */
export function takeValues(line: string, columns: readonly TypedColumn[], into: TypedValue[][]): void {
  let at = 0
  for (let i = 0; i < columns.length; i++) {
    const end = line.indexOf(BETWEEN, at)
    into[i]!.push(typedValue(end < 0 ? line.slice(at) : line.slice(at, end), columns[i]!))
    at = end + 1
  }
}

export const typedValues = (line: string, columns: readonly TypedColumn[]): TypedValue[] =>
  line.split(BETWEEN).map((raw, i) => typedValue(raw, columns[i]!))
