/** Objects of JSON that came from outside as rows: their members as columns, without a digit lost; shapes that are shared. */
import type { Column, Table } from '../record.ts'
import { quote, type Row, splitRow, valueEnd } from '../row.ts'

/** Of an object: its name, and its value as raw JSON text. */
export type Member = readonly [name: string, raw: string]

/** Names of the last object of which none came twice: the next one's are mostly the same. */
let single: readonly string[] = []

function isSame(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Names and raw JSON texts of an object's members; null: it is no JSON object. Of a name that comes twice the last counts. */
export function objectRow(text: string): Row | null {
  try {
    const value = JSON.parse(text) as unknown
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return null
  } catch {
    return null
  }
  const row = splitRow(compact(text))
  if (isSame(row.names, single)) return row
  const last = new Map(row.names.map((name, i) => [name, row.values[i]!]))
  if (last.size === row.names.length) single = row.names
  return last.size === row.names.length ? row : { names: [...last.keys()], values: [...last.values()] }
}

const pairsOf = (row: Row): [name: string, raw: string][] =>
  row.names.map((name, i) => [name, row.values[i]!])

/** The same as pairs. */
export function objectMembers(text: string): [name: string, raw: string][] | null {
  const row = objectRow(text)
  return row && pairsOf(row)
}

/** The same of valid JSON without spaces between its tokens. */
export function membersOf(text: string): [name: string, raw: string][] | null {
  return text.startsWith('{') ? [...new Map(pairsOf(splitRow(text)))] : null
}

/** The items of an array, each as raw JSON text; null: it is none. Of valid JSON without spaces between its tokens. */
export function itemsOf(text: string): string[] | null {
  if (!text.startsWith('[')) return null
  const items: string[] = []
  for (let at = 1; at < text.length - 1; ) {
    const end = valueEnd(text, at)
    items.push(text.slice(at, end))
    at = end + 1
  }
  return items
}

export const objectOf = (members: readonly Member[]): string =>
  `{${members.map(([name, raw]) => `${quote(name)}:${raw}`).join(',')}}`

/** Space between tokens stands beside one of these, or at an end. */
const MAY_HOLD_SPACE = /\s[[\]{}:,]|[[\]{}:,]\s|^\s|\s$/

/** Valid JSON without the spaces between its tokens, everything else as it stood. Not by one pattern: its stack would limit the length of texts. */
export function compact(text: string): string {
  if (!MAY_HOLD_SPACE.test(text)) return text
  let out = ''
  let at = 0
  for (let open = text.indexOf('"'); open >= 0; open = text.indexOf('"', at)) {
    const end = valueEnd(text, open)
    out += text.slice(at, open).replace(/\s+/g, '') + text.slice(open, end)
    at = end
  }
  return out + text.slice(at).replace(/\s+/g, '')
}

/** A name of `Column.type` that fits a raw JSON text. */
export function jsonType(raw: string): string {
  if (raw === 'null' || raw.startsWith('"')) return 'text'
  if (raw === 'true' || raw === 'false') return 'bool'
  if (raw.startsWith('{') || raw.startsWith('[')) return 'jsonb'
  if (!/^-?\d{1,19}$/.test(raw)) return 'float8'
  return raw.length < 19 || BigInt.asIntN(64, BigInt(raw)) === BigInt(raw) ? 'int8' : 'float8'
}

function isSameColumns(a: readonly Column[], b: readonly Column[]): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i]!.name !== b[i]!.name || a[i]!.type !== b[i]!.type) return false
  return true
}

/** The same Table for the same shape, since identity is how records share one. */
export function tableShapes(
  schema: string,
): (name: string, key: readonly string[], columns: readonly Column[]) => Table {
  const tables = new Map<string, Table>()
  /** By name: most often the next record is of the same shape. */
  const last = new Map<string, Table>()
  return (name, key, columns) => {
    const before = last.get(name)
    if (before && isSame(before.key, key) && isSameColumns(before.columns, columns)) return before
    const shape = JSON.stringify([name, key, columns.map(column => [column.name, column.type])])
    const table = tables.get(shape) ?? { schema, name, key, columns }
    tables.set(shape, table)
    last.set(name, table)
    return table
  }
}
