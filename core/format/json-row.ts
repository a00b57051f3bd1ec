/** Objects of JSON that came from outside as rows: their members as columns, without a digit lost; shapes that are shared. */
import type { Column, Table } from '../record.ts'
import { splitRow } from '../row.ts'

/** Name and raw JSON text of each member; null: it is no JSON object. Of a name that comes twice the last counts. */
export function objectMembers(text: string): [name: string, raw: string][] | null {
  try {
    const value = JSON.parse(text) as unknown
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return null
  } catch {
    return null
  }
  const { names, values } = splitRow(compact(text))
  return [...new Map(names.map((name, i) => [name, values[i]!]))]
}

/** Valid JSON without the spaces between its tokens, everything else as it stood. */
function compact(text: string): string {
  let out = ''
  for (let at = 0; at < text.length; ) {
    if (text[at] === '"') {
      let end = at + 1
      while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1
      out += text.slice(at, end + 1)
      at = end + 1
    } else {
      if (!/\s/.test(text[at]!)) out += text[at]
      at++
    }
  }
  return out
}

/** A name of `Column.type` that fits a raw JSON text. */
export function jsonType(raw: string): string {
  if (raw === 'null' || raw.startsWith('"')) return 'text'
  if (raw === 'true' || raw === 'false') return 'bool'
  if (raw.startsWith('{') || raw.startsWith('[')) return 'jsonb'
  return /^-?\d{1,15}$/.test(raw) ? 'int8' : 'float8'
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
