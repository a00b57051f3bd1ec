/** Rows that people bring to a hub, on the embedded log: what is taken, what is refused, and that each is written once. */
import { describe, expect, it } from 'vitest'
import type { Batch } from '../../../core/connector.ts'
import { ConnectorError } from '../../../core/errors.ts'
import type { Logs } from '../../../core/hub/logs.ts'
import { openProducer } from '../../../core/hub/producer.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { realClock } from '../../../core/worker/clock.ts'
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

  it('are refused by a transform before the log, and the others of the moment are written', async () => {
    using folder = newFolder()
    const masked = yaml.replace(
      '  topics:',
      '  transforms: [{ mask: { fields: [shop.orders.note], with: hash } }]\n  topics:',
    )
    await using hub = await startHub(folder, masked)
    await hub.post(TOPIC, '{"id":1,"note":"secret"}')
    const [record] = await recordsIn(hub.running.log)
    expect(record!.after).not.toContain('secret')
  })
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

  it('to two hubs are all written once, in versions that rise, though each fences the other', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
    const { definition, log: changes, dead } = hub.running
    const logs = { changes, dead } as never
    const shared = {
      definition,
      clock: realClock,
      random: Math.random,
      log,
      logs: async () => logs,
      failed: async () => {},
    }
    const table = (
      await (async () => {
        await hub.post(TOPIC, '{"id":0}')
        return recordsIn(changes)
      })()
    )[0]!.table
    const recordOf = (id: string): ChangeRecord => ({
      op: 'u',
      table,
      key: `{"id":"${id}"}`,
      before: null,
      after: `{"id":"${id}"}`,
      source: '{}',
      commitMs: 0,
      readMs: 0,
      below: null,
    })
    const producers = [openProducer(shared), openProducer(shared)]
    const ids: string[] = []
    await Promise.all(
      producers.map(async (producer, p) => {
        for (let round = 0; round < 40; round++) {
          const of = Array.from({ length: 3 }, (_, i) => `${p}-${round}-${i}`)
          ids.push(...of)
          await Promise.all(of.map(id => producer.write([recordOf(id)], 10, round % 2 === 0 ? id : null)))
          await Promise.all(
            of.filter(() => round % 2 === 0).map(id => producers[1 - p]!.write([recordOf(id)], 10, id)),
          )
        }
      }),
    )
    await Promise.all(producers.map(one => one[Symbol.asyncDispose]()))
    const records = (await recordsIn(changes)).slice(1)
    expect(records.map(one => one.key).sort()).toEqual(ids.map(id => `{"id":"${id}"}`).sort())
    expect(new Set(records.map(one => one.version)).size).toBe(records.length)
    const byOffset = [...records].sort((a, b) => a.offset - b.offset)
    expect(byOffset.map(one => one.version)).toEqual(records.map(one => one.version))
  })
})

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

  it('because its pipeline is removed says that there is no such topic', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, yaml)
    await hub.post(TOPIC, '{"id":1}')
    expect(await hub.hub.remove('orders')).toContain('log and dead letters of orders')
    expect((await hub.post(TOPIC, '{"id":1}')).status).toBe(404)
  })
})
