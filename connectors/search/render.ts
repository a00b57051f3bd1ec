/**
 * A row as the document that is indexed: numbers as numbers, JSON that its field can take, places as places, and where it came from.
 * Text in, text out.
 */
import wkx from 'wkx'
import { type Convert, documentOf } from '../../core/format/document.ts'
import { type LogRecord, originOf, type Table } from '../../core/record.ts'
import { plain, quote } from '../../core/row.ts'
import type { SearchConfig } from './config.ts'
import { type Mapping, ORIGIN_FIELD } from './mapping.ts'

export interface Renderer {
  /** JSON text in one line. */
  document(record: LogRecord): string
}

/** `properties`: what the index of this table has. */
export function rendererOf(
  table: Table,
  properties: { readonly [field: string]: Mapping },
  { numbers }: SearchConfig,
): Renderer {
  const converts = new Map<string, Convert>()
  for (const { name } of table.columns) {
    const convert = convertFor(String(properties[name]?.type))
    if (convert) converts.set(name, convert)
  }
  let last = { topic: '', partition: -1, field: '' }
  /** What names the origin, made once for each run of one: `,"_millrace":{"origin":"shop.shop.products/0","version":`. */
  const fieldOf = (record: LogRecord): string => {
    const { topic, partition } = record
    if (topic !== last.topic || partition !== last.partition)
      last = { topic, partition, field: `"${ORIGIN_FIELD}":{"origin":${quote(originOf(record))},"version":` }
    return last.field
  }
  return {
    document(record) {
      const document = documentOf(record.after!, record.table, numbers, converts)
      return `${document.slice(0, -1)}${document.length > 2 ? ',' : ''}${fieldOf(record)}${record.version}}}`
    },
  }
}

function convertFor(type: string): Convert | null {
  if (type === 'flattened' || type === 'flat_object') return objectOnly
  if (type === 'geo_point' || type === 'geo_shape') return place
  return null
}

/** A flattened field takes an object, or a list of them. */
function objectOnly(raw: string): string {
  const first = raw.trimStart()[0]
  if (first === '{' || raw === 'null') return raw
  if (first === '[') {
    const list = JSON.parse(raw) as unknown[]
    const isObject = (one: unknown) => typeof one === 'object' && one !== null && !Array.isArray(one)
    if (list.every(isObject)) return raw
  }
  return `{"value":${raw}}`
}

const POINT = /^\(([^,()]+),([^,()]+)\)$/
const EWKB = /^0[01][0-9a-f]{8,}$/i

/** PostgreSQL's point, (x,y), and PostGIS' hexadecimal form (EWKB) as what geo fields read; anything else as it is. */
function place(raw: string): string {
  if (raw[0] !== '"') return raw
  const text = plain(raw)
  const point = POINT.exec(text)
  if (point) return `"POINT (${point[1]} ${point[2]})"`
  if (!EWKB.test(text)) return raw
  try {
    return JSON.stringify(wkx.Geometry.parse(Buffer.from(text, 'hex')).toGeoJSON())
  } catch {
    return raw // no geometry we can read: the cluster says so, of this field
  }
}
