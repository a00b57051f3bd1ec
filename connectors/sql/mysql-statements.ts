/** Statements on a table of MySQL or MariaDB: rows as literals, many in one statement, cut by bytes. Pure. */
import { ConnectorError } from '../../core/errors.ts'
import { type LogRecord, originOf, type Table } from '../../core/record.ts'
import { plain } from '../../core/row.ts'
import { type Mode, OURS } from './config.ts'
import { name as quoted, text } from './mysql-client.ts'
import { type FoundTable, spelledAs } from './mysql-target.ts'
import { appendRow, type Layout, layoutOf, valuesOf, whole } from './rows.ts'

interface SentColumn {
  readonly name: string
  /** Place in the layout. */
  readonly at: number
  readonly toLiteral: (raw: string) => string
}

export interface Target {
  readonly table: string
  readonly layout: Layout
  readonly columns: readonly SentColumn[]
  readonly keyLayout: Layout
  readonly key: readonly SentColumn[]
  readonly insert: string
  readonly onDuplicate: string
}

const QUOTE = 34

/** A scalar as it stands, or a text. */
const literalOf =
  (column: string) =>
  (raw: string): string => {
    if (raw.charCodeAt(0) !== QUOTE)
      return raw.startsWith('{') || raw.startsWith('[') ? text(whole(raw, column)) : raw
    return text(raw.includes('\\') ? whole(plain(raw), column) : raw.slice(1, -1))
  }

const TEXTS = /^(var)?char$|text$/
/** 2026-01-31T10:00:00.5Z: the connection is in UTC, and the letter is one that not all versions read. */
const timeLiteral = (raw: string): string => text(plain(raw).replace(/Z$/, '').replace('T', ' '))

function converterOf(type: string, found: string, column: string): (raw: string) => string {
  const literal = literalOf(column)
  if (type === 'bool' && TEXTS.test(found)) return raw => `'${raw}'`
  if (type === 'bytea')
    return raw =>
      TEXTS.test(found) ? literal(raw) : `x'${Buffer.from(plain(raw), 'base64').toString('hex')}'`
  if (type === 'json' || type === 'jsonb') return raw => text(whole(raw, column))
  if ((type === 'timestamp' || type === 'timestamptz') && !TEXTS.test(found)) return timeLiteral
  // Digits beyond a double's stay what they are in a DECIMAL and in a text.
  return type === 'numeric' || TEXTS.test(found)
    ? raw => (raw.charCodeAt(0) === QUOTE ? literal(raw) : text(whole(raw, column)))
    : literal
}

export function targetOf(table: string, there: FoundTable, shape: Table, mode: Mode): Target {
  const found = spelledAs(there, shape)
  const sent = (of: string, at: number): SentColumn[] => {
    const column = found.columns.find(one => one.name === of)!
    if (column.isGenerated) return []
    const type = shape.columns.find(one => one.name === of)?.type ?? 'text'
    const convert = converterOf(type, column.type, of)
    return [{ name: of, at, toLiteral: raw => (raw === 'null' ? 'NULL' : convert(raw)) }]
  }
  const names = shape.columns.map(one => one.name)
  const columns = names.flatMap(sent)
  const ours =
    mode === 'append' ? [OURS.op, OURS.version, OURS.origin, OURS.committed] : [OURS.version, OURS.origin]
  const gone = found.isOwn
    ? found.columns
        .filter(one => one.isPlain)
        .map(one => one.name)
        .filter(one => !names.includes(one) && !(Object.values(OURS) as string[]).includes(one))
    : []
  const isNewer = `(${OURS.version} IS NULL OR VALUES(${OURS.version}) > ${OURS.version})`
  const set = (of: string, value: string) => `${of} = IF(${isNewer}, ${value}, ${of})`
  // Assignments are made from left to right: the version, by which all others are decided, comes last.
  const updates = [
    ...columns
      .filter(one => !shape.key.includes(one.name))
      .map(one => set(quoted(one.name), `VALUES(${quoted(one.name)})`)),
    ...gone.map(one => set(quoted(one), 'NULL')),
    ...[OURS.origin, OURS.version].map(one => set(one, `VALUES(${one})`)),
  ]
  return {
    table: quoted(table),
    layout: layoutOf(names),
    columns,
    keyLayout: layoutOf(shape.key),
    key: shape.key.flatMap(sent),
    insert: `INSERT INTO ${quoted(table)} (${[...columns.map(one => quoted(one.name)), ...ours].join(', ')}) VALUES `,
    onDuplicate: mode === 'append' ? '' : ` ON DUPLICATE KEY UPDATE ${updates.join(', ')}`,
  }
}

/** Characters in a statement; one has at most three bytes, or four in two. */
const MAX_CHARACTERS = 1 << 20
/** Of a DELETE: its parts are put together by OR, which the server takes apart again. */
const KEYS = 500

function* joined(
  parts: Iterable<string>,
  before: string,
  between: string,
  after: string,
  maxParts: number,
  maxPacketBytes: number,
): Generator<string> {
  const most = Math.min(MAX_CHARACTERS, Math.floor(maxPacketBytes / 3) - before.length - after.length)
  let [body, count] = ['', 0]
  for (const part of parts) {
    if (part.length > most && Buffer.byteLength(part) + before.length + after.length + 1_000 > maxPacketBytes)
      throw new ConnectorError(
        'config',
        `a row of ${Buffer.byteLength(part)} bytes is larger than the server's max_allowed_packet, ${maxPacketBytes}`,
        {
          hint: `SET GLOBAL max_allowed_packet = ${2 ** Math.ceil(Math.log2(2 * Buffer.byteLength(part)))}; and in the server's settings.`,
        },
      )
    if (count > 0 && (body.length + part.length > most || count >= maxParts)) {
      yield before + body + after
      ;[body, count] = ['', 0]
    }
    body += count === 0 ? part : between + part
    count++
  }
  if (count > 0) yield before + body + after
}

const rowText = (target: Target, row: string, ours: string): string => {
  const values = valuesOf(row, target.layout)
  let out = '('
  for (const column of target.columns) out += `${column.toLiteral(values[column.at]!)},`
  return `${out}${ours})`
}

function* each<T, R>(list: Iterable<T>, as: (one: T) => R): Generator<R> {
  for (const one of list) yield as(one)
}

export const upserts = (
  target: Target,
  records: readonly LogRecord[],
  maxPacketBytes: number,
): Iterable<string> =>
  joined(
    each(records, record => rowText(target, record.after!, `${record.version},${text(originOf(record))}`)),
    target.insert,
    ',',
    target.onDuplicate,
    Number.POSITIVE_INFINITY,
    maxPacketBytes,
  )

export const appends = (
  target: Target,
  records: readonly LogRecord[],
  maxPacketBytes: number,
): Iterable<string> =>
  joined(
    each(records, record => {
      const at = new Date(record.commitMs).toISOString().slice(0, -1).replace('T', ' ')
      return rowText(
        target,
        appendRow(record),
        `'${record.op}',${record.version},${text(originOf(record))},'${at}'`,
      )
    }),
    target.insert,
    ',',
    '',
    Number.POSITIVE_INFINITY,
    maxPacketBytes,
  )

export const removes = (
  target: Target,
  records: readonly LogRecord[],
  maxPacketBytes: number,
): Iterable<string> =>
  joined(
    each(records, record => {
      const values = valuesOf(record.key, target.keyLayout)
      const same = target.key.map(
        column => `${quoted(column.name)} = ${column.toLiteral(values[column.at]!)}`,
      )
      return `(${same.join(' AND ')} AND (${OURS.version} IS NULL OR ${OURS.version} < ${record.version}))`
    }),
    `DELETE FROM ${target.table} WHERE `,
    ' OR ',
    '',
    KEYS,
    maxPacketBytes,
  )
