/**
 * PostgreSQL's text of a value → raw JSON text, by type; and back, for the values of a key. Lossless: no number becomes a
 * double on the way. The text must have been written under the settings of connect.ts (UTC, ISO, hex).
 *
 *   bool, int2, int4, int8, finite floats   JSON literals, as the server prints them
 *   numeric; NaN, Infinity                  strings
 *   bytea                                   base64
 *   json, jsonb                             embedded as they are; newlines between tokens become spaces
 *   date, timestamp, timestamptz            2026-01-31, 2026-01-31T10:00:00.5, 2026-01-31T10:00:00.5Z; infinity, -infinity.
 *                                           Years outside 1 to 9999 as ISO 8601's expanded years: sign, at least six digits,
 *                                           and a year 0: +012345-01-01; 44 BC is -000043
 *   timetz, interval                        10:00:00+02:00; P1DT2H
 *   arrays                                  JSON arrays of these, nested; lower bounds are dropped
 *   everything else                         its text
 *
 * Bytes at speed are encode.ts' business.
 */
import { ConnectorError } from '../../core/errors.ts'
import { plain, quote, valueEnd } from '../../core/row.ts'

/** How encode.ts treats the bytes of a value. */
export const KIND = {
  number: 0,
  bool: 1,
  ascii: 2,
  text: 3,
  date: 4,
  timestamp: 5,
  timestamptz: 6,
  json: 7,
  other: 8,
} as const
export type Kind = (typeof KIND)[keyof typeof KIND]

export interface PgType {
  /** As `Column.type` has it: "int4", "text[]"; "text" for what is not known. */
  readonly name: string
  readonly kind: Kind
  /** From PostgreSQL's text; never null. */
  toJson(text: string): string
  /** From raw JSON text that `toJson` made, to a text that PostgreSQL reads as the same value. */
  toText(raw: string): string
}

const isSpecial = (text: string): boolean => /^(NaN|-?Infinity)$/.test(text)
const numberJson = (text: string): string => (isSpecial(text) ? `"${text}"` : text)
const asciiJson = (text: string): string => `"${text}"`

// json may hold line breaks and tabs between its tokens; inside its strings control characters are escaped already.
const jsonJson = (text: string): string => text.replace(/[\u0000-\u001f]/g, ' ').trim()

function byteaJson(text: string): string {
  if (!text.startsWith('\\x')) throw new ConnectorError('bug', 'a bytea came in another format than hex')
  return `"${Buffer.from(text.slice(2), 'hex').toString('base64')}"`
}
const byteaText = (raw: string): string => `\\x${Buffer.from(plain(raw), 'base64').toString('hex')}`

const TIME = /^(\d+)-(\d\d-\d\d)(?: (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d(?::\d\d){0,2})?)?( BC)?$/

/** date, timestamp and timestamptz. */
function timeJson(text: string): string {
  const parts = text.match(TIME)
  if (!parts) return quote(text) // infinity, -infinity
  const [, year, day, time, zone, bc] = parts
  const at =
    time === undefined ? '' : `T${time}${zone === undefined ? '' : zone === '+00' ? 'Z' : zoneOf(zone)}`
  return `"${yearOf(year!, bc !== undefined)}-${day}${at}"`
}

/** ISO 8601 has a year 0, which is 1 BC; a year of more or less than four digits has a sign. */
function yearOf(year: string, isBc: boolean): string {
  if (!isBc) return year.length <= 4 ? year.padStart(4, '0') : `+${year.padStart(6, '0')}`
  const before = Number(year) - 1
  return before === 0 ? '0000' : `-${String(before).padStart(6, '0')}`
}

const zoneOf = (zone: string): string => (zone.length === 3 ? `${zone}:00` : zone)
const timetzJson = (text: string): string => {
  const sign = Math.max(text.lastIndexOf('+'), text.lastIndexOf('-'))
  return `"${text.slice(0, sign)}${zoneOf(text.slice(sign))}"`
}

function timeText(raw: string): string {
  const text = plain(raw)
  const parts = text.match(/^([+-]?\d+)(-\d\d-\d\d)(.*)$/)
  if (!parts) return text
  const year = Number(parts[1])
  const isBc = year <= 0
  return `${String(isBc ? 1 - year : year).padStart(4, '0')}${parts[2]}${parts[3]}${isBc ? ' BC' : ''}`
}

const type = (
  name: string,
  kind: Kind,
  toJson: (text: string) => string,
  toText: (raw: string) => string = plain,
): PgType => ({ name, kind, toJson, toText })

const number = (name: string) => type(name, KIND.number, numberJson)
const ascii = (name: string) => type(name, KIND.ascii, asciiJson)
const text = (name: string) => type(name, KIND.text, quote)

/** What is not known: its text. */
export const TEXT = text('text')

/** By oid of the type, with the oid of its array type (pg_type.dat). */
const KNOWN: readonly (readonly [oid: number, array: number, type: PgType])[] = [
  [16, 1000, type('bool', KIND.bool, value => (value === 't' ? 'true' : 'false'))],
  [21, 1005, number('int2')],
  [23, 1007, number('int4')],
  [20, 1016, number('int8')],
  [700, 1021, number('float4')],
  [701, 1022, number('float8')],
  [1700, 1231, ascii('numeric')],
  [25, 1009, TEXT],
  [1043, 1015, text('varchar')],
  [1042, 1014, text('bpchar')],
  [19, 1003, text('name')],
  [18, 1002, text('char')],
  [2950, 2951, ascii('uuid')],
  [114, 199, type('json', KIND.json, jsonJson, raw => raw)],
  [3802, 3807, type('jsonb', KIND.json, jsonJson, raw => raw)],
  [1082, 1182, type('date', KIND.date, timeJson, timeText)],
  [1083, 1183, ascii('time')],
  [1266, 1270, type('timetz', KIND.other, timetzJson)],
  [1114, 1115, type('timestamp', KIND.timestamp, timeJson, timeText)],
  [1184, 1185, type('timestamptz', KIND.timestamptz, timeJson, timeText)],
  [1186, 1187, ascii('interval')],
  [17, 1001, type('bytea', KIND.other, byteaJson, byteaText)],
]

/** The type of the elements' array. `delimiter` is `;` for box alone. */
export function arrayOf(element: PgType, delimiter = ','): PgType {
  return type(
    `${element.name}[]`,
    KIND.other,
    value => arrayJson(value, element, delimiter),
    raw => arrayText(raw, element, delimiter),
  )
}

const TYPES = new Map<number, PgType>(
  KNOWN.flatMap(([oid, array, known]) => [
    [oid, known],
    [array, arrayOf(known)],
  ]),
)

/** By oid, domains resolved by the caller. */
export const typeOf = (oid: number): PgType => TYPES.get(oid) ?? TEXT
export const isKnownType = (oid: number): boolean => TYPES.has(oid)

const NAMED = new Map([...TYPES.values()].map(one => [one.name, one]))

/** By the name that a `Column` has; what is not known is text. */
export const typeNamed = (name: string): PgType => NAMED.get(name) ?? TEXT

const QUOTE = 34
const BACKSLASH = 92
const OPEN = 123
const CLOSE = 125

/** {1,NULL,"a \"b\""}, {{1,2},{3,4}}, [0:1]={1,2} → JSON (array_out of PostgreSQL's arrayfuncs.c). */
function arrayJson(text: string, element: PgType, delimiter: string): string {
  const cut = delimiter.charCodeAt(0)
  let at = text.charCodeAt(0) === OPEN ? 0 : text.indexOf('=') + 1
  let out = ''
  const broken = () =>
    new ConnectorError('bug', `an array of ${element.name} cannot be read at character ${at}`)
  if (text.charCodeAt(at) !== OPEN) throw broken()
  for (; at < text.length; at++) {
    const c = text.charCodeAt(at)
    if (c === OPEN) out += '['
    else if (c === CLOSE) out += ']'
    else if (c === cut) out += ','
    else if (c === QUOTE) {
      const end = quotedEnd(text, at)
      if (end < 0) throw broken()
      const inner = text.slice(at + 1, end)
      out += element.toJson(inner.includes('\\') ? inner.replace(/\\(.)/gs, '$1') : inner)
      at = end
    } else {
      const from = at
      while (at < text.length && text.charCodeAt(at) !== cut && text.charCodeAt(at) !== CLOSE) at++
      const bare = text.slice(from, at)
      out += bare === 'NULL' ? 'null' : element.toJson(bare)
      at--
    }
  }
  return out
}

/** Where the closing quote of an array's element stands; -1: nowhere. */
function quotedEnd(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === BACKSLASH) i++
    else if (c === QUOTE) return i
  }
  return -1
}

/** A JSON array whose elements may themselves be json arrays is told apart by the type: those of json are not nested here. */
function arrayText(raw: string, element: PgType, delimiter: string): string {
  if (raw === '[]') return '{}'
  const parts: string[] = []
  let at = 1
  while (at < raw.length - 1) {
    const end = valueEnd(raw, at)
    const value = raw.slice(at, end)
    if (value === 'null') parts.push('NULL')
    else if (value.startsWith('[') && element.kind !== KIND.json)
      parts.push(arrayText(value, element, delimiter))
    else parts.push(`"${element.toText(value).replace(/["\\]/g, '\\$&')}"`)
    at = end + 1
  }
  return `{${parts.join(delimiter)}}`
}
