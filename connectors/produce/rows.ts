/**
 * What people send as records of a topic:
 *
 *   application/json        {…}   [{…}, …]   {"records":[{"value":{…}}, {"key":{…},"value":null}]}      null: the row is deleted
 *   application/x-ndjson    one of {…} a line
 *   application/avro        one record's bytes, or a container file        application/x-protobuf    one message
 */
import type { WrittenTopic } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import {
  type DeclaredColumn,
  type DeclaredRows,
  declaredMembers,
  declaredValue,
  scalar,
} from '../../core/format/declared.ts'
import {
  compact,
  itemsOf,
  jsonType,
  type Member,
  membersOf,
  objectMembers,
  objectOf,
  tableShapes,
} from '../../core/format/json-row.ts'
import type { ChangeRecord, Column } from '../../core/record.ts'
import { quote } from '../../core/row.ts'
import type { TopicConfig } from './config.ts'
import { columnsOf, tableNameOf } from './schema.ts'

const JSON_TYPE = 'application/json'
const LINES_TYPE = 'application/x-ndjson'
const BYTES_TYPES = { avro: 'application/avro', protobuf: 'application/x-protobuf' } as const

/** A row, or the key of one that goes. */
type Item =
  | { readonly row: readonly Member[]; readonly isTyped?: true; readonly given?: readonly Member[] }
  | { readonly gone: readonly Member[] }

/** `rowsOf`: of the declared schema; null: none is declared. */
export function writtenTopic(topic: TopicConfig, rowsOf: () => DeclaredRows | null): WrittenTopic {
  const { schema, name } = tableNameOf(topic)
  const { key, format } = topic
  const read = recordReader(topic, rowsOf)
  return {
    table: { schema, name, key, columns: [] },
    takes: [JSON_TYPE, LINES_TYPE, ...(format === 'json' ? [] : [BYTES_TYPES[format]])],
    *records(body, type, nowMs) {
      const items =
        type === JSON_TYPE
          ? jsonItems(textOf(body), key)
          : type === LINES_TYPE
            ? lineItems(textOf(body))
            : bytesItems(rowsOf()!, body)
      for (const item of items) yield read(item, nowMs)
    },
  }
}

function* bytesItems(rows: DeclaredRows, body: Buffer): Generator<Item> {
  for (const row of rows.decode(body)) yield { row, isTyped: true }
}

const bad = (what: string, hint?: string): ConnectorError =>
  new ConnectorError('data', what, hint === undefined ? {} : { hint })

function textOf(body: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch {
    throw bad('the body is no UTF-8')
  }
}

const SHAPES =
  'A row is {…}; rows are [{…}, …] or {"records":[{"value":{…}}]}; a delete is {"key":{…},"value":null} among the records.'

function* jsonItems(body: string, key: readonly string[]): Generator<Item> {
  let text: string
  try {
    JSON.parse(body)
    text = compact(body)
  } catch (error) {
    throw bad(`the body is no JSON: ${(error as Error).message}`, SHAPES)
  }
  const members = membersOf(text)
  const [only, ...others] = members ?? []
  const records = only?.[0] === 'records' && others.length === 0 ? itemsOf(only[1]) : null
  if (records) for (const record of records) yield enveloped(record, key)
  else if (members) yield { row: members }
  else {
    const rows = itemsOf(text)
    if (!rows) throw bad(`the body is ${text.slice(0, 40)}, and no row`, SHAPES)
    for (const row of rows) yield { row: membersOf(row) ?? noObject(row) }
  }
}

function* lineItems(body: string): Generator<Item> {
  for (const line of body.split('\n'))
    if (line.trim() !== '') yield { row: objectMembers(line) ?? noObject(line) }
}

function noObject(text: string): never {
  throw bad(`is no JSON object: ${text.slice(0, 60)}`, SHAPES)
}

/** One of `records`: {"value":{…}}, with the key if one likes, or {"key":{…},"value":null}. */
function enveloped(text: string, key: readonly string[]): Item {
  const members = new Map(membersOf(text) ?? noObject(text))
  const [given, value] = [members.get('key'), members.get('value')]
  const unknown = [...members.keys()].find(name => name !== 'key' && name !== 'value')
  if (unknown !== undefined) throw bad(`has ${quote(unknown)} beside key and value`, SHAPES)
  if (value === undefined) throw bad('has no value', SHAPES)
  // Of a single column the bare value is enough.
  const own = (text: string) =>
    membersOf(text) ?? (key.length === 1 ? [[key[0]!, text] as const] : noObject(text))
  if (value !== 'null')
    return {
      row: membersOf(value) ?? noObject(value),
      ...(given === undefined || given === 'null' || key.length === 0 ? {} : { given: own(given) }),
    }
  if (given === undefined) throw bad('has neither a value nor a key', SHAPES)
  return { gone: own(given) }
}

function recordReader(
  topic: TopicConfig,
  rowsOf: () => DeclaredRows | null,
): (item: Item, nowMs: number) => ChangeRecord {
  const { schema, name } = tableNameOf(topic)
  const tableOf = tableShapes(schema)
  const { key } = topic
  const source = `{"connector":"produce","schema":${quote(schema)},"table":${quote(name)},"snapshot":false}`
  const typed = typing(topic, rowsOf)
  return (item, nowMs) => {
    const gone = 'gone' in item
    const row = gone ? typed.key(item.gone) : item.isTyped ? item.row : typed.row(item.row)
    const values = new Map(row)
    const missing = key.find(one => (values.get(one) ?? 'null') === 'null')
    if (missing !== undefined)
      throw bad(`has no ${missing}, which is a part of the key`, `The key of the topic is ${key.join(', ')}.`)
    const other =
      !gone && item.given ? typed.key(item.given).find(([one, raw]) => values.get(one) !== raw) : undefined
    if (other)
      throw bad(
        `has ${other[0]} ${other[1]} in its key, and ${values.get(other[0]) ?? 'none'} in its value`,
        'The key may be left out.',
      )
    if (gone && row.length > key.length)
      throw bad(
        `names in its key what is no part of it`,
        `The key of the topic is ${key.join(', ') || 'none'}.`,
      )
    if (gone && key.length === 0)
      throw bad('deletes, and the topic has no key', 'Rows of a topic without a key are only ever added.')
    const columns =
      typed.columns() ?? row.map(([column, raw]) => ({ name: column, type: typed.typeOf(column, raw) }))
    return {
      op: gone ? 'd' : key.length === 0 ? 'c' : 'u',
      table: tableOf(name, key, columns),
      key: objectOf(key.map(one => [one, values.get(one)!])),
      before: null,
      after: gone ? null : objectOf(row),
      source,
      commitMs: Math.floor(nowMs),
      readMs: Math.floor(nowMs),
      below: null,
    }
  }
}

interface Typing {
  row(members: readonly Member[]): readonly Member[]
  key(members: readonly Member[]): readonly Member[]
  /** All there are; null: they come with the rows. */
  columns(): readonly Column[] | null
  typeOf(column: string, raw: string): string
}

function typing({ columns: named, key: keyColumns }: TopicConfig, rowsOf: () => DeclaredRows | null): Typing {
  const shapes = new Map(
    Object.entries(named).map(([name, type]): [string, DeclaredColumn] => [
      name,
      { ...scalar(type), name, isNullable: true, absent: 'null' },
    ]),
  )
  const open = (members: readonly Member[]) =>
    members.map(([name, raw]): Member => {
      const shape = shapes.get(name)
      return [name, shape ? declaredValue(shape, raw) : raw]
    })
  let columns: readonly Column[] | null = null
  return {
    row(members) {
      const rows = rowsOf()
      return rows ? declaredMembers(rows.columns, members) : open(members)
    },
    key(members) {
      const rows = rowsOf()
      const own = rows?.columns.filter(({ name }) => keyColumns.includes(name))
      return own ? declaredMembers(own, members) : open(members)
    },
    columns() {
      const rows = rowsOf()
      if (rows) columns ??= columnsOf(rows)
      return columns
    },
    typeOf: (column, raw) => shapes.get(column)?.type ?? jsonType(raw),
  }
}
