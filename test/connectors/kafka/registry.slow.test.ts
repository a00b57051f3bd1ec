/** Avro and Protobuf with a real schema registry: what is written is read by the libraries alone, from the registry's schemas. */
import avro from 'avsc'
import protobuf from 'protobufjs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kafka } from '../../../connectors/kafka/sink.ts'
import { kafkaTopics } from '../../../connectors/kafka/source.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { ChangeRecord, LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { missingForRegistry, type RegistryServer, startRegistry } from '../../servers/registry.ts'
import { clientOf, committed, openSink } from './reading.ts'

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
    expect(after.text).toContain('optional string name = 2;')
    expect(after.row).not.toHaveProperty('name')

    // A task that is begun again, and meets both shapes once more.
    await write(options, [
      record({ version: 3 }),
      record({ version: 4, table: later, after: rowText({ stock: '0', ...rest }) }),
    ])
    const again = await committed(cluster.bootstrap, 'proto')
    for (const { value } of again.slice(2)) expect((await read(value!)).text).toBe(after.text)
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

  describe('source', () => {
    const readAll = async (over: object, count: number) => {
      const stop = new AbortController()
      const config = kafkaTopics.config.parse({
        brokers: cluster.bootstrap,
        registry: { url: registry.url },
        ...over,
      })
      const records: ChangeRecord[] = []
      const reader = await kafkaTopics.open(config, null, testContext({ signal: stop.signal }))
      try {
        for await (const batch of reader) {
          records.push(...batch.records)
          if (records.length >= count) break
        }
      } finally {
        stop.abort()
        await reader[Symbol.asyncDispose]()
      }
      return records
    }
    const typesOf = ({ table }: ChangeRecord) =>
      Object.fromEntries(table.columns.map(({ name, type }) => [name, type]))

    it('Avro: rows of our own sink come back with every digit; a tombstone deletes', async () => {
      const options = { topic: 'back-avro', view: 'row', format: 'avro' }
      await write(options, [record({ version: 1 }), record({ version: 2, op: 'd', after: null })])
      const [row, gone] = await readAll({ topics: ['back-avro'], format: 'avro' }, 2)
      expect(row).toMatchObject({ op: 'u', key: '{"id":9223372036854775807}' })
      expect(gone).toMatchObject({ op: 'd', key: '{"id":9223372036854775807}', after: null })
      const { id, name, price, 'is sold': is_sold, photo, made_at, tags } = ROW
      expect(row!.after).toBe(
        rowText({ id, name, price, is_sold, photo, made_at, tags: JSON.stringify(tags) }),
      )
      expect(typesOf(row!)).toMatchObject({
        id: 'int8',
        is_sold: 'bool',
        photo: 'bytea',
        made_at: 'timestamptz',
      })
    })

    it('Protobuf: rows of our own sink come back; keys that are no records, and messages inside others, are read', async () => {
      await write({ topic: 'back-proto', view: 'row', format: 'protobuf' }, [record({ version: 1 })])
      const [row] = await readAll({ topics: ['back-proto'], format: 'protobuf' }, 1)
      expect(row).toMatchObject({ op: 'u', key: '{"id":9223372036854775807}' })
      expect(JSON.parse(row!.after!)).toMatchObject({
        name: 'schön',
        price: '12345678901234567890.10',
        is_sold: true,
      })
      expect(row!.after).toContain('"id":9223372036854775807')

      const register = async (subject: string, schemaType: string, schema: string) => {
        const answer = await fetch(`${registry.url}/subjects/${subject}/versions`, {
          method: 'POST',
          headers: { 'content-type': 'application/vnd.schemaregistry.v1+json' },
          body: JSON.stringify({ schema, schemaType }),
        })
        const head = Buffer.alloc(5)
        head.writeInt32BE(((await answer.json()) as { id: number }).id, 1)
        return head
      }
      const proto =
        'syntax = "proto3"; package p; message A { message B { string x = 1; } } message C { int32 n = 1; }'
      const ofProto = await register('mixed-value', 'PROTOBUF', proto)
      const ofKey = await register('mixed-key', 'AVRO', '"string"')
      const text = (value: string) => Buffer.concat([Buffer.from([2 * value.length]), Buffer.from(value)])
      const admin = clientOf(cluster.bootstrap).admin()
      await admin.connect()
      await admin.createTopics({ topics: [{ topic: 'mixed', numPartitions: 1 }] })
      await admin.disconnect()
      const producer = clientOf(cluster.bootstrap).producer()
      await producer.connect()
      await producer.send({
        topic: 'mixed',
        messages: [
          // A.B: two places, 0 and 0, as zigzag varints; field 1 of it "hi"
          {
            key: Buffer.concat([ofKey, text('k1')]),
            value: Buffer.concat([ofProto, Buffer.from([4, 0, 0, 10, 2, 104, 105])]),
          },
          // C: one place, 1; field 1 of it 7
          { key: 'k2', value: Buffer.concat([ofProto, Buffer.from([2, 2, 8, 7])]) },
          { key: 'k3', value: 'not of a registry' },
        ],
      })
      await producer.disconnect()
      const records = await readAll({ topics: ['mixed'], format: 'protobuf' }, 2)
      expect(records.map(({ key, after }) => [key, after])).toEqual([
        ['{"key":"k1"}', '{"key":"k1","x":"hi"}'],
        ['{"key":"k2"}', '{"key":"k2","n":7}'],
      ])
      await expect(readAll({ topics: ['mixed'], format: 'protobuf' }, 3)).rejects.toMatchObject({
        kind: 'config',
        message: expect.stringContaining('mixed/0 offset 2'),
      })
    })
  })
})
