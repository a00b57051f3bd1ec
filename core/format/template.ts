/**
 * Texts with `${…}` that are filled per record: names of indexes, tables and keys, ids, routings. Whatever decides where a row goes
 * must be the same for all of a row's changes, so that mostly only what never changes may stand in it: the table, and columns of the key.
 */
import { ConnectorError } from '../errors.ts'
import type { LogRecord, Table } from '../record.ts'
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

/** Fills a template for a record. `row`: JSON text of an object with what is no column of the key; null: nothing but the key is known. */
export type RowFiller = (record: LogRecord, row?: string | null) => string

/**
 * Made ready once for each shape of a table, since it is done for each record. Throws `data` for a column whose value is not known,
 * as of a delete without the row before.
 */
export function rowFiller(template: string): RowFiller {
  const byTable = new WeakMap<Table, RowFiller>()
  return (record, row) => {
    let filler = byTable.get(record.table)
    if (!filler) {
      filler = fillerFor(template, record.table, record.topic)
      byTable.set(record.table, filler)
    }
    return filler(record, row)
  }
}

function fillerFor(template: string, table: Table, topic: string): RowFiller {
  const texts: string[] = ['']
  const names: string[] = []
  for (const [i, part] of partsOf(template).entries()) {
    const fixed = i % 2 === 0 ? part : ofTable(part, table, topic)
    if (fixed !== null) texts[texts.length - 1] += fixed
    else {
      names.push(part)
      texts.push('')
    }
  }
  const [before, after] = [texts[0]!, texts[1]]
  if (names.length === 0) return () => before
  if (names.length === 1 && names[0] === 'key') return record => before + idOf(record) + after
  return (record, row = null) => {
    const columns = columnsOf(record.key)
    const others = names.every(name => name === 'key' || columns.has(name)) ? null : columnsOf(row ?? '{}')
    let text = before
    for (const [i, name] of names.entries())
      text +=
        (name === 'key' ? idOf(record) : (columns.get(name) ?? others?.get(name) ?? unknown(name, record))) +
        texts[i + 1]
    return text
  }
}

function unknown(name: string, { table, key }: LogRecord): never {
  throw new ConnectorError(
    'data',
    `the ${name} of ${table.schema}.${table.name} ${key} is not known, and \${${name}} is to be filled with it`,
    { hint: 'A delete tells only the key, unless the table has REPLICA IDENTITY FULL.' },
  )
}

const fillers = new Map<string, RowFiller>()

/** Templates are few: those of the files that run here. */
export function fillRow(template: string, record: LogRecord): string {
  const filler = fillers.get(template) ?? rowFiller(template)
  fillers.set(template, filler)
  return filler(record)
}

/** Null as ''. */
function columnsOf(row: string): Map<string, string> {
  const { names, values } = splitRow(row)
  return new Map(names.map((name, i) => [name, values[i] === 'null' ? '' : plain(values[i]!)]))
}
