/**
 * A change from the log's key and value (JSON text); `encodeValue` of row.ts makes the value. The one Debezium-shaped form that every log driver stores:
 *
 *   key    {"id":1}                                 or {"sweep":"shop.products"}
 *   value  {"op":"u","before":{…}|null,"after":{…}|null,"source":{…},"ts_ms":1700000000000[,"below":17]}
 *
 * The members stand in this order and without spaces, so that decoding is slicing. The version stands beside the value (a
 * header, `millrace.version`), the log's timestamp is the commit time.
 */
import type { LogRecord, Op, Table } from '../record.ts'
import { valueEnd } from '../row.ts'

export interface Place {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly version: number
  readonly timestampMs: number
}

const OP = '{"op":"'
const BEFORE = '","before":'
const AFTER = ',"after":'
const SOURCE = ',"source":{'
const READ = ',"ts_ms":'
const BELOW = ',"below":'

/**
 * Throws SyntaxError when the value is not of the form above. The last members are found from the end: a quote inside a text is
 * escaped, and no member behind `source` nor inside it is an object of its own, so that the last place that reads `,"source":{` is it.
 * Only a `before` must be read through to find where it ends.
 */
export function decodeValue(key: string, value: string, table: Table, place: Place): LogRecord {
  const opEnd = value.indexOf('"', OP.length)
  const beforeAt = expect(value, BEFORE, opEnd)
  const beforeEnd = value.startsWith('null', beforeAt) ? beforeAt + 4 : valueEnd(value, beforeAt)
  const afterAt = expect(value, AFTER, beforeEnd)
  const afterEnd = value.lastIndexOf(SOURCE)
  const sourceAt = afterEnd + SOURCE.length - 1
  const sourceEnd = value.lastIndexOf(READ)
  if (afterEnd < afterAt || sourceEnd < sourceAt)
    throw new SyntaxError(`no source or ts_ms in a log value: ${value.slice(0, 80)}`)
  const readAt = sourceEnd + READ.length
  const readEnd = valueEnd(value, readAt)
  const op = value.slice(OP.length, opEnd) as Op
  const below = value.startsWith(BELOW, readEnd) ? Number(value.slice(readEnd + BELOW.length, -1)) : null
  return {
    op,
    table,
    key,
    before: beforeEnd - beforeAt === 4 ? null : value.slice(beforeAt, beforeEnd),
    after: afterEnd - afterAt === 4 ? null : value.slice(afterAt, afterEnd),
    source: value.slice(sourceAt, sourceEnd),
    commitMs: place.timestampMs,
    readMs: Number(value.slice(readAt, readEnd)),
    below,
    topic: place.topic,
    partition: place.partition,
    offset: place.offset,
    version: place.version,
  }
}

function expect(value: string, member: string, at: number): number {
  if (!value.startsWith(member, at))
    throw new SyntaxError(`${member} expected at ${at} of a log value: ${value.slice(0, 80)}`)
  return at + member.length
}
