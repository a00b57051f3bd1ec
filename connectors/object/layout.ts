/** In which folder a record goes and how its object is called: a function of the record and the options alone, so that a replay agrees. */
import { ConnectorError } from '../../core/errors.ts'
import type { LogRecord, Table } from '../../core/record.ts'
import { plain, splitRow } from '../../core/row.ts'
import type { ObjectConfig } from './config.ts'

/** As Hive, Spark and DuckDB call the folder of null. */
const NO_VALUE = '__HIVE_DEFAULT_PARTITION__'
const MINUTE_MS = 60_000
/** Zones differ from UTC by whole quarters of an hour since long. */
const QUARTER_MS = 900_000

export type PathOf = (record: LogRecord) => string

export function pathOf({ path, partition }: ObjectConfig): PathOf {
  const partitionOf = PARTITIONS[partition.by](partition)
  const fill = (record: LogRecord, partitionPath: string) =>
    path.replace(/\$\{(topic|schema|table|partition)\}/g, (_, name: string) =>
      name === 'topic'
        ? record.topic
        : name === 'schema'
          ? safe(record.table.schema)
          : name === 'table'
            ? safe(record.table.name)
            : partitionPath,
    )
  let last = { topic: '', table: null as Table | null, partitionPath: '', path: '' }
  // The next record most often goes where the last one went.
  return record => {
    const { topic, table } = record
    const partitionPath = partitionOf(record)
    if (last.topic !== topic || last.table !== table || last.partitionPath !== partitionPath)
      last = { topic, table, partitionPath, path: fill(record, partitionPath) }
    return last.path
  }
}

/** Of the object that begins with this record. */
export const objectName = (
  path: string,
  { topic, partition, offset }: LogRecord,
  extension: string,
): string => `${path}/${topic}-${partition}-${String(offset).padStart(20, '0')}.${extension}`

/** What is more than a name in a path or a key is escaped as in an address. */
export const safe = (text: string): string =>
  text === '' || text === '.' || text === '..'
    ? `%${Buffer.from(text || ' ')
        .toString('hex')
        .toUpperCase()
        .match(/../g)!
        .join('%')}`
    : text.replace(/[^A-Za-z0-9_.\- ]/gu, character =>
        [...Buffer.from(character)]
          .map(byte => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
          .join(''),
      )

type Options = ObjectConfig['partition']

const PARTITIONS: Readonly<Record<Options['by'], (options: Options) => PathOf>> = {
  log: () => record => `partition=${record.partition}`,
  field:
    ({ fields }) =>
    record => {
      const row = rowOf(record)
      return fields
        .map(field => {
          const raw = row?.values[row.names.indexOf(field)]
          return `${safe(field)}=${raw === undefined || raw === 'null' ? NO_VALUE : safe(plain(raw))}`
        })
        .join('/')
    },
  time({ pattern, zone, time_field: field }) {
    const folder = folderOfTime(pattern, zone)
    if (field === undefined) return record => folder(record.commitMs)
    return record => {
      const row = rowOf(record)
      const raw = row?.values[row.names.indexOf(field)]
      if (raw === undefined || raw === 'null') return NO_VALUE
      const ms = msOf(plain(raw))
      if (Number.isNaN(ms))
        throw new ConnectorError(
          'data',
          `the time field ${field} holds ${raw.slice(0, 40)}, which is no time that a folder can be named by`,
        )
      return folder(ms)
    }
  },
}

const TIME = /^([+-]\d{6}|\d{4})-\d\d-\d\d(?:([T ])\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d(?::\d\d)?)?)?$/
/** A day less than a Date can hold, for zones. */
const MOST_MS = 8.64e15 - 86_400_000

/** NaN: no date or time. Without a zone it counts as UTC, as in the columns of a file: never as of the machine's own. */
function msOf(text: string): number {
  const parts = TIME.exec(text)
  if (!parts) return Number.NaN
  const [, , between, zone] = parts
  // A day alone is UTC by itself; PostgreSQL writes +02 for +02:00.
  const more =
    between === undefined || zone === 'Z' || zone?.length === 6 ? '' : zone === undefined ? 'Z' : ':00'
  const ms = Date.parse(text.replace(' ', 'T') + more)
  return Math.abs(ms) <= MOST_MS ? ms : Number.NaN
}

/** A deleted row's columns are those that the source still knew. */
function rowOf({ op, after, before, key }: LogRecord) {
  return op === 'sweep' ? null : splitRow(after ?? before ?? key)
}

function folderOfTime(pattern: string, zone: string): (ms: number) => string {
  const offsets = new Map<number, number>()
  const format = new Intl.DateTimeFormat('en', { timeZone: zone, timeZoneName: 'longOffset' })
  const offsetMs = (ms: number): number => {
    const quarter = Math.floor(ms / QUARTER_MS)
    const known = offsets.get(quarter)
    if (known !== undefined) return known
    const text = format.formatToParts(ms).find(part => part.type === 'timeZoneName')!.value // GMT, GMT+02:00
    const [, sign, hours, minutes] = /([+-])(\d\d):(\d\d)/.exec(text) ?? []
    const offset = (sign === '-' ? -1 : 1) * (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * MINUTE_MS
    if (offsets.size > 10_000) offsets.clear()
    offsets.set(quarter, offset)
    return offset
  }
  let lastMinute = Number.NaN
  let last = ''
  return ms => {
    const minute = Math.floor(ms / MINUTE_MS)
    if (minute === lastMinute) return last
    lastMinute = minute
    const iso = new Date(ms + offsetMs(ms)).toISOString()
    const [, year, month, day, hour, min] = /^(.+?)-(\d\d)-(\d\d)T(\d\d):(\d\d)/.exec(iso)!
    const parts: Readonly<Record<string, string>> = { YYYY: year!, MM: month!, DD: day!, HH: hour!, mm: min! }
    last = pattern.replace(/YYYY|MM|DD|HH|mm(?![a-z]*=)/g, name => parts[name]!)
    return last
  }
}
