/**
 * Values that come in under a declared type: raw JSON text, checked, and brought into the form in which the log holds that type
 * (connectors/postgres/values.ts lists it). Numbers stay text all the way: no digit is lost.
 */
import { ConnectorError } from '../errors.ts'
import { plain, quote } from '../row.ts'
import type { Member } from './json-row.ts'
import { stampOfMicros, type TextType } from './typed-text.ts'

/** How a value of a type is read. */
export interface Shape {
  /** A name of `Column.type`. */
  readonly type: string
  /** Valid JSON text without spaces, not null. Throws `data` for what the type cannot hold. */
  fromJson(raw: string): string
}

export interface DeclaredColumn extends Shape {
  readonly name: string
  readonly isNullable: boolean
  /** What stands for it where a row does not have it; null: then the row is refused. */
  readonly absent: string | null
}

/** Rows of a schema, as JSON or as its own bytes. */
export interface DeclaredRows {
  readonly columns: readonly DeclaredColumn[]
  /** The rows that a body holds. Throws `data` where it is none. */
  decode(body: Buffer): Iterable<Member[]>
}

export function refuse(raw: string, why: string): never {
  throw new ConnectorError('data', `holds ${raw.length > 60 ? `${raw.slice(0, 60)}…` : raw}, which is ${why}`)
}

const integer =
  (bits: number) =>
  (raw: string): string => {
    const text = plain(raw)
    if (!/^-?\d{1,19}$/.test(text)) refuse(raw, `no integer of ${bits} bits`)
    const value = BigInt(text)
    if (BigInt.asIntN(bits, value) !== value) refuse(raw, `no integer of ${bits} bits`)
    return String(value)
  }

export const NOT_FINITE: ReadonlySet<string> = new Set(['NaN', 'Infinity', '-Infinity'])

function float(raw: string): string {
  if (raw.startsWith('"')) return NOT_FINITE.has(plain(raw)) ? raw : refuse(raw, 'no number')
  return /^[-\d]/.test(raw) ? raw : refuse(raw, 'no number')
}

function numeric(raw: string): string {
  const text = plain(raw)
  if (!/^-?\d+(\.\d+)?$/.test(text) && !(raw.startsWith('"') && NOT_FINITE.has(text)))
    refuse(raw, 'no decimal number; an exponent is none')
  return `"${text}"`
}

const text = (raw: string): string => (raw.startsWith('"') ? raw : refuse(raw, 'no text'))

/** As text, when the whole of it is as `pattern`. */
const like = (pattern: RegExp, what: string) => (raw: string) =>
  raw.startsWith('"') && pattern.test(plain(raw)) ? raw : refuse(raw, what)

const base64 = like(
  /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/,
  'no base64 with its padding',
)

function date(raw: string): string {
  const day = plain(raw)
  const is = /^\d{4}-\d\d-\d\d$/.test(day) && new Date(`${day}T00:00:00Z`).toJSON()?.startsWith(day)
  return is ? raw : refuse(raw, 'no date as 2026-01-31')
}

const TIME = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?$/

/** With a zone it becomes UTC. Digits behind microseconds must be zeros. */
const timestamp = (hasZone: boolean) => (raw: string) => {
  const what = `no time as 2026-01-31T10:00:00.5${hasZone ? 'Z, or with an offset as +02:00' : ', without a zone'}`
  const [, day, time, fraction = '', zone] = TIME.exec(plain(raw)) ?? []
  if (!raw.startsWith('"') || day === undefined || (zone !== undefined) !== hasZone) return refuse(raw, what)
  const ms = Date.parse(`${day}T${time}${zone ?? 'Z'}`)
  const digits = fraction.replace(/0+$/, '')
  // The library takes the 31st of February for the 3rd of March.
  const isDay = new Date(`${day}T00:00:00Z`).toJSON()?.startsWith(day)
  if (Number.isNaN(ms) || !isDay || digits.length > 6) return refuse(raw, what)
  return `"${timeText(BigInt(ms) * 1_000n + BigInt(digits.padEnd(6, '0')))}${hasZone ? 'Z' : ''}"`
}

/** Microseconds since 1970 as the log has times, without the zone. */
export const timeText = (us: bigint): string =>
  stampOfMicros(us, false)?.slice(1, -1) ?? refuse(String(us), 'no time that a year can be told of')

const SCALARS: Readonly<Record<TextType, (raw: string) => string>> = {
  bool: raw => (raw === 'true' || raw === 'false' ? raw : refuse(raw, 'neither true nor false')),
  int2: integer(16),
  int4: integer(32),
  int8: integer(64),
  float4: float,
  float8: float,
  numeric,
  text,
  json: raw => raw,
  jsonb: raw => raw,
  bytea: base64,
  uuid: like(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, 'no UUID'),
  date,
  time: like(/^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?$/, 'no time of a day as 10:00:00.5'),
  timestamp: timestamp(false),
  timestamptz: timestamp(true),
}

export const scalar = (type: TextType): Shape => ({ type, fromJson: SCALARS[type] })

/** In front of what is wrong with a value stands whose value it is. */
export function named<T>(what: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof ConnectorError)) throw error
    throw new ConnectorError(error.kind, `${what} ${error.message}`, error.hint ? { hint: error.hint } : {})
  }
}

/** Columns that come as members, checked and in the order of the declaration; `of`: what has them, for the message. */
export function declaredMembers(columns: readonly DeclaredColumn[], members: readonly Member[]): Member[] {
  const given = new Map(members)
  const row = columns.map((column): Member => {
    const raw = given.get(column.name)
    given.delete(column.name)
    if (raw === undefined && column.absent !== null) return [column.name, column.absent]
    if (raw === undefined)
      throw new ConnectorError('data', `has no ${column.name}, which the schema asks for`)
    return [column.name, declaredValue(column, raw)]
  })
  const [unknown] = given.keys()
  if (unknown !== undefined)
    throw new ConnectorError('data', `has ${quote(unknown)}, which the schema does not know`, {
      hint: `It knows ${columns.map(({ name }) => name).join(', ')}.`,
    })
  return row
}

export function declaredValue(column: DeclaredColumn, raw: string): string {
  if (raw !== 'null') return named(`${column.name} (${column.type})`, () => column.fromJson(raw))
  if (column.isNullable) return raw
  throw new ConnectorError('data', `${column.name} (${column.type}) is null, and the schema wants a value`)
}
