/**
 * Texts with `${…}` that are filled per record: names of indexes, tables and keys, ids, routings. Whatever decides where a row goes
 * must be the same for all of a row's changes, so that mostly only what never changes may stand in it: the table, and columns of the key.
 */
import type { ChangeRecord, LogRecord, Table } from '../record.ts'
import { plain, splitRow } from '../row.ts'
import { idOf } from './document.ts'

const PLACE = /\$\{([^}:]*)\}/g
const OF_TABLE = ['table', 'schema', 'topic'] as const

/** Names in `${…}`. */
export const placesOf = (template: string): readonly string[] =>
  [...template.matchAll(PLACE)].map(([, name]) => name!)

/** Texts and, at odd places, the names between them. */
export const partsOf = (template: string): readonly string[] => template.split(PLACE)

/** Why a template of a table's name (index, alias) cannot be; null: it can. */
export function badTableTemplate(template: string): string | null {
  const bad = placesOf(template).find(name => !(OF_TABLE as readonly string[]).includes(name))
  return bad === undefined ? null : `\${${bad}} is not filled here: there is \${table}, \${schema}, \${topic}`
}

/** Why a template of a row (id, routing) cannot be with this table; null: it can. */
export function badRowTemplate(template: string, { schema, name, key }: Table): string | null {
  const known = [...OF_TABLE, 'key', ...key]
  const bad = placesOf(template).find(place => !known.includes(place))
  return bad === undefined
    ? null
    : `\${${bad}} is no column of the key of ${schema}.${name}, so that it may change and leave a copy behind; there is ${known.map(one => `\${${one}}`).join(', ')}`
}

/** Why a template that any column may stand in cannot be with this table; null: it can. */
export function badColumnTemplate(template: string, { schema, name, columns }: Table): string | null {
  const known = [...OF_TABLE, 'key', ...columns.map(column => column.name)]
  const bad = placesOf(template).find(place => !known.includes(place))
  return bad === undefined
    ? null
    : `\${${bad}} is no column of ${schema}.${name}; there is ${known.map(one => `\${${one}}`).join(', ')}`
}

const fill = (template: string, textOf: (name: string) => string): string =>
  template.replace(PLACE, (_, name: string) => textOf(name))

const ofTable = (name: string, table: Table, topic: string): string | null =>
  name === 'table' ? table.name : name === 'schema' ? table.schema : name === 'topic' ? topic : null

export const fillTable = (template: string, table: Table, topic: string): string =>
  fill(template, name => ofTable(name, table, topic) ?? '')

export function fillRow(template: string, record: LogRecord): string {
  let columns: Map<string, string> | null = null
  return fill(template, name => {
    const fromTable = ofTable(name, record.table, record.topic)
    if (fromTable !== null) return fromTable
    if (name === 'key') return idOf(record)
    columns ??= keyColumns(record)
    return columns.get(name) ?? ''
  })
}

function keyColumns({ key }: ChangeRecord): Map<string, string> {
  const { names, values } = splitRow(key)
  return new Map(names.map((name, i) => [name, plain(values[i]!)]))
}
