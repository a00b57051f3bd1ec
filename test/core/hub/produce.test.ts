/** Rows that people bring to a hub, on the embedded log: what is taken, what is refused, and that each is written once. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import avro, { type Schema } from 'avsc'
import { describe, expect, it } from 'vitest'
import type { Batch } from '../../../core/connector.ts'
import { ConnectorError } from '../../../core/errors.ts'
import type { Logs, PipelineLogs } from '../../../core/hub/logs.ts'
import { openProducer } from '../../../core/hub/producer.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { handClock, settled } from './clock.ts'
import { log, newFolder, recordsIn, startHub } from './producing.ts'

const yaml = `name: orders
source:
  type: produce
  topics:
    - { table: shop.orders, key: [id], columns: { id: int8, total: numeric, at: timestamptz } }
    - { table: shop.notes }
    - { table: shop.lines, key: [order, line] }
`
const TOPIC = 'orders.shop.orders'

/** Each write of the log's writers, as it is given to them; may throw before or after it. */
const breaking =
  (around: (batch: Batch<ChangeRecord>, write: () => Promise<unknown>) => Promise<unknown>) =>
  (logs: Logs): Logs => ({
    ...logs,
    async open(definition, retention) {
      const opened = await logs.open(definition, retention)
      const changes: typeof opened.changes = {
        ...opened.changes,
        async writer(context, floor) {
          const writer = await opened.changes.writer(context, floor)
          return {
            ...writer,
            async write(batch) {
              await around(batch, () => writer.write(batch))
              return []
            },
          }
        },
      }
      return { ...opened, changes, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() }
    },
  })

/** A log that does not take the row of this key. */
const refusing =
  (key: string) =>
  (logs: Logs): Logs => ({
    ...logs,
    async open(definition, retention) {
      const opened = await logs.open(definition, retention)
      const changes: typeof opened.changes = {
        ...opened.changes,
        async writer(context, floor) {
          const writer = await opened.changes.writer(context, floor)
          return {
            ...writer,
            async write(batch) {
              const bad = batch.records.filter(record => record.key === key)
              const error = new ConnectorError('data', 'too large')
              return bad.length > 0
                ? bad.map(record => ({ record, stage: 'log', error }))
                : await writer.write(batch)
            },
          }
        },
      }
      return { ...opened, changes, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() }
    },
  })

describe('rows that are brought', () => {
  it('are in the log when they are answered, with all their digits and in the form of their types', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
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
    await using hub = await startHub(folder, yaml)
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
    await using hub = await startHub(folder, yaml)
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
    await using hub = await startHub(folder, yaml)
    const answer = await hub.post(topic, body)
    expect(answer).toMatchObject({ status: 400, body: { record } })
    expect(answer.body.error).toContain(`record ${record}: `)
    expect(answer.body.error).toContain(error)
    expect(await recordsIn(hub.running.log)).toEqual([])
  })

  it('say by the line which of many was bad', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
    const answer = await hub.post(TOPIC, '{"id":1}\n{"id":2}\n{"id":\n', 'application/x-ndjson')
    expect(answer).toMatchObject({ status: 400, body: { record: 2 } })
  })

  it('name the topics there are, the formats that are taken, and how large a request may be', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
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
    const wrap = refusing('{"id":13}')
    await using hub = await startHub(folder, yaml, { wrap })
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
  const more = yaml.replace('  topics:', '  topics:\n    - { table: shop.more, key: [id] }')
  const started = async (text: string, topic: string) => {
    await using hub = await startHub(folder, text)
    return (await hub.post(topic, '{"id":1}')).status
  }
  expect(await started(yaml, TOPIC)).toBe(200)
  expect(await started(more, 'orders.shop.more')).toBe(200)
  expect(await started(yaml, 'orders.shop.more')).toBe(404)
  expect(await started(more, 'orders.shop.more')).toBe(200)
  for (const [from, to] of [
    ['key: [id] }', 'key: [other] }'],
    ['sinks', 'log: { partitions: 2 }\nsinks'],
  ])
    await expect(started(`${more}sinks: []\n`.replace(from!, to!), TOPIC)).rejects.toThrow(
      'made for something else',
    )
  // Also of a topic that was left out meanwhile.
  expect(await started(yaml, TOPIC)).toBe(200)
  await expect(started(more.replace('key: [id] }', 'key: [other] }'), TOPIC)).rejects.toThrow(
    'the key of shop.more',
  )
})

it('rows pass the transforms before the log', async () => {
  using folder = newFolder()
  const mask = 'transforms: [{ mask: { fields: [shop.orders.note], with: sha256 } }]'
  await using hub = await startHub(folder, yaml.replace('  topics:', `  ${mask}\n  topics:`))
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
  await using hub = await startHub(folder, yaml.replace('  topics:', `  topics:\n    - ${topic}`))
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

describe('a request that comes again', () => {
  it('with its Idempotency-Key is written once, also by a hub that is started anew', async () => {
    using folder = newFolder()
    {
      await using hub = await startHub(folder, yaml)
      expect((await hub.post(TOPIC, '{"id":1}', undefined, 'k1')).status).toBe(200)
      expect(await hub.post(TOPIC, '{"id":1}', undefined, 'k1')).toMatchObject({ body: { records: 1 } })
      await hub.post('orders.shop.notes', '{"text":"x"}', undefined, 'k1') // of another topic it is another one
      await Promise.all([1, 2, 3].map(() => hub.post(TOPIC, '{"id":2}', undefined, 'k2')))
    }
    await using hub = await startHub(folder, yaml)
    expect((await hub.post(TOPIC, '{"id":2}', undefined, 'k2')).status).toBe(200)
    expect((await hub.post(TOPIC, '{"id":2}', undefined, 'k3')).status).toBe(200)
    expect((await recordsIn(hub.running.log)).map(one => one.after)).toEqual([
      '{"id":1}',
      '{"text":"x"}',
      '{"id":2}',
      '{"id":2}',
    ])
  })

  it('is not written again when the hub died between the write and the answer', async () => {
    using folder = newFolder()
    {
      const never = new Promise<never>(() => {})
      let wrote = () => {}
      const written = new Promise<void>(resolve => (wrote = resolve))
      const wrap = breaking(async (_, write) => {
        await write()
        wrote()
        await Promise.race([never, stopping])
      })
      let stop = () => {}
      const stopping = new Promise<void>(resolve => (stop = resolve))
      await using hub = await startHub(folder, yaml, { wrap })
      const answer = hub.post(TOPIC, '{"id":1}', undefined, 'k1').catch(() => null)
      await written
      stop()
      await answer
    }
    await using hub = await startHub(folder, yaml)
    expect((await hub.post(TOPIC, '{"id":1}', undefined, 'k1')).status).toBe(200)
    expect(await recordsIn(hub.running.log)).toHaveLength(1)
  })

  it('is found in the log when the write lost its answer, and is written when it never came there', async () => {
    using folder = newFolder()
    let breaks = 0
    const wrap = breaking(async (_, write) => {
      const turn = ++breaks
      if (turn % 3 !== 2) await write()
      if (turn % 3 !== 0) throw new ConnectorError('unavailable', 'the connection was lost')
    })
    await using hub = await startHub(folder, yaml, { wrap })
    for (let id = 1; id <= 30; id++)
      expect((await hub.post(TOPIC, `{"id":${id}}`)).status, `row ${id}`).toBe(200)
    expect(breaks).toBeGreaterThan(30)
    const keys = (await recordsIn(hub.running.log)).map(one => one.key)
    expect(keys).toEqual(Array.from({ length: 30 }, (_, i) => `{"id":${i + 1}}`))
  })
})

describe('requests at the same time', () => {
  it('share writes: those that come while one is going are the next batch', async () => {
    using folder = newFolder()
    const sizes: number[] = []
    let go = () => {}
    const first = new Promise<void>(resolve => (go = resolve))
    const wrap = breaking(async (batch, write) => {
      sizes.push(batch.records.length)
      if (sizes.length === 1) await first
      return write()
    })
    await using hub = await startHub(folder, yaml, { wrap })
    const { producer } = hub.running
    const rows = (id: number) =>
      hub.hub.produce(TOPIC, { body: Buffer.from(`{"id":${id}}`), type: 'application/json', key: null })
    const one = rows(0)
    while (sizes.length === 0) await new Promise(resolve => setImmediate(resolve))
    const others = Array.from({ length: 50 }, (_, i) => rows(i + 1))
    for (let turns = 0; turns < 20; turns++) await new Promise(resolve => setImmediate(resolve))
    expect(producer!.task.metrics.get('records'), 'nothing is durable yet').toBe(0)
    go()
    await Promise.all([one, ...others])
    expect(sizes).toEqual([1, 50])
  })

  it('with one key are one, also while the first of them waits', async () => {
    using folder = newFolder()
    let go = () => {}
    const first = new Promise<void>(resolve => (go = resolve))
    const wrap = breaking(async (_, write) => {
      await first
      return write()
    })
    await using hub = await startHub(folder, yaml, { wrap })
    const rows = (id: number, key: string) =>
      hub.hub.produce(TOPIC, { body: Buffer.from(`{"id":${id}}`), type: 'application/json', key })
    const one = rows(1, 'a')
    await settled()
    const others = [rows(2, 'b'), rows(2, 'b'), rows(1, 'a'), rows(3, 'c')]
    await settled()
    go()
    await Promise.all([one, ...others])
    expect((await recordsIn(hub.running.log)).map(record => record.key)).toEqual(
      [1, 2, 3].map(id => `{"id":${id}}`),
    )
  })

  it('to two hubs are all written once, in versions that rise, though each fences the other', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
    const producers = [openProducer(partsOf(hub)), openProducer(partsOf(hub))] as const
    const ids: string[] = []
    const send = async (p: 0 | 1) => {
      for (let round = 0; round < 40; round++) {
        const of = Array.from({ length: 3 }, (_, i) => `${p}-${round}-${i}`)
        ids.push(...of)
        const hasKey = round % 2 === 0
        await Promise.all(of.map(id => producers[p].write([recordOf(id)], 10, hasKey ? id : null)))
        // Whoever did not hear of it says it again to the other one.
        if (hasKey) await Promise.all(of.map(id => producers[1 - p]!.write([recordOf(id)], 10, id)))
      }
    }
    await Promise.all([send(0), send(1)])
    await Promise.all(producers.map(one => one[Symbol.asyncDispose]()))
    const records = await recordsIn(hub.running.log)
    expect(records.map(one => one.key).sort()).toEqual(ids.map(id => recordOf(id).key).sort())
    expect(new Set(records.map(one => one.version)).size).toBe(records.length)
    const inOffsets = [...records].sort((a, b) => a.offset - b.offset)
    expect(inOffsets.map(one => one.version)).toEqual(records.map(one => one.version))
  })

  it('of which the log remembers nothing any more are not said to be written, nor written again', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
    const other = openProducer(partsOf(hub))
    let isLost = true
    const wrap = breaking(async (_, write) => {
      await write()
      if (!isLost) return
      isLost = false
      for (let i = 0; i < 40; i++) await other.write([recordOf(`other ${i}`)], 10, null)
      throw new ConnectorError('unavailable', 'the connection was lost')
    })
    const { logs } = partsOf(hub)
    const wrapped = wrap({ open: logs } as never)
    const one = openProducer({ ...partsOf(hub), logs: () => wrapped.open(hub.running.definition) })
    await expect(one.write([recordOf('x')], 10, null)).rejects.toMatchObject({
      kind: 'unavailable',
      hint: expect.stringContaining('Idempotency-Key'),
    })
    expect(one.task.state()).toBe('failing')
    await one.write([recordOf('y')], 10, null)
    expect(one.task.state()).toBe('running')
    await Promise.all([one, other].map(producer => producer[Symbol.asyncDispose]()))
    const keys = (await recordsIn(hub.running.log)).map(record => record.key)
    expect(keys.filter(key => key === recordOf('x').key)).toHaveLength(1)
    expect(keys).toHaveLength(42)
  })
})

const TABLE = { schema: 'shop', name: 'orders', key: ['id'], columns: [{ name: 'id', type: 'text' }] }
const recordOf = (id: string): ChangeRecord => ({
  op: 'u',
  table: TABLE,
  key: `{"id":"${id}"}`,
  before: null,
  after: `{"id":"${id}"}`,
  source: '{}',
  commitMs: 0,
  readMs: 0,
  below: null,
})
const partsOf = ({ running: { definition, log: changes, dead } }: Awaited<ReturnType<typeof startHub>>) => {
  const logs = { changes, dead, isWatched: false } as unknown as PipelineLogs
  const silent = { clock: realClock, random: Math.random, log }
  return { ...silent, definition, logs: async () => logs, failed: async () => {} }
}

describe('a log that takes nothing', () => {
  it('at its limit is answered with 503 and what to do, and status tells of it until it has room', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, `${yaml}limits: { log_bytes: 20000 }\n`)
    const row = `{"id":1,"note":"${'x'.repeat(4_000)}"}`
    let answer = await hub.post(TOPIC, row)
    for (let i = 0; i < 20_000 && answer.status === 200; i++)
      answer = await hub.post(
        TOPIC,
        row.replace('xxxxxxxx', Math.random().toString(36).slice(2, 10).padEnd(8, 'y')),
      )
    expect(answer.status).toBe(503)
    expect(answer.body.error).toContain('limits.log_bytes')
    expect(answer.body.hint).toContain('millrace status')
    expect((await hub.hub.status()).pipelines[0]).toMatchObject({ state: 'failing' })
  })

  it('does not keep whoever asks waiting, nor takes more than its memory', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
    const clock = handClock()
    const wrap = breaking(() => new Promise(() => {}))
    const wrapped = wrap({ open: partsOf(hub).logs } as never)
    const one = openProducer({ ...partsOf(hub), clock, logs: () => wrapped.open(hub.running.definition) })
    const answers = Array.from({ length: 5 }, (_, i) =>
      one.write([recordOf(`${i}`)], 20 << 20, null).then(
        () => 'written',
        (error: ConnectorError) => `${error.kind}: ${error.message}`,
      ),
    )
    expect(await answers[4]).toMatch(/^throttled: \d+ bytes of rows wait/)
    await settled()
    await clock.pass(30_000)
    expect(await Promise.all(answers.slice(0, 4))).toEqual(
      Array(4).fill('unavailable: the log has not answered for 30 s'),
    )
  })

  it('because its pipeline is removed says that there is no such topic', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
    await hub.post(TOPIC, '{"id":1}')
    expect(await hub.hub.remove('orders')).toContain('log and dead letters of orders')
    expect((await hub.post(TOPIC, '{"id":1}')).status).toBe(404)
  })
})
