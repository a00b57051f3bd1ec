/**
 * The statements on a table of the target, made once for a shape, and the values of records as the server reads them: texts that each
 * column's own type parses, so that no digit is lost on the way. Pure.
 *
 *   copy     COPY … FROM STDIN, for rows that nobody expects to be there
 *   upsert   INSERT … SELECT … FROM unnest(an array of texts for each column) ON CONFLICT … WHERE older (V4)
 */
import { type LogRecord, originOf, type Table } from '../../core/record.ts'
import { plain } from '../../core/row.ts'
import { type Mode, OURS } from '../sql/config.ts'
import { type Layout, layoutOf, valuesOf, whole } from '../sql/rows.ts'
import { quoteName, quoteTable } from './connect.ts'
import type { Place } from './evolve.ts'
import type { FoundColumn, FoundTable } from './target.ts'
import { arrayOf, type PgType, typeNamed } from './values.ts'

interface SentColumn {
  readonly name: string
  /** Place in the layout. */
  readonly at: number
  /** For a cast. */
  readonly sql: string
  /** null: the JSON text without its quotes. */
  readonly toText: ((raw: string) => string) | null
}

export interface Target {
  readonly place: Place
  readonly layout: Layout
  readonly columns: readonly SentColumn[]
  readonly keyLayout: Layout
  readonly key: readonly SentColumn[]
  readonly copy: string
  readonly upsert: string
  readonly remove: string
  readonly sweep: string
  /** Batches for which a COPY is not tried, after one that met a row, and how many after the next. */
  waiting: number
  backoff: number
}

export function targetOf(place: Place, found: FoundTable, shape: Table, mode: Mode): Target {
  const names = shape.columns.map(({ name }) => name)
  const sent = (name: string, at: number): SentColumn[] => {
    const column = found.columns.find(one => one.name === name)!
    if (column.isGenerated) return []
    const type = shape.columns.find(one => one.name === name)?.type ?? 'text'
    return [{ name, at, sql: column.sql, toText: converterOf(typeNamed(type), column) }]
  }
  const columns = names.flatMap(sent)
  const key = shape.key.flatMap(sent)
  const ours =
    mode === 'append' ? [OURS.op, OURS.version, OURS.origin, OURS.committed] : [OURS.version, OURS.origin]
  const table = quoteTable(place)
  return {
    place,
    layout: layoutOf(names),
    columns,
    keyLayout: layoutOf(shape.key),
    key,
    copy: `COPY ${table} (${[...columns.map(({ name }) => name), ...ours].map(quoteName).join(', ')}) FROM STDIN`,
    upsert: upsertSql(table, columns, shape.key, lostColumns(found, names)),
    remove: removeSql(table, key),
    sweep: `DELETE FROM ${table} WHERE ${OURS.origin} = $1 AND ${OURS.version} < $2::int8`,
    waiting: 0,
    backoff: 1,
  }
}

/**
 * In a table of ours: columns that rows no longer have. What a person added to a table of his own is his, and so is here what we would
 * not have made: generated, with a default, or never null.
 */
const lostColumns = (found: FoundTable, names: readonly string[]): string[] =>
  found.isOwn
    ? found.columns
        .filter(({ isPlain }) => isPlain)
        .map(({ name }) => name)
        .filter(name => !names.includes(name) && !(Object.values(OURS) as string[]).includes(name))
    : []

function converterOf(type: PgType, { delimiter, sql }: FoundColumn): SentColumn['toText'] {
  if (delimiter !== ',' && sql.endsWith('[]') && type.name.endsWith('[]'))
    return arrayOf(typeNamed(type.name.slice(0, -2)), delimiter).toText
  return type.toText === plain ? null : type.toText
}

const OLDER = `(t.${OURS.version} IS NULL OR t.${OURS.version} < `

function upsertSql(
  table: string,
  columns: readonly SentColumn[],
  key: readonly string[],
  lost: readonly string[],
): string {
  const all = [...columns.map(({ name }) => quoteName(name)), OURS.version, OURS.origin]
  const arrays = all.map((_, i) => `$${i + 1}::text[]`)
  const values = [...columns.map(({ sql }, i) => `u.c${i}::${sql}`), 'u.v::int8', 'u.o']
  const set = [
    ...columns.filter(({ name }) => !key.includes(name)).map(({ name }) => quoteName(name)),
    OURS.version,
    OURS.origin,
  ].map(name => `${name} = excluded.${name}`)
  set.push(...lost.map(name => `${quoteName(name)} = NULL`))
  return `INSERT INTO ${table} AS t (${all.join(', ')}) OVERRIDING SYSTEM VALUE SELECT ${values.join(', ')}
FROM unnest(${arrays.join(', ')}) AS u(${columns.map((_, i) => `c${i}, `).join('')}v, o)
ON CONFLICT (${key.map(quoteName).join(', ')}) DO UPDATE SET ${set.join(', ')} WHERE ${OLDER}excluded.${OURS.version})`
}

function removeSql(table: string, key: readonly SentColumn[]): string {
  const arrays = [...key, null].map((_, i) => `$${i + 1}::text[]`)
  const same = key.map(({ name, sql }, i) => `t.${quoteName(name)} = u.k${i}::${sql}`)
  return `DELETE FROM ${table} AS t USING unnest(${arrays.join(', ')}) AS u(${key.map((_, i) => `k${i}, `).join('')}v)
WHERE ${same.join(' AND ')} AND ${OLDER}u.v::int8)`
}

const QUOTE = 34
const COPY_ESCAPED = /[\\\t\n\r]/g
const COPY_ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }

/** A column's raw JSON text as COPY's text. A JSON string without a backslash has nothing to escape. */
function copyText(raw: string, column: SentColumn): string {
  if (raw === 'null') return '\\N'
  if (column.toText === null) {
    if (raw.charCodeAt(0) === QUOTE && !raw.includes('\\')) return raw.slice(1, -1)
    return whole(plain(raw), column.name).replace(COPY_ESCAPED, one => COPY_ESCAPES[one]!)
  }
  return whole(column.toText(raw), column.name).replace(COPY_ESCAPED, one => COPY_ESCAPES[one]!)
}

const ARRAY_ESCAPED = /["\\]/g

/** A column's raw JSON text as an element of a text[]. */
function elementText(raw: string, column: SentColumn): string {
  if (raw === 'null') return 'NULL'
  if (column.toText === null && (raw.charCodeAt(0) !== QUOTE || !raw.includes('\\')))
    return raw.charCodeAt(0) === QUOTE ? raw : `"${raw.replace(ARRAY_ESCAPED, '\\$&')}"`
  return `"${whole((column.toText ?? plain)(raw), column.name).replace(ARRAY_ESCAPED, '\\$&')}"`
}

const CHUNK = 1 << 16

/** Rows of a COPY, a chunk at a time. */
export function* copyRows(
  { layout, columns }: Target,
  records: readonly LogRecord[],
  oursOf: (record: LogRecord) => string,
  rowOf: (record: LogRecord) => string,
): Generator<Buffer> {
  let text = ''
  for (const record of records) {
    const values = valuesOf(rowOf(record), layout)
    for (const column of columns) text += `${copyText(values[column.at]!, column)}\t`
    text += `${oursOf(record)}\n`
    if (text.length < CHUNK) continue
    yield Buffer.from(text)
    text = ''
  }
  if (text !== '') yield Buffer.from(text)
}

/** Records of one partition follow each other: their origin is made ready once. */
function originText(): (record: LogRecord) => string {
  let [topic, partition, text] = ['', -1, '']
  return record => {
    if (record.topic !== topic || record.partition !== partition) {
      topic = record.topic
      partition = record.partition
      text = originOf(record).replace(COPY_ESCAPED, one => COPY_ESCAPES[one]!)
    }
    return text
  }
}

export function upsertOurs(): (record: LogRecord) => string {
  const origin = originText()
  return record => `${record.version}\t${origin(record)}`
}

export function appendOurs(): (record: LogRecord) => string {
  const origin = originText()
  return record =>
    `${record.op}\t${record.version}\t${origin(record)}\t${new Date(record.commitMs).toISOString()}`
}

const arrayLiteral = (elements: readonly string[]): string => `{${elements.join(',')}}`

export function upsertValues({ layout, columns }: Target, records: readonly LogRecord[]): string[] {
  const lists = columns.map((): string[] => [])
  for (const { after } of records) {
    const values = valuesOf(after!, layout)
    for (let i = 0; i < columns.length; i++) lists[i]!.push(elementText(values[columns[i]!.at]!, columns[i]!))
  }
  const origins = records.map(record => `"${originOf(record).replace(ARRAY_ESCAPED, '\\$&')}"`)
  return [...lists.map(arrayLiteral), versionsOf(records), arrayLiteral(origins)]
}

export function removeValues({ keyLayout, key }: Target, records: readonly LogRecord[]): string[] {
  const lists = key.map((): string[] => [])
  for (const record of records) {
    const values = valuesOf(record.key, keyLayout)
    for (let i = 0; i < key.length; i++) lists[i]!.push(elementText(values[key[i]!.at]!, key[i]!))
  }
  return [...lists.map(arrayLiteral), versionsOf(records)]
}

const versionsOf = (records: readonly LogRecord[]): string =>
  arrayLiteral(records.map(({ version }) => String(version)))
