/** What the source declares: its keys, its schemas, and rows in the bytes of their formats. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import avro from 'avsc'
import protobuf from 'protobufjs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { produce } from '../../../connectors/produce/source.ts'
import type { WrittenTopic } from '../../../core/connector.ts'
import { avroFile } from '../../../core/format/avro.ts'
import { rawLine, typedColumns } from '../../../core/format/columns.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'

definitionConformance(produce as never)

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-schemas-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const configOf = (topic: object) => produce.config.parse({ topics: [{ table: 'shop.orders', ...topic }] })

function topicOf(name: string, schema: string, more: object): WrittenTopic {
  const path = join(folder, name)
  writeFileSync(path, schema)
  return produce.topics!(configOf({ schema_file: path, key: ['id'], ...more }))[0]!
}

const recordsOf = (topic: WrittenTopic, body: Buffer | string, type: string): ChangeRecord[] => [
  ...topic.records(Buffer.from(body), type, 1_000),
]
const rowOf = (topic: WrittenTopic, row: unknown): string | null =>
  recordsOf(topic, JSON.stringify(row), 'application/json')[0]!.after

describe('produce: keys that do not go together', () => {
  it.each([
    ['avro without a schema', { format: 'avro' }, 'schema_file'],
    ['a schema for json', { schema_file: 'x' }, 'schema_file'],
    ['protobuf without a message', { format: 'protobuf', schema_file: 'x' }, 'message'],
    ['a message for avro', { format: 'avro', schema_file: 'x', message: 'm' }, 'message'],
    ['columns for avro', { format: 'avro', schema_file: 'x', columns: { a: 'int8' } }, 'columns'],
    ['a type that is none', { columns: { a: 'money' } }, 'columns'],
    ['a column that is twice in the key', { key: ['a', 'a'] }, 'key'],
    ['a table without schema', { table: 'orders' }, 'table'],
  ])('%s', (_, topic, path) => {
    const { error } = produce.config.safeParse({ topics: [{ table: 'shop.orders', ...topic }] })
    expect(error?.issues.map(issue => issue.path[2])).toEqual([path])
  })

  it('a table twice', () => {
    const { error } = produce.config.safeParse({ topics: [{ table: 's.t' }, { table: 's.t' }] })
    expect(error?.issues[0]?.message).toContain('twice')
  })
})

describe('produce: what is looked at before it starts', () => {
  it.each([
    ['a file that is not there', null, {}, /ENOENT/],
    ['what is no Avro', '{', {}, /JSON/],
    ['an Avro schema that is no record', '"string"', {}, /no record/],
    [
      'a type that is nowhere',
      '{"type":"record","name":"o","fields":[{"name":"id","type":"x"}]}',
      {},
      /undefined type|does not define/,
    ],
    [
      'a key that is no field',
      '{"type":"record","name":"o","fields":[{"name":"no","type":"int"}]}',
      {},
      /key column id/,
    ],
    ['what is no .proto', 'message {', { format: 'protobuf', message: 'O' }, /illegal/],
    [
      'a message that is not in it',
      'syntax="proto3"; message P { int32 id = 1; }',
      { format: 'protobuf', message: 'O' },
      /no such type/,
    ],
    [
      'an import',
      'syntax="proto3"; import "x.proto"; message O { int32 id = 1; }',
      { format: 'protobuf', message: 'O' },
      /imports x.proto/,
    ],
  ])('%s', async (_, schema, more, message) => {
    const path = join(folder, 'bad')
    rmSync(path, { force: true })
    if (schema !== null) writeFileSync(path, schema)
    const config = configOf({ format: 'avro', schema_file: path, key: ['id'], ...more })
    await expect(produce.check(config, testContext())).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringMatching(message),
    })
    await expect(produce.plan(config, testContext())).rejects.toThrow(path)
  })

  it('is planned with the columns of its schema; those of JSON come with the rows', async () => {
    const avsc =
      '{"type":"record","name":"o","fields":[{"name":"id","type":"long"},{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]}]}'
    writeFileSync(join(folder, 'plan.avsc'), avsc)
    const planned = async (topic: object) =>
      (await produce.plan(configOf(topic), testContext())).tables[0]!.table
    expect(await planned({ format: 'avro', schema_file: join(folder, 'plan.avsc'), key: ['id'] })).toEqual({
      schema: 'shop',
      name: 'orders',
      key: ['id'],
      columns: [
        { name: 'id', type: 'int8' },
        { name: 'at', type: 'timestamptz' },
      ],
    })
    expect((await planned({ key: ['id'], columns: { id: 'int8' } })).columns).toEqual([])
  })
})

const ORDER = {
  type: 'record',
  name: 'Order',
  namespace: 'shop.v1',
  fields: [
    { name: 'id', type: 'long' },
    { name: 'paid', type: 'boolean', default: false },
    { name: 'count', type: ['null', 'int'], default: null },
    { name: 'weight', type: ['null', 'double'], default: null },
    { name: 'total', type: { type: 'bytes', logicalType: 'decimal', precision: 12, scale: 2 } },
    { name: 'day', type: { type: 'int', logicalType: 'date' } },
    { name: 'time', type: ['null', { type: 'long', logicalType: 'time-micros' }], default: null },
    { name: 'at', type: { type: 'long', logicalType: 'timestamp-micros' } },
    { name: 'local', type: ['null', { type: 'long', logicalType: 'local-timestamp-millis' }], default: null },
    { name: 'uuid', type: ['null', { type: 'string', logicalType: 'uuid' }], default: null },
    { name: 'bytes', type: 'bytes', default: 'ÿ' },
    { name: 'state', type: { type: 'enum', name: 'State', symbols: ['NEW', 'SENT'] }, default: 'NEW' },
    { name: 'hash', type: ['null', { type: 'fixed', name: 'Hash', size: 2 }], default: null },
    {
      name: 'lines',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'Line',
          fields: [
            { name: 'sku', type: 'string' },
            { name: 'left', type: ['null', 'Line'], default: null },
          ],
        },
      },
      default: [],
    },
    { name: 'tags', type: { type: 'map', values: ['null', 'long', 'string'] }, default: {} },
    { name: 'other', type: ['null', 'Line', 'State', 'string'], default: null },
  ],
} as const

const LEAST =
  '"id":1,"paid":false,"count":null,"weight":null,"total":"1.50","day":"2026-01-31","time":null,"at":"2026-01-31T10:00:00Z","local":null,"uuid":null,"bytes":"/w==","state":"NEW","hash":null,"lines":[],"tags":{},"other":null'
const least = { id: 1, total: 1.5, day: '2026-01-31', at: '2026-01-31T10:00:00Z' }
const FULL = `{"id":9007199254740993,"paid":true,"count":-3,"weight":0.5,"total":"-0.05","day":"1969-12-31","time":"23:59:59.000001","at":"1969-12-31T23:59:59.999999Z","local":"2026-01-31T10:00:00.25","uuid":"6f1c3a52-8a1e-4d7c-9d0e-0d4c3f5b2a10","bytes":"AAE=","state":"SENT","hash":"AQI=","lines":[{"sku":"a","left":{"sku":"b","left":null}}],"tags":{"n":5,"t":"x","z":null},"other":{"sku":"c","left":null}}`

describe('produce: records with their keys', () => {
  const records = (key: readonly string[], ...list: unknown[]) => {
    const [topic] = produce.topics!(configOf({ key: [...key], columns: { id: 'int8' } }))
    return recordsOf(topic!, JSON.stringify({ records: list }), 'application/json').map(({ op, key }) => [
      op,
      key,
    ])
  }

  it('a key beside a value is the one in the value, or the record is refused', () => {
    const value = { id: 4, n: 1 }
    const rows = [{ value }, { key: { id: '4' }, value }, { key: 4, value }, { key: null, value }]
    expect(records(['id'], ...rows)).toEqual(rows.map(() => ['u', '{"id":4}']))
    expect(() => records(['id'], { key: { id: 3 }, value })).toThrow(
      'has id 3 in its key, and 4 in its value',
    )
    expect(() => records(['id'], { key: { no: 4 }, value })).toThrow(
      'has no 4 in its key, and none in its value',
    )
    expect(records([], { key: 'of another', value }), 'of rows without a key it tells nothing').toEqual([
      ['c', '{}'],
    ])
  })
})

describe('produce: Avro', () => {
  const topic = () => topicOf('order.avsc', JSON.stringify(ORDER), { format: 'avro' })

  it('takes JSON that fits, with the defaults of what is not there, and brings it to the form of the log', () => {
    expect(rowOf(topic(), least)).toBe(`{${LEAST.replace('"1.50"', '"1.5"')}}`)
    expect(recordsOf(topic(), FULL, 'application/json')[0]!.after).toBe(FULL)
    expect(
      recordsOf(topic(), `{"records":[{"key":{"id":4},"value":null}]}`, 'application/json')[0],
    ).toMatchObject({ op: 'd', key: '{"id":4}' })
  })

  it.each([
    ['another type', { ...least, id: 'x' }, /id \(int8\) holds "x"/],
    ['what must be there', { id: 1 }, /has no total/],
    ['null where it may not be', { ...least, paid: null }, /paid \(bool\) is null/],
    ['a member that is unknown', { ...least, price: 1 }, /has "price", which the schema does not know/],
    ['a symbol that is none', { ...least, state: 'LOST' }, /none of NEW, SENT/],
    ['a day that is none', { ...least, day: '2026-02-30' }, /no date/],
    ['too many digits of a second', { ...least, at: '2026-01-31T10:00:00.1234567Z' }, /no time/],
    ['a length that is another', { ...least, hash: 'AQ==' }, /not of 2 bytes/],
    ['what no branch takes', { ...least, other: 7 }, /none of shop.v1.Line, shop.v1.State, string/],
    ['inside a list', { ...least, lines: [{ sku: 1 }] }, /lines \(jsonb\) sku \(text\) holds 1/],
    ['inside a map', { ...least, tags: { a: true } }, /tags/],
  ])('refuses JSON that does not: %s', (_, row, message) => {
    expect(() => rowOf(topic(), row)).toThrow(message)
  })

  const line = (sku: string, left: unknown = null) => ({ sku, left })
  const value = {
    id: 9_007_199_254_740_993n,
    paid: true,
    count: { int: -3 },
    weight: { double: 0.5 },
    total: Buffer.from([0xfb]),
    day: -1,
    time: { long: 86_399_000_001n },
    at: -1n,
    local: { long: 1_769_853_600_250n },
    uuid: { string: '6f1c3a52-8a1e-4d7c-9d0e-0d4c3f5b2a10' },
    bytes: Buffer.from([0, 1]),
    state: 'SENT',
    hash: { 'shop.v1.Hash': Buffer.from([1, 2]) },
    lines: [line('a', { 'shop.v1.Line': line('b') })],
    tags: { n: { long: 5n }, t: { string: 'x' }, z: null },
    other: { 'shop.v1.Line': line('c') },
  }
  const LONG = avro.types.LongType.__with({
    fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
    toBuffer(of: bigint) {
      const bytes = Buffer.alloc(8)
      bytes.writeBigInt64LE(of)
      return bytes
    },
    fromJSON: BigInt,
    toJSON: Number,
    isValid: (of: unknown) => typeof of === 'bigint',
    compare: (a: bigint, b: bigint) => (a === b ? 0 : a < b ? -1 : 1),
  })
  const bytesOf = (schema: object): Buffer =>
    avro.Type.forSchema(
      schema as never,
      {
        wrapUnions: true,
        typeHook: (of: unknown) =>
          of === 'long' || (of as { type?: string }).type === 'long' ? LONG : undefined,
      } as never,
    ).toBuffer(value)

  it('takes the bytes of a record, which give the same row', () => {
    const [record] = recordsOf(topic(), bytesOf(ORDER), 'application/avro')
    expect(record!.after).toBe(FULL)
    expect(record!.key).toBe('{"id":9007199254740993}')
  })

  it('takes a container file, also one whose schema has more, and no broken one', async () => {
    const columns = [
      { name: 'id', type: 'int8' },
      { name: 'note', type: 'text' },
      { name: 'gone', type: 'text' },
    ]
    const typed = typedColumns(columns, 'string')
    const rows = Array.from({ length: 5_000 }, (_, i) =>
      rawLine(`{"id":${i},"note":"note ${i}","gone":"x"}`, typed),
    )
    const file = async (compression: 'none' | 'gzip') => {
      const parts: Buffer[] = []
      const all = (async function* () {
        yield rows
      })()
      for await (const part of avroFile('o', typed, all, compression)) parts.push(part)
      return Buffer.concat(parts)
    }
    const ours = topicOf(
      'file.avsc',
      '{"type":"record","name":"o","fields":[{"name":"id","type":["null","long"]},{"name":"note","type":["null","string"]},{"name":"more","type":"int","default":7}]}',
      { format: 'avro' },
    )
    for (const compression of ['none', 'gzip'] as const) {
      const whole = await file(compression)
      const records = recordsOf(ours, whole, 'application/avro')
      expect(records).toHaveLength(5_000)
      expect(records[4_321]!.after).toBe('{"id":4321,"note":"note 4321","more":7}')
      expect(() => recordsOf(ours, whole.subarray(0, whole.length - 20), 'application/avro')).toThrow(
        'ends inside a block',
      )
    }
    const wrong = await file('none')
    expect(() => recordsOf(topic(), wrong, 'application/avro')).toThrow('does not fit')
  })

  it('refuses bytes that are none, and bytes behind the record', () => {
    expect(() => recordsOf(topic(), Buffer.from([1, 2]), 'application/avro')).toThrow('no Avro of the schema')
    const more = Buffer.concat([bytesOf(ORDER), Buffer.from([0])])
    expect(() => recordsOf(topic(), more, 'application/avro')).toThrow('1 bytes are left')
  })
})

const PROTO = `syntax = "proto3";
package shop.v1;
enum State { NEW = 0; SENT = 1; }
message Line { string sku = 1; Line left = 2; }
message Order {
  int64 id = 1;
  bool paid = 2;
  optional int32 count = 3;
  uint32 big = 4;
  uint64 huge = 5;
  double weight = 6;
  optional string note = 7;
  bytes bytes = 8;
  State state = 9;
  repeated Line lines = 10;
  map<string, int64> tags = 11;
  map<int64, string> names = 12;
  Line first = 13;
  oneof way { string road = 14; int32 rail = 15; }
}`

describe('produce: Protobuf', () => {
  const topic = () => topicOf('order.proto', PROTO, { format: 'protobuf', message: 'shop.v1.Order' })
  const FULL_ROW =
    '{"id":9007199254740993,"paid":true,"count":-3,"big":4294967295,"huge":"18446744073709551615","weight":0.5,"note":"","bytes":"AAE=","state":"SENT","lines":[{"sku":"a","left":{"sku":"b","left":null}}],"tags":{"n":5},"names":{"-7":"x"},"first":{"sku":"","left":null},"road":null,"rail":0}'
  const EMPTY =
    '{"id":1,"paid":false,"count":null,"big":0,"huge":"0","weight":0,"note":null,"bytes":"","state":"NEW","lines":[],"tags":{},"names":{},"first":null,"road":null,"rail":null}'

  it('takes JSON that fits, and what is not there is what Protobuf has for it', () => {
    expect(rowOf(topic(), { id: 1 })).toBe(EMPTY)
    expect(recordsOf(topic(), FULL_ROW, 'application/json')[0]!.after).toBe(FULL_ROW)
  })

  it.each([
    ['another type', { id: 1, count: 'x' }, /count \(int4\) holds "x"/],
    ['a sign where there is none', { id: 1, big: -1 }, /without a sign, or too large/],
    ['more than 32 bits', { id: 1, big: 4_294_967_296 }, /without a sign, or too large/],
    ['null where there is no presence', { id: 1, paid: null }, /paid \(bool\) is null/],
    ['a field that is unknown', { id: 1, price: 1 }, /does not know/],
    ['a name that is none', { id: 1, state: 'LOST' }, /none of NEW, SENT/],
    ['inside a message', { id: 1, first: { sku: 1 } }, /first \(jsonb\) sku \(text\) holds 1/],
  ])('refuses JSON that does not: %s', (_, row, message) => {
    expect(() => rowOf(topic(), row)).toThrow(message)
  })

  it('takes the bytes of a message, which give the same row', () => {
    const type = protobuf.parse(PROTO, { keepCase: true }).root.lookupType('shop.v1.Order')
    const read = (object: object) =>
      recordsOf(
        topic(),
        Buffer.from(type.encode(type.fromObject(object)).finish()),
        'application/x-protobuf',
      )[0]!.after
    expect(
      read({
        id: '9007199254740993',
        paid: true,
        count: -3,
        big: 4_294_967_295,
        huge: '18446744073709551615',
        weight: 0.5,
        note: '',
        bytes: 'AAE=',
        state: 'SENT',
        lines: [{ sku: 'a', left: { sku: 'b' } }],
        tags: { n: 5 },
        names: { '-7': 'x' },
        first: {},
        rail: 0,
      }),
    ).toBe(FULL_ROW)
    expect(read({ id: 1 })).toBe(EMPTY)
  })

  it('refuses bytes that are none', () => {
    expect(() => recordsOf(topic(), Buffer.from([0xff, 0xff]), 'application/x-protobuf')).toThrow(
      'no shop.v1.Order',
    )
  })
})
