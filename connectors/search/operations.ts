/**
 * Records as the lines of a bulk request, each with its version, so that older after newer changes nothing in the cluster (V4):
 *
 *   {"index":{"_id":"17","version":1700000000000001,"version_type":"external"}}      {"_index": …, "routing": …} where they differ
 *   {"id":17,…,"_millrace":{"origin":"shop.shop.products/0","version":1700000000000001}}
 *   {"delete":{"_id":"18","version":1700000000000002,"version_type":"external"}}
 *
 * They are made as bytes, a request's worth at a time: texts that wait would live long enough to be the collector's work.
 */
import { ConnectorError } from '../../core/errors.ts'
import { idOf } from '../../core/format/document.ts'
import { fillRow } from '../../core/format/template.ts'
import type { LogRecord } from '../../core/record.ts'
import { quote } from '../../core/row.ts'
import type { SearchConfig } from './config.ts'
import type { Index } from './indexes.ts'

/** What one request asks for. Side by side: an object for each would be made a million times over. */
export interface Operations {
  readonly records: readonly LogRecord[]
  /** Where the lines of each end, in bytes. */
  readonly ends: readonly number[]
  readonly bytes: Buffer
}

/** Elasticsearch's and OpenSearch's limit, in bytes. */
const LONGEST_ID = 512

export const documentId = (record: LogRecord, { id }: SearchConfig): string =>
  id === '${key}' ? idOf(record) : fillRow(id, record)

/** Throws `data` when the record cannot be a document. `standard`: the name in the request's path. */
export function operationOf(
  record: LogRecord,
  id: string,
  index: Index,
  standard: string,
  config: SearchConfig,
): string {
  if (id.length * 3 > LONGEST_ID && Buffer.byteLength(id) > LONGEST_ID)
    throw new ConnectorError(
      'data',
      `the id of ${record.topic}/${record.partition} offset ${record.offset} has ${Buffer.byteLength(id)} bytes, and a document's may have ${LONGEST_ID}: ${id.slice(0, 60)}…`,
    )
  const where = index.target === standard ? '' : `"_index":${quote(index.target)},`
  const routing = config.routing === undefined ? '' : `,"routing":${quote(fillRow(config.routing, record))}`
  const head = `{${where}"_id":${quote(id)},"version":${record.version},"version_type":"external"${routing}}`
  return record.op === 'd' || record.after === null
    ? `{"delete":${head}}\n`
    : `{"index":${head}}\n${index.renderer.document(record)}\n`
}

/** Lines for one request after another. */
export interface Packer {
  /** False: it has no room for this any more; `take` what there is, and add it again. A text that is larger than a request stands alone. */
  add(record: LogRecord, text: string): boolean
  /** What was added, and begins anew. */
  take(): Operations
}

/** Cuts at so many operations or bytes. */
export function packerOf(actions: number, bytes: number): Packer {
  let records: LogRecord[] = []
  let ends: number[] = []
  let buffer = NOTHING
  let end = 0
  return {
    add(record, text) {
      if (ends.length >= actions) return false
      // A UTF-16 unit has three bytes at most: only near the end is it worth counting them.
      const most = text.length * 3
      const size = end + most <= buffer.length ? most : Buffer.byteLength(text)
      if (end + size > buffer.length) {
        if (end > 0) return false
        buffer = Buffer.allocUnsafeSlow(Math.max(bytes, size))
      }
      end += buffer.write(text, end)
      records.push(record)
      ends.push(end)
      return true
    },
    take() {
      const taken = { records, ends, bytes: buffer.subarray(0, end) }
      records = []
      ends = []
      buffer = NOTHING
      end = 0
      return taken
    },
  }
}

const NOTHING = Buffer.alloc(0)

export const sizeOf = ({ ends }: Operations, place: number): number =>
  ends[place]! - (place === 0 ? 0 : ends[place - 1]!)

/** Those at these places, in their order. */
export function pick(operations: Operations, places: readonly number[]): Operations {
  const { records, ends, bytes } = operations
  const parts = places.map(place => bytes.subarray(ends[place]! - sizeOf(operations, place), ends[place]!))
  let end = 0
  return {
    records: places.map(place => records[place]!),
    ends: parts.map(({ length }) => (end += length)),
    bytes: Buffer.concat(parts),
  }
}

export function halves(operations: Operations): readonly [Operations, Operations] {
  const places = operations.ends.map((_, place) => place)
  const middle = Math.ceil(places.length / 2)
  return [pick(operations, places.slice(0, middle)), pick(operations, places.slice(middle))]
}
