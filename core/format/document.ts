/**
 * What every keyed sink makes of a row: its id and its document (design: "Bytes, numbers, ids"). Text in, text out: no digit
 * is lost on the way.
 */
import { ConnectorError } from '../errors.ts'
import type { ChangeRecord, Table } from '../record.ts'
import { joinRow, plain, quote, splitRow } from '../row.ts'

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

/** Raw JSON text of a column's value → another. */
export type Convert = (raw: string) => string

/** The JSON text of the row as sinks store it. `row` is a record's `after` (or `before`); `converts`: what else becomes of columns. */
export function documentOf(
  row: string,
  table: Table,
  numbers: Numbers,
  converts: ReadonlyMap<string, Convert> = NONE,
): string {
  const shape = shapeOf(table)
  const isPlain = numbers === 'strings' || shape.converts.size === 0
  if (isPlain && converts.size === 0) return row
  if (shape.members && converts.size === 0) return unquoted(row, shape.members)
  const { names, values } = splitRow(row)
  for (const [i, name] of names.entries()) {
    const raw = values[i]!
    const value = isPlain ? raw : (shape.converts.get(name)?.(raw) ?? raw)
    values[i] = converts.get(name)?.(value) ?? value
  }
  return joinRow({ names, values })
}

const NONE: ReadonlyMap<string, Convert> = new Map()

const literal: Convert = raw => raw.replace(NUMBER, '$1')
const literals: Convert = raw => raw.replace(NUMBERS, '$1')

interface Shape {
  /** Of numeric columns. */
  readonly converts: ReadonlyMap<string, Convert>
  /** `"price":"` of each numeric column, where none but the row's own members can read so; else null. */
  readonly members: readonly string[] | null
}

/** Kept by identity: all records of one shape share their Table. */
const shapeByTable = new WeakMap<Table, Shape>()

function shapeOf(table: Table): Shape {
  const known = shapeByTable.get(table)
  if (known) return known
  const converts = new Map<string, Convert>()
  for (const { name, type } of table.columns)
    if (type === 'numeric') converts.set(name, literal)
    else if (type === 'numeric[]') converts.set(name, literals)
  const isFlat = table.columns.every(({ type }) => FLAT.has(type))
  const shape = { converts, members: isFlat ? [...converts.keys()].map(name => `${quote(name)}:"`) : null }
  shapeByTable.set(table, shape)
  return shape
}

/** Types whose values hold no members of their own. */
const FLAT = new Set([
  ...[
    'bool',
    'int2',
    'int4',
    'int8',
    'float4',
    'float8',
    'numeric',
    'text',
    'varchar',
    'bpchar',
    'name',
    'char',
  ],
  ...[
    'uuid',
    'date',
    'time',
    'timetz',
    'timestamp',
    'timestamptz',
    'interval',
    'bytea',
    'text[]',
    'varchar[]',
  ],
])

/**
 * Without taking the row apart, which costs five times as much. A quote inside a text is escaped, and so a member's mark behind `{`
 * or a comma is that member.
 */
function unquoted(row: string, members: readonly string[]): string {
  if (!row.startsWith('{') || !row.endsWith('}'))
    throw new SyntaxError(`a row must be a JSON object, got ${row.slice(0, 40)}`)
  let text = row
  for (const member of members) {
    const before = text.startsWith(member, 1) ? 1 : text.indexOf(`,${member}`) + 1
    if (before === 0) continue // null, or not there
    const open = before + member.length - 1
    const end = text.indexOf('"', open + 1) + 1
    text = text.slice(0, open) + literal(text.slice(open, end)) + text.slice(end)
  }
  return text
}
