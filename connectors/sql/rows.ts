/** Rows taken apart into the raw JSON texts of their columns, in an order known beforehand: without making each column's name anew. */
import { ConnectorError } from '../../core/errors.ts'
import type { LogRecord } from '../../core/record.ts'
import { quote, splitRow, valueEnd } from '../../core/row.ts'

export interface Layout {
  readonly names: readonly string[]
  /** `{"a":` or `,"b":` */
  readonly marks: readonly string[]
}

export const layoutOf = (names: readonly string[]): Layout => ({
  names,
  marks: names.map((name, i) => `${i === 0 ? '{' : ','}${quote(name)}:`),
})

const CLOSE_BRACE = 125

/** Raw JSON text of each column of the layout; a column that the row does not have is null. */
export function valuesOf(row: string, { names, marks }: Layout): string[] {
  const values: string[] = new Array(names.length)
  let at = 0
  for (let i = 0; i < marks.length; i++) {
    const mark = marks[i]!
    if (!row.startsWith(mark, at)) return valuesByName(row, names)
    const from = at + mark.length
    at = valueEnd(row, from)
    values[i] = row.slice(from, at)
  }
  return row.charCodeAt(at) === CLOSE_BRACE && at === row.length - 1 ? values : valuesByName(row, names)
}

function valuesByName(row: string, names: readonly string[]): string[] {
  const found = splitRow(row)
  const places = new Map(found.names.map((name, i) => [name, i]))
  return names.map(name => found.values[places.get(name) ?? -1] ?? 'null')
}

const HALF = /\p{Surrogate}/u

/** UTF-8 has no half of a surrogate pair: it would become another character without a word. */
export function whole(text: string, column: string): string {
  if (HALF.test(text))
    throw new ConnectorError('data', `${column} holds half of a surrogate pair, which is no character`)
  return text
}

/** What is known of a row when it was deleted; of a sweep nothing. */
export const appendRow = ({ op, after, before, key }: LogRecord): string =>
  op === 'sweep' ? '{}' : (after ?? before ?? key)
