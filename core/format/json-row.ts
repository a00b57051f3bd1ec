/** Objects of JSON that came from outside as rows: their members as columns, without a digit lost; shapes that are shared. */
import type { Column, Table } from '../record.ts'
import { type Row, splitRow } from '../row.ts'

/** Names and raw JSON texts of an object's members; null: it is no JSON object. Of a name that comes twice the last counts. */
export function objectRow(text: string): Row | null {
  try {
    const value = JSON.parse(text) as unknown
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return null
  } catch {
    return null
  }
  const row = splitRow(compact(text))
  const last = new Map(row.names.map((name, i) => [name, row.values[i]!]))
  return last.size === row.names.length ? row : { names: [...last.keys()], values: [...last.values()] }
}

/** The same as pairs. */
export function objectMembers(text: string): [name: string, raw: string][] | null {
  const row = objectRow(text)
  return row === null ? null : row.names.map((name, i) => [name, row.values[i]!])
}

/** Space between tokens stands beside one of these, or at an end. */
const MAY_HOLD_SPACE = /\s[[\]{}:,]|[[\]{}:,]\s|^\s|\s$/
const STRING_OR_SPACE = /"(?:[^"\\]|\\.)*"|\s+/g

/** Valid JSON without the spaces between its tokens, everything else as it stood. */
const compact = (text: string): string =>
  MAY_HOLD_SPACE.test(text)
    ? text.replace(STRING_OR_SPACE, token => (token.startsWith('"') ? token : ''))
    : text

/** A name of `Column.type` that fits a raw JSON text. */
export function jsonType(raw: string): string {
  if (raw === 'null' || raw.startsWith('"')) return 'text'
  if (raw === 'true' || raw === 'false') return 'bool'
  if (raw.startsWith('{') || raw.startsWith('[')) return 'jsonb'
  if (!/^-?\d{1,19}$/.test(raw)) return 'float8'
  return raw.length < 19 || BigInt.asIntN(64, BigInt(raw)) === BigInt(raw) ? 'int8' : 'float8'
}

/** The same Table for the same shape, since identity is how records share one. */
export function tableShapes(
  schema: string,
): (name: string, key: readonly string[], columns: readonly Column[]) => Table {
  const tables = new Map<string, Table>()
  return (name, key, columns) => {
    const shape = JSON.stringify([name, key, columns.map(column => [column.name, column.type])])
    const table = tables.get(shape) ?? { schema, name, key, columns }
    tables.set(shape, table)
    return table
  }
}
