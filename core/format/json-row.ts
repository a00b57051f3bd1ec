/** Objects of JSON that came from outside as rows: their members as columns, without a digit lost; shapes that are shared. */
import type { Column, Table } from '../record.ts'
import { quote, splitRow, valueEnd } from '../row.ts'

/** Of an object: its name, and its value as raw JSON text. */
export type Member = readonly [name: string, raw: string]

/** Name and raw JSON text of each member; null: it is no JSON object. Of a name that comes twice the last counts. */
export function objectMembers(text: string): [name: string, raw: string][] | null {
  try {
    JSON.parse(text)
  } catch {
    return null
  }
  return membersOf(compact(text))
}

/** The same of valid JSON without spaces between its tokens. */
export function membersOf(text: string): [name: string, raw: string][] | null {
  if (!text.startsWith('{')) return null
  const { names, values } = splitRow(text)
  return [...new Map(names.map((name, i) => [name, values[i]!]))]
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

/** Valid JSON without the spaces between its tokens, everything else as it stood. */
export function compact(text: string): string {
  if (!/\s/.test(text)) return text
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
