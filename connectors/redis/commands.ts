/** What becomes of a record: one command of the script that writes (scripts.ts). */
import { ConnectorError } from '../../core/errors.ts'
import { documentOf, idOf } from '../../core/format/document.ts'
import { rowFiller } from '../../core/format/template.ts'
import { isMissingColumns, type LogRecord } from '../../core/record.ts'
import { plain, splitRow } from '../../core/row.ts'
import { isRow, mayShare, type RedisConfig } from './config.ts'

export interface Command {
  readonly kind: 'S' | 'H' | 'D' | 'M' | 'Z' | 'R' | 'X' | 'I'
  readonly key: string
  /** What its version is remembered by; '': its key. */
  readonly row: string
  /** '': never. */
  readonly expiresAtMs: string
  readonly parts: readonly string[]
  readonly record: LogRecord
}

/** Of a record that is no sweep (a stream takes those, too): a key change may mean two. Throws `data` for what cannot be written. */
export type Render = (record: LogRecord, nowMs: number) => readonly Command[]

export function renderer(options: RedisConfig): Render {
  const { structure, numbers, value, member, score, max_length } = options
  const keyOf = rowFiller(options.key)
  const memberOf = rowFiller(member)
  const isShared = (record: LogRecord) => mayShare(member, record.table)
  const command = (
    record: LogRecord,
    kind: Command['kind'],
    key: string,
    parts: readonly string[] = [],
    expiresAtMs = '',
  ): Command => ({ kind, key, row: isRow(structure) ? '' : idOf(record), expiresAtMs, parts, record })
  const none: readonly Command[] = []
  const rowOf = (record: LogRecord) => (record.op === 'd' ? null : record.after)
  switch (structure) {
    case 'json':
      return (record, nowMs) => {
        if (isMissingColumns(record)) return none
        const row = rowOf(record)
        const key = keyOf(record)
        if (row === null) return [command(record, 'D', key)]
        const document = documentOf(row, record.table, numbers)
        return [command(record, 'S', key, [document], expiryOf(options, row, nowMs))]
      }
    case 'string':
      return (record, nowMs) => {
        if (isMissingColumns(record)) return none
        const row = rowOf(record)
        const text = row === null ? null : columnOf(row, value!)
        const key = keyOf(record)
        return text === null
          ? [command(record, 'D', key)]
          : [command(record, 'S', key, [text], expiryOf(options, row!, nowMs))]
      }
    case 'hash':
      return (record, nowMs) => {
        if (isMissingColumns(record)) return none
        const row = rowOf(record)
        const key = keyOf(record)
        if (row === null) return [command(record, 'D', key)]
        return [command(record, 'H', key, fieldsOf(row), expiryOf(options, row, nowMs))]
      }
    case 'set':
    case 'sorted_set':
      return record => {
        if (isMissingColumns(record)) return none
        const row = rowOf(record)
        const weight = row === null || score === undefined ? null : columnOf(row, score)
        if (row === null || (score !== undefined && weight === null)) return [command(record, 'R', '')]
        const parts = [isShared(record) ? '1' : '0', memberOf(record, row)]
        if (weight !== null) parts.push(scoreOf(weight, score!, record))
        return [command(record, structure === 'set' ? 'M' : 'Z', keyOf(record, row), parts)]
      }
    case 'stream':
      return record => [
        command(record, 'X', keyOf(record, record.after ?? record.before), [
          String(max_length ?? ''),
          ...entryOf(record),
        ]),
      ]
    case 'invalidate':
      return record => {
        const keys = new Set<string>()
        for (const row of [record.before, record.after]) if (row !== null) keys.add(keyOf(record, row))
        if (keys.size === 0) keys.add(keyOf(record))
        return [...keys].map(key => command(record, 'I', key))
      }
  }
}

/** As text; null: null, or no such column. */
function columnOf(row: string, column: string): string | null {
  const { names, values } = splitRow(row)
  const at = names.indexOf(column)
  return at < 0 || values[at] === 'null' ? null : plain(values[at]!)
}

/** Columns that are not null. A row without any would be no hash: the key stands in each. */
function fieldsOf(row: string): string[] {
  const { names, values } = splitRow(row)
  const fields: string[] = []
  for (const [i, name] of names.entries()) if (values[i] !== 'null') fields.push(name, plain(values[i]!))
  return fields
}

/** An entry of a stream: the change with its place, so that a reader can tell what it has seen. */
const entryOf = (record: LogRecord): string[] => {
  const { op, table, key, before, after, topic, partition, offset, version, commitMs, below } = record
  const fields = ['op', op, 'table', `${table.schema}.${table.name}`, 'key', key]
  if (after !== null) fields.push('after', after)
  if (before !== null) fields.push('before', before)
  if (below !== null) fields.push('below', String(below))
  fields.push('version', String(version), 'ts_ms', String(commitMs))
  fields.push('position', `${topic}/${partition}/${offset}`)
  return fields
}

function scoreOf(text: string, column: string, { table, key }: LogRecord): string {
  const number = /^[tT]rue$/.test(text) ? 1 : /^[fF]alse$/.test(text) ? 0 : Number(text)
  if (text.trim() !== '' && !Number.isNaN(number)) return String(number)
  if (/^-?infinity$/.test(text)) return text
  const time = Date.parse(zoned(text))
  if (!Number.isNaN(time)) return String(time)
  throw new ConnectorError(
    'data',
    `the score ${column} of ${table.schema}.${table.name} ${key} is "${text.slice(0, 60)}", which is neither a number nor a time`,
  )
}

/** '': it does not expire. */
function expiryOf({ ttl_seconds, expire_at }: RedisConfig, row: string, nowMs: number): string {
  const at = expire_at === undefined ? null : columnOf(row, expire_at)
  if (at === 'infinity') return ''
  if (at !== null) return String(timeOf(at, expire_at!))
  return ttl_seconds === undefined ? '' : String(Math.floor(nowMs) + ttl_seconds * 1000)
}

/** Beyond it Redis would take no number, and no Date is. */
const LAST_MS = 8.64e15

function timeOf(text: string, column: string): number {
  if (text === '-infinity') return 1
  const ms = /^-?\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(zoned(text))
  if (ms <= LAST_MS) return Math.max(1, Math.floor(ms))
  throw new ConnectorError('data', `expire_at: ${column} is "${text.slice(0, 60)}", which is no time`, {
    hint: 'A number is taken for seconds since 1970.',
  })
}

/** A timestamp without a zone is UTC. */
const zoned = (text: string): string =>
  /[T ]\d/.test(text) && !/(Z|[+-]\d\d(:?\d\d)?)$/.test(text) ? `${text}Z` : text
