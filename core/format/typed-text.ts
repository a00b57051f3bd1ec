/**
 * Texts that came from outside as values of a declared type: raw JSON text as the log holds it (numeric and times as strings, times with
 * zone in UTC, at most six digits of a second; years outside 1 to 9999 and infinity as connectors/postgres/values.ts has them). undefined:
 * it is none of that type.
 */
import { plain, quote } from '../row.ts'

export const TEXT_TYPES = [
  'bool',
  'int2',
  'int4',
  'int8',
  'float4',
  'float8',
  'numeric',
  'text',
  'json',
  'jsonb',
  'bytea',
  'uuid',
  'date',
  'time',
  'timestamp',
  'timestamptz',
] as const
export type TextType = (typeof TEXT_TYPES)[number]

export type FromText = (text: string) => string | undefined

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const TIME = /^\d\d:\d\d(?::\d\d(?:\.\d+)?)?$/
const DAY = /^(?:\d{4}|[+-]\d{6})-\d\d-\d\d$/
const ENDLESS = /^-?infinity$/
const TIMESTAMP =
  /^((?:\d{4}|[+-]\d{6})-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d+))?\s?(Z|[+-]\d\d(?::?\d\d)?)?$/i

export const FROM_TEXT: Readonly<Record<TextType, FromText>> = {
  bool: text =>
    /^(?:true|t|yes|1)$/i.test(text) ? 'true' : /^(?:false|f|no|0)$/i.test(text) ? 'false' : undefined,
  int2: text => integer(text, 16),
  int4: text => integer(text, 32),
  int8: text => integer(text, 64),
  float4: float,
  float8: float,
  numeric,
  text: quote,
  json: jsonOf,
  jsonb: jsonOf,
  bytea: text =>
    /^\\x(?:[0-9a-f]{2})*$/i.test(text)
      ? `"${Buffer.from(text.slice(2), 'hex').toString('base64')}"`
      : /^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.length % 4 === 0
        ? `"${text}"`
        : undefined,
  uuid: text =>
    /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text) ? `"${text.toLowerCase()}"` : undefined,
  date: text => (isDay(text) || ENDLESS.test(text) ? `"${text}"` : undefined),
  time: text => (TIME.test(text) ? `"${text}"` : undefined),
  timestamp: text => timestamp(text, false),
  timestamptz: text => timestamp(text, true),
}

function integer(text: string, bits: number): string | undefined {
  if (!/^[+-]?\d{1,40}$/.test(text)) return undefined
  const value = BigInt(text.startsWith('+') ? text.slice(1) : text)
  return BigInt.asIntN(bits, value) === value ? String(value) : undefined
}

function float(text: string): string | undefined {
  if (/^(?:NaN|-?Infinity)$/.test(text)) return `"${text}"`
  const value = Number(text)
  if (!/\d/.test(text) || !Number.isFinite(value) || /[^\d.eE+-]/.test(text)) return undefined
  return JSON_NUMBER.test(text) ? text : String(value)
}

const MOST_ZEROS = 1_000

/** Digits as they stand; an exponent is written out. */
function numeric(text: string): string | undefined {
  if (/^(?:NaN|-?Infinity)$/.test(text)) return `"${text}"`
  const parts = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d{1,5}))?$/i.exec(text)
  if (!parts || !/\d/.test(text)) return undefined
  const [, sign, whole = '', fraction = '', exponent] = parts
  const shift = Number(exponent ?? 0)
  if (whole === '' && fraction === '') return undefined
  if (Math.abs(shift) > MOST_ZEROS) return undefined
  const digits = whole + fraction + '0'.repeat(Math.max(0, shift - fraction.length))
  const point = Math.max(0, whole.length + shift)
  const front = (whole.length + shift < 0 ? '' : digits.slice(0, point)).replace(/^0+(?=\d)/, '')
  const behind = '0'.repeat(Math.max(0, -(whole.length + shift))) + digits.slice(point)
  return `"${sign === '-' ? '-' : ''}${front || '0'}${behind === '' ? '' : `.${behind}`}"`
}

function jsonOf(text: string): string | undefined {
  try {
    JSON.parse(text)
    // Control characters stand between tokens only.
    return text.replace(/[\u0000-\u001f]/g, ' ').trim()
  } catch {
    return undefined
  }
}

const isDay = (text: string): boolean => {
  if (!DAY.test(text)) return false
  const ms = Date.parse(text)
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text)
}

function timestamp(text: string, isUtc: boolean): string | undefined {
  if (ENDLESS.test(text)) return `"${text}"`
  const parts = TIMESTAMP.exec(text)
  if (!parts) return undefined
  const [, day, clock, fraction = '', zone = ''] = parts
  if (!isDay(day!)) return undefined
  if (!isUtc && zone !== '' && !/^(?:z|[+-]00(?::?00)?)$/i.test(zone)) return undefined
  const [, sign, hours = '0', minutes = '0'] = /^([+-])(\d\d):?(\d\d)?$/.exec(zone) ?? []
  const offsetMs = (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60_000
  const ms = Date.parse(`${day}T${clock!.length === 5 ? `${clock}:00` : clock}Z`) - offsetMs
  return Number.isNaN(ms) ? undefined : `"${stamp(ms, fraction, isUtc)}"`
}

/** `fraction`: digits of a second, of which six stay. */
const stamp = (ms: number, fraction: string, isUtc: boolean): string => {
  const rest = fraction.slice(0, 6).replace(/0+$/, '')
  return `${new Date(ms).toISOString().slice(0, -5)}${rest === '' ? '' : `.${rest}`}${isUtc ? 'Z' : ''}`
}

/** Microseconds since 1970 as raw JSON text; years outside 1 to 9999 as expanded years. */
export function stampOfMicros(micros: bigint, isUtc: boolean): string | undefined {
  const rest = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n
  const ms = Number((micros - rest) / 1_000n)
  if (Math.abs(ms) > 8.64e15) return undefined
  return `"${stamp(ms, String(rest).padStart(6, '0'), isUtc)}"`
}

/**
 * A value of raw JSON text as one of the declared type. `isText`: of a format whose values are all texts (CSV), where json stands in a
 * text; elsewhere a text is a JSON value by itself.
 */
export function castTo(type: TextType, isText: boolean): FromText {
  const of = FROM_TEXT[type]
  const isJson = type === 'json' || type === 'jsonb'
  if (isJson && !isText) return raw => raw
  return raw => {
    if (raw === 'null') return raw
    const first = raw.charCodeAt(0)
    if (first === 34) return of(plain(raw))
    if ((first === 123 || first === 91) && type !== 'text') return undefined // an object or a list
    return of(raw)
  }
}
