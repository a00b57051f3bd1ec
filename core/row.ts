/**
 * Rows as JSON text: split into columns (raw JSON text each), put together again, decoded. Contract file: connectors,
 * transforms and logs use it; imports record only. Nothing here turns a number into a double unless asked to (`decodeRow`).
 */
import type { Json, Table } from './record.ts'

/** Columns in order; `values[i]` is the raw JSON text of column `names[i]`. */
export interface Row {
  readonly names: string[]
  readonly values: string[]
}

const QUOTE = 34
const BACKSLASH = 92
const COMMA = 44
const COLON = 58
const OPEN_BRACE = 123
const CLOSE_BRACE = 125
const OPEN_BRACKET = 91
const CLOSE_BRACKET = 93

/** Characters that JSON text cannot hold as they are. */
const MUST_ESCAPE = /["\\\u0000-\u001f]|[\ud800-\udfff]/

/** A string as JSON text. */
export const quote = (text: string): string => (MUST_ESCAPE.test(text) ? JSON.stringify(text) : `"${text}"`)

/** Index just behind the string literal that opens at `at`. */
function stringEnd(text: string, at: number): number {
  let end = text.indexOf('"', at + 1)
  while (end >= 0) {
    let backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return end + 1
    end = text.indexOf('"', end + 1)
  }
  throw new SyntaxError(`unterminated string at ${at} of JSON text of ${text.length} characters`)
}

/** Index just behind the JSON value that begins at `at`. The text must be valid JSON without leading space there. */
export function valueEnd(text: string, at: number): number {
  const first = text.charCodeAt(at)
  if (first === QUOTE) return stringEnd(text, at)
  const nested = first === OPEN_BRACE || first === OPEN_BRACKET
  let depth = 0
  for (let i = at; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) i = stringEnd(text, i) - 1
    else if (c === OPEN_BRACE || c === OPEN_BRACKET) depth++
    else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      if (!nested) return i
      if (--depth === 0) return i + 1
    } else if (c === COMMA && !nested) return i
  }
  if (nested || at >= text.length)
    throw new SyntaxError(`value cut short at ${at} of JSON text of ${text.length} characters`)
  return text.length
}

/** Splits the JSON text of an object without spaces between its members. Throws SyntaxError when it is something else. */
export function splitRow(text: string): Row {
  if (text.charCodeAt(0) !== OPEN_BRACE || text.charCodeAt(text.length - 1) !== CLOSE_BRACE)
    throw new SyntaxError(`a row must be a JSON object, got ${text.slice(0, 40)}`)
  const names: string[] = []
  const values: string[] = []
  let i = 1
  while (i < text.length - 1) {
    const nameEnd = stringEnd(text, i)
    if (text.charCodeAt(nameEnd) !== COLON) throw new SyntaxError(`":" expected at ${nameEnd} of a row`)
    const end = valueEnd(text, nameEnd + 1)
    const raw = text.slice(i + 1, nameEnd - 1)
    names.push(raw.includes('\\') ? (JSON.parse(`"${raw}"`) as string) : raw)
    values.push(text.slice(nameEnd + 1, end))
    if (end < text.length - 1 && text.charCodeAt(end) !== COMMA)
      throw new SyntaxError(`"," expected at ${end} of a row`)
    i = end + 1
  }
  return { names, values }
}

export function joinRow(row: Row): string {
  let text = '{'
  for (let i = 0; i < row.names.length; i++)
    text += `${i === 0 ? '' : ','}${quote(row.names[i]!)}:${row.values[i]}`
  return `${text}}`
}

/** A scalar's raw JSON text as plain text: strings unquoted, the rest as written. */
export const plain = (raw: string): string =>
  raw.charCodeAt(0) !== QUOTE ? raw : raw.includes('\\') ? (JSON.parse(raw) as string) : raw.slice(1, -1)

/** A row as an object: int8 and numeric as strings (no digit is lost), everything else as JSON gives it. */
export function decodeRow(text: string, table: Table): { [column: string]: Json } {
  const { names, values } = splitRow(text)
  const out: { [column: string]: Json } = {}
  for (let i = 0; i < names.length; i++) {
    const type = table.columns.find(column => column.name === names[i])?.type
    const raw = values[i]!
    out[names[i]!] = type === 'int8' && raw !== 'null' ? raw : (JSON.parse(raw) as Json)
  }
  return out
}
