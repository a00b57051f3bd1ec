/** Rows that people bring to a hub, on the embedded log: what is taken and what is refused. That each is written once: producer.test.ts. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import avro, { type Schema } from 'avsc'
import { describe, expect, it } from 'vitest'
import { ConnectorError } from '../../../core/errors.ts'
import { newFolder, ORDERS, recordsIn, startHub, TOPIC, writing } from './producing.ts'

describe('rows that are brought', () => {
  it('are in the log when they are answered, with all their digits and in the form of their types', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, ORDERS)
    const row =
      '{ "id": 9007199254740993, "total": 12.50, "at": "2026-01-31T12:00:00.500+02:00", "note": "a\\"b", "tags": [1, {"x": 2}] }'
    expect(await hub.post(TOPIC, row)).toEqual({ status: 200, body: { topic: TOPIC, records: 1 } })
    const [record, ...more] = await recordsIn(hub.running.log)
    expect(more).toEqual([])
    expect(record).toMatchObject({
      op: 'u',
      topic: TOPIC,
      key: '{"id":9007199254740993}',
      after:
        '{"id":9007199254740993,"total":"12.50","at":"2026-01-31T10:00:00.5Z","note":"a\\"b","tags":[1,{"x":2}]}',
      before: null,
    })
    expect(record!.table).toEqual({
      schema: 'shop',
      name: 'orders',
      key: ['id'],
      columns: [
        { name: 'id', type: 'int8' },
        { name: 'total', type: 'numeric' },
        { name: 'at', type: 'timestamptz' },
        { name: 'note', type: 'text' },
        { name: 'tags', type: 'jsonb' },
      ],
    })
    expect(Math.abs(record!.commitMs - Date.now())).toBeLessThan(3_600_000)
  })

  it('come one, as an array, one a line, or as records of which some delete', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, ORDERS)
    const counted = async (body: string, type?: string) => (await hub.post(TOPIC, body, type)).body.records
    expect(await counted('[{"id":1},{"id":2}]', 'application/json; charset=utf-8')).toBe(2)
    expect(await counted('{"id":3}\n\n  {"id":4}\r\n', 'application/x-ndjson')).toBe(2)
    expect(
      await counted(
        '{"records": [{"value":{"id":5}}, {"key":{"id":1},"value":null}, {"key":2,"value":null}, {"key":{"id":6},"value":{"id":6}}]}',
      ),
    ).toBe(4)
    expect(await counted('[]')).toBe(0)
    expect((await recordsIn(hub.running.log)).map(({ op, key, after }) => [op, key, after])).toEqual([
      ...[1, 2, 3, 4, 5].map(id => ['u', `{"id":${id}}`, `{"id":${id}}`]),
      ['d', '{"id":1}', null],
      ['d', '{"id":2}', null],
      ['u', '{"id":6}', '{"id":6}'],
    ])
  })

  it('of a topic without a key are only added; of one with two the key has the order of the file', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, ORDERS)
    await hub.post('orders.shop.notes', '{"text":"x"}')
    await hub.post('orders.shop.lines', '{"line":1,"order":"a"}')
    await hub.post('orders.shop.lines', '{"records":[{"key":{"line":1,"order":"a"},"value":null}]}')
    expect((await recordsIn(hub.running.log)).map(({ op, key }) => [op, key])).toEqual([
      ['c', '{}'],
      ['u', '{"order":"a","line":1}'],
      ['d', '{"order":"a","line":1}'],
    ])
  })
})

describe('rows that are refused', () => {
  it.each([
    [
      'a value of another type',
      TOPIC,
      '[{"id":1},{"id":2,"total":"much"}]',
      1,
      'total (numeric) holds "much"',
    ],
    ['a row without the key', TOPIC, '[{"total":1}]', 0, 'has no id, which is a part of the key'],
    ['a key that is null', TOPIC, '{"id":null}', 0, 'has no id'],
    ['what is no object', TOPIC, '[{"id":1},{"id":2},7]', 2, 'is no JSON object: 7'],
    ['what is no JSON', TOPIC, '{"id":1', 0, 'is no JSON'],
    ['a bare value', TOPIC, '7', 0, 'and no row'],
    ['a record without value', TOPIC, '{"records":[{"key":{"id":1}}]}', 0, 'has no value'],
    ['a delete without a key', TOPIC, '{"records":[{"value":null}]}', 0, 'neither a value nor a key'],
    [
      'a delete of half a key',
      'orders.shop.lines',
      '{"records":[{"key":{"line":1},"value":null}]}',
      0,
      'has no order',
    ],
    [
      'a delete with a row',
      TOPIC,
      '{"records":[{"key":{"id":1,"total":2},"value":null}]}',
      0,
      'no part of it',
    ],
    [
      'a delete where there is no key',
      'orders.shop.notes',
      '{"records":[{"key":{},"value":null}]}',
      0,
      'has no key',
    ],
  ])('%s, and nothing of the request is written', async (_, topic, body, record, error) => {
    using folder = newFolder()
    await using hub = await startHub(folder, ORDERS)
    const answer = await hub.post(topic, body)
    expect(answer).toMatchObject({ status: 400, body: { record } })
    expect(answer.body.error).toContain(`record ${record}: `)
    expect(answer.body.error).toContain(error)
    expect(await recordsIn(hub.running.log)).toEqual([])
  })

  it('say by the line which of many was bad', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, ORDERS)
    const answer = await hub.post(TOPIC, '{"id":1}\n{"id":2}\n{"id":\n', 'application/x-ndjson')
    expect(answer).toMatchObject({ status: 400, body: { record: 2 } })
  })

  it('name the topics there are, the formats that are taken, and how large a request may be', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, ORDERS)
    const unknown = await hub.post('orders.shop.order', '{"id":1}')
    expect(unknown.status).toBe(404)
    expect(unknown.body.error).toContain('there is orders.shop.orders, orders.shop.notes, orders.shop.lines')
    const other = await hub.post(TOPIC, '{"id":1}', 'text/plain')
    expect(other).toMatchObject({ status: 415 })
    expect(other.body.hint).toContain('application/json, application/x-ndjson')
    const large = await hub.post(TOPIC, Buffer.alloc((16 << 20) + 1, ' '))
    expect(large).toMatchObject({ status: 413 })
    expect(await recordsIn(hub.running.log)).toEqual([])
  })

  it('are refused by the log alone: what others sent at that moment is written', async () => {
    using folder = newFolder()
    const wrap = writing(async (batch, write) => {
      const bad = batch.records.filter(record => record.key === '{"id":13}')
      const error = new ConnectorError('data', 'too large')
      return bad.length > 0 ? bad.map(record => ({ record, stage: 'log', error })) : write()
    })
    await using hub = await startHub(folder, ORDERS, { wrap })
    const answers = await Promise.all(
      ['{"id":1}', '[{"id":12},{"id":13}]', '{"id":2}'].map(body => hub.post(TOPIC, body)),
    )
    expect(answers.map(one => one.status)).toEqual([200, 400, 200])
    expect(answers[1]!.body).toMatchObject({ record: 1, error: 'record 1: too large' })
    expect((await recordsIn(hub.running.log)).map(one => one.key).sort()).toEqual(['{"id":1}', '{"id":2}'])
  })
})

it('a pipeline may be given more topics, and keep fewer; a key stays what it was', async () => {
  using folder = newFolder()
  const more = ORDERS.replace('  topics:', '  topics:\n    - { table: shop.more, key: [id] }')
  const started = async (text: string, topic: string) => {
    await using hub = await startHub(folder, text)
    return (await hub.post(topic, '{"id":1}')).status
  }
  expect(await started(ORDERS, TOPIC)).toBe(200)
  expect(await started(more, 'orders.shop.more')).toBe(200)
  expect(await started(ORDERS, 'orders.shop.more')).toBe(404)
  expect(await started(more, 'orders.shop.more')).toBe(200)
  for (const [from, to] of [
    ['key: [id] }', 'key: [other] }'],
    ['sinks', 'log: { partitions: 2 }\nsinks'],
  ])
    await expect(started(`${more}sinks: []\n`.replace(from!, to!), TOPIC)).rejects.toThrow(
      'made for something else',
    )
  // Also of a topic that was left out meanwhile.
  expect(await started(ORDERS, TOPIC)).toBe(200)
  await expect(started(more.replace('key: [id] }', 'key: [other] }'), TOPIC)).rejects.toThrow(
    'the key of shop.more',
  )
})

it('rows pass the transforms before the log', async () => {
  using folder = newFolder()
  const mask = 'transforms: [{ mask: { fields: [shop.orders.note], with: sha256 } }]'
  await using hub = await startHub(folder, ORDERS.replace('  topics:', `  ${mask}\n  topics:`))
  await hub.post(TOPIC, '{"id":1,"note":"secret"}')
  const [record] = await recordsIn(hub.running.log)
  expect(record!.after).toMatch(/^\{"id":1,"note":"[0-9a-f]{64}"\}$/)
})

it('rows come in the bytes of a format, where a schema says so', async () => {
  using folder = newFolder()
  const path = join(folder.path, 'event.avsc')
  const schema: Schema = { type: 'record', name: 'event', fields: [{ name: 'id', type: 'int' }] }
  writeFileSync(path, JSON.stringify(schema))
  const topic = `{ table: shop.events, key: [id], format: avro, schema_file: ${JSON.stringify(path)} }`
  await using hub = await startHub(folder, ORDERS.replace('  topics:', `  topics:\n    - ${topic}`))
  const body = avro.Type.forSchema(schema).toBuffer({ id: 7 })
  const post = (bytes: Buffer | string, type: string) => hub.post('orders.shop.events', bytes, type)
  expect(await post(body, 'application/avro')).toMatchObject({ status: 200, body: { records: 1 } })
  expect(await post(Buffer.from([1, 2, 3]), 'application/avro')).toMatchObject({ status: 400 })
  expect(await post('{"id":8}', 'application/json')).toMatchObject({ status: 200 })
  expect(await post('[{"id":9},{"id":"x"}]', 'application/json')).toMatchObject({
    status: 400,
    body: { record: 1 },
  })
  expect(await post(body, 'application/x-protobuf')).toMatchObject({ status: 415 })
  expect((await recordsIn(hub.running.log)).map(one => one.after)).toEqual(['{"id":7}', '{"id":8}'])
})
