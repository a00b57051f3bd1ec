/** A row of an object as a change: its columns with their types, its key, its table. */
import { ConnectorError } from '../../core/errors.ts'
import { jsonType, tableShapes } from '../../core/format/json-row.ts'
import type { RowIn } from '../../core/format/row-in.ts'
import { castTo, type FromText } from '../../core/format/typed-text.ts'
import type { ChangeRecord, Column, Table } from '../../core/record.ts'
import { quote } from '../../core/row.ts'
import type { ObjectSourceConfig } from './source-config.ts'
import type { Found } from './store.ts'

export const PLACE_KEY = ['_object', '_line'] as const
const PLACE_COLUMNS: readonly Column[] = [
  { name: '_object', type: 'text' },
  { name: '_line', type: 'int8' },
]

export interface RowOptions {
  readonly connector: string
  /** Of an object in no folder, unless the options name one. */
  readonly holder: string
  readonly options: Pick<ObjectSourceConfig, 'table' | 'key' | 'columns'>
}

export const tableNameOf = (name: string, { holder, options }: RowOptions): string =>
  options.table ?? (name.includes('/') ? name.slice(0, name.indexOf('/')) : holder)

/** What rows with the same names share. */
interface Shape {
  readonly names: readonly string[]
  /** By the format: CSV and Parquet. */
  readonly types: readonly string[] | null
  /** `,"name":` of each that is put into the row. */
  readonly labels: readonly string[]
  readonly casts: readonly (FromText | null)[]
  readonly declared: readonly (string | null)[]
  /** Where the columns of the key stand. */
  readonly keyAt: readonly number[]
  current: string[]
  table: Table | null
}

export type ToRecord = (row: RowIn, nowMs: number) => ChangeRecord

/** `isText`: the object's format has texts only. Throws `config` for a row that does not fit its options. */
export type RowsOf = (object: Found, isText: boolean) => ToRecord

export function rowReader(given: RowOptions): RowsOf {
  const { connector, options } = given
  const tableOf = tableShapes(connector)
  /** Types that the values of a table's column had so far, so that its shape does not change with each null. */
  const seen = new Map<string, Map<string, string>>()
  return (object, isText) => {
    const table = tableNameOf(object.name, given)
    const known = seen.get(table) ?? new Map<string, string>()
    seen.set(table, known)
    const shapes = new Map<string, Shape>()
    let shape: Shape | null = null
    const shapeOf = ({ names, types }: RowIn): Shape => {
      if (shape && (shape.names === names || isSame(shape.names, names))) return shape
      const text = JSON.stringify(names)
      shape = shapes.get(text) ?? newShape(names, types, options, isText)
      shapes.set(text, shape)
      return shape
    }
    const place = `{"_object":${quote(object.name)},"_line":`
    const source = `{"connector":"${connector}","schema":"${connector}","table":${quote(table)},"object":${quote(object.name)},"line":`
    return (row, nowMs) => {
      const own = shapeOf(row)
      const values = valuesOf(row, own, known)
      own.table ??= tableOf(table, options.key ?? PLACE_KEY, columnsOf(own, options.key === undefined))
      const key = options.key ? keyOf(row, own, options.key, values) : `${place}${row.line}}`
      let after = options.key ? '{' : `${place}${row.line}`
      for (let i = 0; i < values.length; i++) {
        const label = own.labels[i]!
        if (label !== '') after += label + values[i]
      }
      return {
        op: options.key ? 'u' : 'c',
        table: own.table,
        key,
        before: null,
        after: `${after}}`,
        source: `${source}${row.line},"snapshot":false}`,
        commitMs: object.modifiedMs,
        readMs: nowMs,
        below: null,
      }
    }
  }
}

const isSame = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((name, i) => name === b[i])

function newShape(
  names: readonly string[],
  types: readonly string[] | null,
  { key, columns }: RowOptions['options'],
  isText: boolean,
): Shape {
  const isOwn = (name: string) => key === undefined && (PLACE_KEY as readonly string[]).includes(name)
  const first = names.findIndex(name => !isOwn(name))
  return {
    names,
    types,
    labels: names.map((name, i) => (isOwn(name) ? '' : `${key && i === first ? '' : ','}${quote(name)}:`)),
    casts: names.map(name => (Object.hasOwn(columns, name) ? castTo(columns[name]!, isText) : null)),
    declared: names.map((name, i) => (Object.hasOwn(columns, name) ? columns[name]! : (types?.[i] ?? null))),
    keyAt: (key ?? []).map(name => names.indexOf(name)),
    current: names.map((_, i) => types?.[i] ?? 'text'),
    table: null,
  }
}

const columnsOf = ({ names, labels, current }: Shape, hasPlace: boolean): readonly Column[] => [
  ...(hasPlace ? PLACE_COLUMNS : []),
  ...names.map((name, i) => ({ name, type: current[i]! })).filter((_, i) => labels[i] !== ''),
]

/** Raw JSON texts; sets the shape's types. */
function valuesOf(row: RowIn, shape: Shape, known: Map<string, string>): readonly string[] {
  const { names, casts, declared, current } = shape
  let values: string[] | null = null
  for (let i = 0; i < names.length; i++) {
    let raw = row.values[i]!
    const cast = casts[i]
    if (cast) {
      const made = cast(raw)
      if (made === undefined) throw badValue(row, names[i]!, raw, declared[i]!)
      if (made !== raw) {
        values ??= [...row.values]
        values[i] = raw = made
      }
    }
    const type = declared[i] ?? typeSeen(names[i]!, raw, known)
    if (type === current[i]) continue
    current[i] = type
    shape.table = null
  }
  return values ?? row.values
}

function typeSeen(name: string, raw: string, known: Map<string, string>): string {
  const before = known.get(name)
  if (raw === 'null') return before ?? 'text'
  const type = jsonType(raw)
  if (type === before) return type
  const joined = before === undefined ? type : join(before, type)
  known.set(name, joined)
  return joined
}

/** A type that takes the values of both. */
function join(a: string, b: string): string {
  if (a === 'jsonb' || b === 'jsonb') return 'jsonb'
  return [a, b].every(one => one === 'int8' || one === 'float8') ? 'float8' : a === b ? a : 'text'
}

function keyOf(row: RowIn, shape: Shape, key: readonly string[], values: readonly string[]): string {
  let text = '{'
  for (let i = 0; i < key.length; i++) {
    const raw = values[shape.keyAt[i]!]
    if (raw === undefined || raw === 'null')
      throw new ConnectorError('config', `line ${row.line} has no ${key[i]}, which is a part of the key`, {
        hint: 'See `key` of the source.',
      })
    text += `${i === 0 ? '' : ','}${quote(key[i]!)}:${raw}`
  }
  return `${text}}`
}

const badValue = ({ line }: RowIn, name: string, raw: string, type: string): ConnectorError =>
  new ConnectorError('config', `line ${line} holds in ${name} ${raw.slice(0, 60)}, which is no ${type}`, {
    hint: 'See `columns` of the source, or mend the object.',
  })
