/** Avro and Protobuf with a real schema registry: what is written is read by the libraries alone, from the registry's schemas. */
import avro from 'avsc'
import protobuf from 'protobufjs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kafka } from '../../../connectors/kafka/sink.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/sink.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { missingForRegistry, type RegistryServer, startRegistry } from '../../servers/registry.ts'
import { committed, openSink } from './reading.ts'

const missing = missingForKafka() ?? missingForRegistry()
describe.skipIf(missing !== null)(missing ?? 'kafka with a schema registry', () => {
  let cluster: KafkaCluster
  let registry: RegistryServer
  beforeAll(async () => {
    ;[cluster, registry] = await Promise.all([startKafka(), startRegistry()])
  })
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
  })

  const column = (name: string, type: string) => ({ name, type })
  const TABLE: Table = {
    schema: 'shop',
    name: 'products',
    key: ['id'],
    columns: [
      column('id', 'int8'),
      column('name', 'text'),
      column('price', 'numeric'),
      column('is sold', 'bool'),
      column('photo', 'bytea'),
      column('made_at', 'timestamptz'),
      column('tags', 'jsonb'),
    ],
  }
  const ROW = {
    id: '9223372036854775807',
    name: '"schön"',
    price: '"12345678901234567890.10"',
    'is sold': 'true',
    photo: '"AAH/"',
    made_at: '"2024-02-29T12:00:00.123456Z"',
    tags: '{"a":[1]}',
  }
  const rowText = (row: object) =>
    `{${Object.entries(row)
      .map(([name, raw]) => `${JSON.stringify(name)}:${raw}`)
      .join(',')}}`
  const record = (over: Partial<LogRecord> & { version: number }): LogRecord => ({
    ...recordOf({ version: over.version }),
    table: TABLE,
    key: '{"id":9223372036854775807}',
    after: rowText(ROW),
    topic: 'r.shop.products',
    ...over,
  })
  let runs = 0
  const write = async (options: object, records: readonly LogRecord[]) => {
    const all = {
      brokers: cluster.bootstrap,
      position_topic: `p-${++runs}`,
      registry: { url: registry.url },
      ...options,
    }
    const writer = await openSink(all, testContext({ task: `r/sink/${runs}` }))
    try {
      return await writer.write(batchOf(records))
    } finally {
      await writer[Symbol.asyncDispose]()
    }
  }
  const schemaOf = async (bytes: Buffer): Promise<string> => {
    expect(bytes[0]).toBe(0)
    const answer = await fetch(`${registry.url}/schemas/ids/${bytes.readInt32BE(1)}`)
    return ((await answer.json()) as { schema: string }).schema
  }
  const longs = {
    typeHook: (schema: unknown) =>
      schema === 'long' || (schema as { type?: string }).type === 'long'
        ? avro.types.LongType.__with({
            fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
            toBuffer: () => Buffer.alloc(8),
            fromJSON: BigInt,
            toJSON: Number,
            isValid: () => true,
            compare: () => 0,
          })
        : undefined,
    wrapUnions: true,
  }
  const readAvro = async (bytes: Buffer): Promise<Record<string, unknown>> => {
    const type = avro.Type.forSchema(JSON.parse(await schemaOf(bytes)), longs as never)
    const wrapped = type.fromBuffer(bytes.subarray(5)) as Record<string, object | null>
    return Object.fromEntries(
      Object.entries(wrapped).map(([name, value]) => [name, value && Object.values(value)[0]]),
    )
  }

  it('Avro: keys and rows by the registry’s schemas, all digits kept; a delete is a tombstone', async () => {
    expect(
      await write({ topic: 'avro', view: 'row', format: 'avro' }, [
        record({ version: 1 }),
        record({ op: 'd', version: 2, after: null }),
      ]),
    ).toEqual([])
    const [row, gone] = await committed(cluster.bootstrap, 'avro')
    expect(await readAvro(row!.key!)).toEqual({ id: 9223372036854775807n })
    expect(await readAvro(row!.value!)).toEqual({
      id: 9223372036854775807n,
      name: 'schön',
      price: '12345678901234567890.10',
      is_sold: true,
      photo: Buffer.from([0, 1, 255]),
      made_at: 1_709_208_000_123_456n,
      tags: '{"a":[1]}',
    })
    expect(gone).toMatchObject({ value: null })
    expect(gone!.key).toEqual(row!.key)
    const subjects = (await (await fetch(`${registry.url}/subjects`)).json()) as string[]
    expect(subjects).toEqual(expect.arrayContaining(['avro-key', 'avro-value']))
  })

  it('Avro: a change is a record with the row as JSON; subjects by record', async () => {
    const options = {
      topic: 'avro-changes',
      format: 'avro',
      registry: { url: registry.url, subject: 'record' },
    }
    await write(options, [record({ version: 5 })])
    const [change] = await committed(cluster.bootstrap, 'avro-changes')
    expect(await readAvro(change!.value!)).toMatchObject({
      op: 'u',
      before: null,
      after: rowText(ROW),
      ts_ms: 1_700_000_000_001n,
    })
    const subjects = (await (await fetch(`${registry.url}/subjects`)).json()) as string[]
    expect(subjects).toContain('shop_products_change')
  })

  it('Protobuf: fields keep their numbers when columns come and go', async () => {
    const options = { topic: 'proto', view: 'row', format: 'protobuf' }
    await write(options, [record({ version: 1 })])
    const later: Table = {
      ...TABLE,
      columns: [column('stock', 'int4'), ...TABLE.columns.filter(one => one.name !== 'name')],
    }
    const { name: _, ...rest } = ROW
    await write(options, [record({ version: 2, table: later, after: rowText({ stock: '0', ...rest }) })])
    const found = await committed(cluster.bootstrap, 'proto')
    const read = async (bytes: Buffer) => {
      const text = await schemaOf(bytes)
      expect(bytes[5], 'the first message').toBe(0)
      const type = protobuf.parse(text, { keepCase: true }).root.lookupType('shop_products')
      return { text, row: type.toObject(type.decode(bytes.subarray(6)), { longs: String }) }
    }
    const [before, after] = [await read(found[0]!.value!), await read(found[1]!.value!)]
    expect(before.row).toEqual({
      id: '9223372036854775807',
      name: 'schön',
      price: '12345678901234567890.10',
      is_sold: true,
      photo: Buffer.from([0, 1, 255]),
      made_at: '2024-02-29T12:00:00.123456Z',
      tags: '{"a":[1]}',
    })
    expect(before.text).toContain('optional string name = 2;')
    expect(after.row).toMatchObject({ stock: 0, id: '9223372036854775807', is_sold: true })
    expect(after.text).toContain('optional int32 stock = 8;')
    expect(after.text).toContain('optional int64 id = 1;')
    expect(after.text).toMatch(/reserved 2;/)
  })

  it('a schema that the subject’s compatibility refuses is told with what changed', async () => {
    const options = { topic: 'strict', view: 'row', format: 'avro' }
    await write(options, [record({ version: 1 })])
    const set = await fetch(`${registry.url}/config/strict-value`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: '{"compatibility":"FULL"}',
    })
    expect(set.ok).toBe(true)
    const other: Table = {
      ...TABLE,
      columns: TABLE.columns.map(one => (one.name === 'name' ? column('name', 'int4') : one)),
    }
    const refused = await write(options, [
      record({ version: 2, table: other, after: rowText({ ...ROW, name: '5' }) }),
    ]).catch(error => error as ConnectorError)
    expect(refused).toMatchObject({ kind: 'config', message: expect.stringContaining('strict-value') })
    expect((refused as ConnectorError).message).toMatch(/name|type/i)
  })

  it('a value that the schema cannot hold is a dead letter; schemas that must stand there are asked for', async () => {
    const bad = record({ version: 2, after: rowText({ ...ROW, made_at: '"infinity"' }) })
    const rejected = await write({ topic: 'bad', view: 'row', format: 'avro' }, [record({ version: 1 }), bad])
    expect(rejected.map(one => one.record)).toEqual([bad])
    expect(rejected[0]!.error.message).toContain('made_at')
    const only = { url: registry.url, register: false }
    await expect(
      write({ topic: 'unregistered', view: 'row', format: 'avro', registry: only }, [record({ version: 1 })]),
    ).rejects.toThrow('has not this schema of unregistered-key')
    await write({ topic: 'bad', view: 'row', format: 'avro', registry: only }, [record({ version: 3 })])
  })

  it('a registry that is away is unavailable', async () => {
    const away = { url: 'http://127.0.0.1:1' }
    await expect(
      write({ topic: 'away', format: 'avro', registry: away }, [record({ version: 1 })]),
    ).rejects.toMatchObject({
      kind: 'unavailable',
    })
    expect(kafka.delivery(kafka.config.parse({ brokers: ['b:1'] }))).toBe('exactly_once')
  })
})
