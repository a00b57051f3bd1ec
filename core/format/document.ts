/**
 * What every keyed sink makes of a row: its id and its document (design: "Bytes, numbers, ids"). Text in, text out: no digit
 * is lost on the way.
 */
import { ConnectorError } from '../errors.ts'
import type { ChangeRecord, Table } from '../record.ts'
import { joinRow, plain, splitRow } from '../row.ts'

/** How `numeric` stands in a document: as a JSON number with all its digits, or as the string the log holds. */
export type Numbers = 'literals' | 'strings'

/** One key column: its value as text. Several: a compact JSON array of their values in key order. */
export function idOf(record: ChangeRecord): string {
  // {"id":17} is what nearly every key looks like; the general way costs five times that.
  const { key, table } = record
  const { values } =
    table.key.length === 1 && isShort(key, table.key[0]!) ? shortKey(key, table.key[0]!) : splitRow(key)
  if (values.length === 0)
    throw new ConnectorError('data', `a record of ${table.schema}.${table.name} has no key: ${key}`)
  return values.length === 1 ? plain(values[0]!) : `[${values.join(',')}]`
}

const isShort = (key: string, column: string): boolean =>
  key.startsWith(column, 2) && key.startsWith('":', 2 + column.length)
const shortKey = (key: string, column: string) => ({ values: [key.slice(column.length + 4, -1)] })

const NUMBER = /^"(-?\d+(?:\.\d+)?)"$/
const NUMBERS = /"(-?\d+(?:\.\d+)?)"/g

/** The JSON text of the row as sinks store it. `row` is a record's `after` (or `before`). */
export function documentOf(row: string, table: Table, numbers: Numbers): string {
  if (numbers === 'strings') return row
  const numeric = numericColumns(table)
  if (numeric.size === 0) return row
  const { names, values } = splitRow(row)
  for (let i = 0; i < names.length; i++) {
    const array = numeric.get(names[i]!)
    if (array === undefined) continue
    values[i] = array ? values[i]!.replace(NUMBERS, '$1') : values[i]!.replace(NUMBER, '$1')
  }
  return joinRow({ names, values })
}

/** Name → whether it is an array. Kept by identity: all records of one shape share their Table. */
const numericByTable = new WeakMap<Table, ReadonlyMap<string, boolean>>()
function numericColumns(table: Table): ReadonlyMap<string, boolean> {
  let known = numericByTable.get(table)
  if (!known) {
    const columns = table.columns.filter(column => column.type === 'numeric' || column.type === 'numeric[]')
    known = new Map(columns.map(column => [column.name, column.type.endsWith('[]')]))
    numericByTable.set(table, known)
  }
  return known
}

/** Fills `${table}`, `${schema}` and `${topic}` of a sink's option. */
export const fillTarget = (template: string, table: Table, topic: string): string =>
  template.replace(/\$\{(table|schema|topic)\}/g, (_, name: string) =>
    name === 'table' ? table.name : name === 'schema' ? table.schema : topic,
  )
