/**
 * Texts with `${…}` that are filled per record: names of indexes and aliases, ids, routings. Whatever decides where a row goes must
 * be the same for all of a row's changes, so that only what never changes may stand in it: the table, and columns of the key.
 */
import { idOf } from '../../core/format/document.ts'
import type { ChangeRecord, LogRecord, Table } from '../../core/record.ts'
import { plain, splitRow } from '../../core/row.ts'

const PLACE = /\$\{([^}:]*)\}/g
const OF_TABLE = ['table', 'schema', 'topic'] as const

/** Names in `${…}`. */
export const placesOf = (template: string): readonly string[] =>
  [...template.matchAll(PLACE)].map(([, name]) => name!)

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

const fill = (template: string, textOf: (name: string) => string): string =>
  template.replace(PLACE, (_, name: string) => textOf(name))

const ofTable = (name: string, table: Table, topic: string): string | null =>
  name === 'table' ? table.name : name === 'schema' ? table.schema : name === 'topic' ? topic : null

export const fillTable = (template: string, table: Table, topic: string): string =>
  fill(template, name => ofTable(name, table, topic) ?? '')

/** All indexes that a template can name, for a path: `*` for whatever is filled. */
export const indexPattern = (template: string): string =>
  template
    .split(PLACE)
    .map((part, i) => (i % 2 === 1 ? '*' : encodeURIComponent(cleanName(part))))
    .join('')
    .replace(/\*+/g, '*')

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

/**
 * A name as an index may have it (lower case, no `\ / * ? " < > | , #`, blank or colon, no leading `-`, `_` or `+`), in at most 255
 * bytes. What is altered is altered the same for every record, and `plan` refuses two tables that meet.
 */
export function indexName(text: string): string {
  const clean = cleanName(text).replace(/^[-_+]+/, '')
  const name = clean === '' || clean === '.' || clean === '..' ? 'table' : clean
  return Buffer.from(name)
    .subarray(0, 255)
    .toString('utf8')
    .replace(/\uFFFD+$/, '')
}

const cleanName = (text: string): string => text.toLowerCase().replace(/[\\/*?"<>|,#\s:]/g, '_')
