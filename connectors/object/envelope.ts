/** A record as a row of a file: its columns, and its text. */
import { ConnectorError } from '../../core/errors.ts'
import { type Column, isMissingColumns, type LogRecord, type Table } from '../../core/record.ts'
import { quote } from '../../core/row.ts'
import type { Metadata, ObjectConfig } from './config.ts'

const TYPES: Readonly<Record<Metadata, string>> = {
  op: 'text',
  version: 'int8',
  committed_at: 'timestamptz',
  topic: 'text',
  partition: 'int4',
  offset: 'int8',
}

const column = (name: string, type: string): Column => ({ name, type })

export const CHANGE_COLUMNS: readonly Column[] = [
  column('topic', 'text'),
  column('partition', 'int4'),
  column('offset', 'int8'),
  column('version', 'int8'),
  column('op', 'text'),
  column('key', 'json'),
  column('before', 'json'),
  column('after', 'json'),
  column('source', 'json'),
  column('ts_ms', 'int8'),
  column('below', 'int8'),
]

/** How records become rows, for one sink's options. */
export interface Envelope {
  /** The same list for the same shape, however often the shape comes. Throws `config` for a table that has one of `metadata` itself. */
  columns(table: Table): readonly Column[]
  /** JSON text of an object with these members, some of them; null: the sink leaves it out. */
  row(record: LogRecord): string | null
}

export function envelopeOf({ envelope, metadata, deletes, sweeps }: ObjectConfig): Envelope {
  const isLeftOut = ({ op }: LogRecord) =>
    (op === 'd' && deletes === 'skip') || (op === 'sweep' && sweeps === 'skip')
  if (envelope === 'change')
    return {
      columns: () => CHANGE_COLUMNS,
      row: record => (isLeftOut(record) ? null : changeOf(record)),
    }
  const own = metadata.map(name => column(`_${name}`, TYPES[name]))
  const byTable = new WeakMap<Table, readonly Column[]>()
  const byText = new Map<string, readonly Column[]>()
  return {
    columns(table) {
      const known = byTable.get(table)
      if (known) return known
      refuseDoubles(own, table)
      const columns = [...own, ...table.columns]
      const text = JSON.stringify(columns)
      const shared = byText.get(text) ?? columns
      byText.set(text, shared)
      byTable.set(table, shared)
      return shared
    },
    row(record) {
      if (isLeftOut(record) || isMissingColumns(record)) return null // a row is whole, or its delete follows
      const row = record.op === 'sweep' ? '{}' : (record.after ?? record.before ?? record.key)
      if (!row.startsWith('{') || !row.endsWith('}'))
        throw new SyntaxError(`a row must be a JSON object, got ${row.slice(0, 40)}`)
      if (metadata.length === 0) return row
      let text = ''
      for (const name of metadata) text += `${text === '' ? '{' : ','}"_${name}":${METADATA_OF[name](record)}`
      return row.length === 2 ? `${text}}` : `${text},${row.slice(1)}`
    },
  }
}

function refuseDoubles(own: readonly Column[], { schema, name, columns }: Table): void {
  const double = own.find(one => columns.some(column => column.name === one.name))
  if (double === undefined) return
  throw new ConnectorError(
    'config',
    `${schema}.${name} has a column ${double.name}, and \`metadata\` would give each row another one called so`,
    {
      hint: `Leave ${double.name.slice(1)} out of the sink's \`metadata\`, or rename the column with a transform.`,
    },
  )
}

const METADATA_OF: Readonly<Record<Metadata, (record: LogRecord) => string>> = {
  op: ({ op }) => `"${op}"`,
  version: ({ version }) => String(version),
  committed_at: ({ commitMs }) => isoOf(commitMs),
  topic: ({ topic }) => quote(topic),
  partition: ({ partition }) => String(partition),
  offset: ({ offset }) => String(offset),
}

let lastMs = Number.NaN
let lastIso = ''
/** Records of one transaction have the same time. */
function isoOf(ms: number): string {
  if (ms !== lastMs) {
    lastIso = `"${new Date(ms).toISOString()}"`
    lastMs = ms
  }
  return lastIso
}

const changeOf = (r: LogRecord): string =>
  `{"topic":${quote(r.topic)},"partition":${r.partition},"offset":${r.offset},"version":${r.version},"op":"${r.op}","key":${r.key},"before":${r.before},"after":${r.after},"source":${r.source},"ts_ms":${r.readMs},"below":${r.below}}`
