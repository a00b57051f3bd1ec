/** Each type of column, found in a search index by what it is; and what its field cannot take. */
import { expect, it } from 'vitest'
import type { Writer } from '../../core/connector.ts'
import type { LogRecord, Table } from '../../core/record.ts'
import type { SearchServer, SearchServerKind } from '../servers/search.ts'
import { KIT_TABLE, recordOf } from './kit-table.ts'

// biome-ignore lint/suspicious/noExplicitAny: what servers answer
type Any = Record<string, any>

export type Write = (options: object, records: readonly LogRecord[]) => ReturnType<Writer['write']>

const TYPES: Readonly<Record<string, { value: string; hit: Any; miss?: Any }>> = {
  bool: { value: 'true', hit: { term: true } },
  int2: { value: '-7', hit: { range: { lt: 0 } } },
  int4: { value: '2000000000', hit: { range: { gte: 2_000_000_000 } } },
  int8: { value: '9223372036854775807', hit: { range: { gt: '9223372036854775806' } } },
  float4: { value: '0.5', hit: { range: { gte: 0.5, lte: 0.5 } } },
  float8: { value: '1e+300', hit: { range: { gt: 1e299 } } },
  numeric: { value: '"12345678901234567890.10"', hit: { range: { gt: 1.2e19 } } },
  text: { value: '"a Quick fox"', hit: { match: 'quick' }, miss: { match: 'slow' } },
  varchar: { value: '"x"', hit: { match: 'x' } },
  bpchar: { value: '"ab  "', hit: { term: 'ab  ' } },
  uuid: {
    value: '"6f1f2f0c-0000-4000-8000-000000000000"',
    hit: { term: '6f1f2f0c-0000-4000-8000-000000000000' },
  },
  json: { value: '{"a":{"b":"deep"}}', hit: { inside: ['a.b', 'deep'] } },
  jsonb: { value: '["a","b"]', hit: { inside: ['value', 'b'] } },
  date: { value: '"2026-01-31"', hit: { range: { gte: '2026-01-31', lt: '2026-02-01' } } },
  timestamp: {
    value: '"2026-01-31T10:00:00.123456"',
    hit: { range: { gt: '2026-01-31T09:59', lt: '2026-01-31T10:01' } },
  },
  timestamptz: {
    value: '"2026-01-31T10:00:00.5Z"',
    hit: { range: { gte: '2026-01-31T10:00:00.5Z', lte: '2026-01-31T10:00:00.5Z' } },
  },
  time: { value: '"10:00:00"', hit: { term: '10:00:00' } },
  timetz: { value: '"10:00:00+02:00"', hit: { term: '10:00:00+02:00' } },
  interval: { value: '"P1DT2H"', hit: { term: 'P1DT2H' } },
  bytea: { value: '"3q2+7w=="', hit: { stored: '3q2+7w==' } },
  inet: { value: '"10.1.2.3"', hit: { term: '10.1.0.0/16' } },
  point: { value: '"(13.4,52.5)"', hit: { near: [13.4, 52.5] } },
  geometry: { value: '"0101000020E6100000CDCCCCCCCCCC2A400000000000404A40"', hit: { around: [13.4, 52.5] } },
  'int4[]': { value: '[1,2,3]', hit: { term: 2 }, miss: { term: 4 } },
  'text[]': { value: '["red","green"]', hit: { match: 'green' } },
  'numeric[]': { value: '["1.5","2.5"]', hit: { term: 2.5 } },
  'timestamptz[]': { value: '["2026-01-31T10:00:00Z",null]', hit: { range: { gte: '2026-01-31' } } },
  'jsonb[]': { value: '[{"k":"v"}]', hit: { inside: ['k', 'v'] } },
}

/** What no field of its type can take: the document must be found all the same. */
const ODD: Readonly<Record<string, string>> = {
  float8: '"NaN"',
  numeric: '"Infinity"',
  timestamptz: '"infinity"',
  date: '"+012345-01-01"',
  inet: '"10.0.0.0/8"',
  point: '"(1000,2000)"',
  text: 'null',
  jsonb: '17',
}

function queryOf(field: string, hit: Any): Any {
  if ('stored' in hit) return { match_all: {} }
  if ('inside' in hit) return { term: { [`${field}.${hit.inside[0]}`]: hit.inside[1] } }
  if ('near' in hit)
    return { geo_distance: { distance: '1km', [field]: { lon: hit.near[0], lat: hit.near[1] } } }
  if ('around' in hit) {
    const [lon, lat] = hit.around
    const coordinates = [
      [lon - 1, lat + 1],
      [lon + 1, lat - 1],
    ]
    return { geo_shape: { [field]: { shape: { type: 'envelope', coordinates } } } }
  }
  const [kind, value] = Object.entries(hit)[0]!
  return { [kind]: { [field]: value } }
}

const fieldOf = (type: string): string => `f_${type.replace('[]', '_list')}`

export function typesTests(
  kind: SearchServerKind,
  server: () => SearchServer,
  write: Write,
  newIndex: () => string,
): void {
  // What is published of Elasticsearch has no geo_shape.
  const types = Object.entries(TYPES).filter(([type]) => kind.startsWith('opensearch') || type !== 'geometry')
  const table: Table = {
    ...KIT_TABLE,
    columns: [
      { name: 'id', type: 'int8' },
      ...types.map(([type]) => type).map(type => ({ name: fieldOf(type), type })),
    ],
  }
  const count = async (index: string, query: Any): Promise<number> => {
    await server().request('POST', `/${index}/_refresh`)
    const { status, body } = await server().request('POST', `/${index}/_search`, {
      query,
      size: 0,
      track_total_hits: true,
    })
    expect(status, JSON.stringify([query, body])).toBe(200)
    return (body as Any).hits.total.value as number
  }

  it('finds each type by what it is: term, range, words, inside JSON, near a place', async () => {
    const index = newIndex()
    const values = types.map(([type, { value }]) => `"${fieldOf(type)}":${value}`)
    const record = { ...recordOf({ id: 1, version: 1, row: `{"id":1,${values.join(',')}}` }), table }
    expect(await write({ index }, [record])).toEqual([])
    for (const [type, { hit, miss }] of types) {
      expect(await count(index, queryOf(fieldOf(type), hit)), `${type} is found`).toBe(1)
      if (miss) expect(await count(index, queryOf(fieldOf(type), miss)), `${type} is not found`).toBe(0)
    }
    const { body } = await server().request('GET', `/${index}/_doc/1`)
    expect((body as Any)._source[fieldOf('bytea')]).toBe('3q2+7w==')
  })

  it('keeps documents with values that no field of their type takes, and every digit of a number', async () => {
    const index = newIndex()
    const records = Object.entries(ODD).map(([type, value], i) => ({
      ...recordOf({ id: i + 1, version: i + 1, row: `{"id":${i + 1},"${fieldOf(type)}":${value}}` }),
      table,
    }))
    const long = (id: number, fields: string) => ({
      ...recordOf({ id, version: id, row: `{"id":${id},${fields}}` }),
      table,
    })
    const digits = '"f_int8":-9223372036854775808,"f_numeric":"0.10000000000000000000000001"'
    const words = long(98, `${digits},"f_text":"${'long '.repeat(20_000)}","f_uuid":"${'x'.repeat(40_000)}"`)
    const json = long(99, `"f_json":{"k":"${'x'.repeat(40_000)}"}`)
    const rejected = await write({ index }, [...records, words, json])
    // OpenSearch's flat_object has no `ignore_above`: a text of more than 32 kB inside JSON is refused, and said.
    if (kind.startsWith('opensearch')) {
      expect(rejected.map(one => one.record)).toEqual([json])
      expect(rejected[0]!.error.message).toContain('immense term')
    } else expect(rejected).toEqual([])
    expect(await count(index, { match_all: {} })).toBe(records.length + 2 - rejected.length)
    const text = await (await fetch(`${server().url}/${index}/_search?size=100`)).text() // unparsed: a parser would round
    expect(text).toContain('0.10000000000000000000000001')
    expect(text).toContain('-9223372036854775808')
  })
}
