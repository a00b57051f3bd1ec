/** The source of Redis streams on a real server: kit, payloads, what the group shows, what was trimmed, what was killed. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { redisStreams } from '../../../connectors/redis/source.ts'
import type { Batch, Context, Offset, Reader } from '../../../core/connector.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { sourceConformance } from '../../conform/source.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { pairs } from './reading.ts'

definitionConformance(redisStreams as never)

const missing = missingForRedis()
describe.skipIf(missing !== null)(missing ?? 'redis streams', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis({ settings: { appendonly: 'yes', appendfsync: 'always' } })
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  const options = (over: object = {}) =>
    redisStreams.config.parse({ url: server.url, streams: ['orders'], count: 7, ...over })
  const add = async (stream: string, ...fields: string[]) =>
    (await server.command('XADD', stream, '*', ...fields)) as string

  sourceConformance({
    name: 'redis streams',
    async setUp() {
      await server.command('FLUSHALL')
      for (let i = 0; i < 40; i++)
        await add(i % 3 === 0 ? 'payments' : 'orders', 'n', String(i), 'é', '"\\\n')
      return {
        open: (from, context) => redisStreams.open(options(), from, context),
        async change() {
          for (let i = 40; i < 60; i++) await add('orders', 'n', String(i))
        },
        async [Symbol.asyncDispose]() {},
      }
    },
    isFixed: () => true,
    isResumable: () => true,
    quietMs: 1_500,
    resumes: 4,
  })

  describe('a stream', () => {
    let stop: AbortController
    const readers: Reader<ChangeRecord>[] = []
    beforeEach(async () => {
      stop = new AbortController()
      await server.command('FLUSHALL')
    })
    afterEach(async () => {
      stop.abort()
      for (const reader of readers.splice(0)) await reader[Symbol.asyncDispose]()
    })
    const open = async (from: Offset | null, over: object = {}, context: Partial<Context> = {}) => {
      const reader = await redisStreams.open(
        options(over),
        from,
        testContext({ pipeline: 'shop', task: 'shop/source', signal: stop.signal, ...context }),
      )
      readers.push(reader)
      return { reader, batches: reader[Symbol.asyncIterator]() }
    }
    const take = async (batches: AsyncIterator<Batch<ChangeRecord>>, count: number) => {
      const records: ChangeRecord[] = []
      let offset: Offset = null
      while (records.length < count) {
        const { value, done } = await batches.next()
        if (done) break
        records.push(...value.records)
        offset = value.offset
      }
      return { records, offset }
    }
    const group = async () => {
      const [first] = (await server.command('XINFO', 'GROUPS', 'orders')) as string[][]
      return Object.fromEntries(pairs(first!))
    }
    const lost = (reading: Promise<unknown>) =>
      reading.then(
        () => null,
        error => error as ConnectorError,
      )

    it('entries are rows of text by their id, or objects of a payload by a key of their own', async () => {
      const id = await add('orders', 'name', 'schön', 'id', 'shadowed')
      const { records } = await take((await open(null)).batches, 1)
      expect(records[0]).toMatchObject({
        op: 'c',
        table: { schema: 'redis', name: 'orders', key: ['id'] },
        key: `{"id":"${id}"}`,
        after: `{"id":"${id}","name":"schön"}`,
        commitMs: Number(id.split('-')[0]),
      })
      const data = '{ "order_id" : 9223372036854775807, "lines": [1, {"a b": " x "}], "paid":true }'
      const second = await add('orders', 'data', data)
      const payload = { payload: 'data', key: ['order_id'], group: 'other' }
      const from = { streams: { orders: { id, read: 1 } } }
      const next = await take((await open(from, payload)).batches, 1)
      expect(next.records[0]).toMatchObject({
        op: 'u',
        key: '{"order_id":9223372036854775807}',
        after: `{"id":"${second}","order_id":9223372036854775807,"lines":[1,{"a b":" x "}],"paid":true}`,
      })
    })

    it('several streams: each in its order, whatever the order between them', async () => {
      for (let i = 0; i < 30; i++) await add(i % 3 === 0 ? 'payments' : 'orders', 'n', String(i))
      const both = { streams: ['orders', 'payments'] }
      const first = await take((await open(null, both)).batches, 14)
      const rest = await take((await open(first.offset, both)).batches, 30 - first.records.length)
      const seen = [...first.records, ...rest.records]
      for (const [stream, isOwn] of [
        ['payments', (i: number) => i % 3 === 0],
        ['orders', (i: number) => i % 3 !== 0],
      ] as const)
        expect(
          seen.filter(one => one.table.name === stream).map(one => Number(JSON.parse(one.after!).n)),
        ).toEqual(Array.from({ length: 30 }, (_, i) => i).filter(isOwn))
    })

    it('what is no object is told with its entry', async () => {
      const id = await add('orders', 'data', '[1]')
      const { batches } = await open(null, { payload: 'data' })
      expect(await lost(batches.next())).toMatchObject({
        kind: 'config',
        message: expect.stringContaining(id),
      })
    })

    it('its group shows what is durable, and hands nothing out; whoever comes back begins behind his offset', async () => {
      for (let i = 0; i < 20; i++) await add('orders', 'n', String(i))
      const first = await open(null)
      const seven = await take(first.batches, 7)
      await first.reader.commit!(seven.offset)
      const fourteen = await take(first.batches, 7)
      const shown = (await server.command('XRANGE', 'orders', '-', '+', 'COUNT', '7')) as [string][]
      expect(await group()).toMatchObject({
        ...{ name: 'millrace:shop', pending: 0, lag: 13 },
        'last-delivered-id': shown.at(-1)![0],
      })
      stop.abort()
      stop = new AbortController()
      // The log holds fourteen; the group was never told of the last seven.
      const second = await open(fourteen.offset)
      expect(await group()).toMatchObject({ pending: 0, lag: 6 })
      const rest = await take(second.batches, 6)
      expect(rest.records.map(one => JSON.parse(one.after!).n)).toEqual(['14', '15', '16', '17', '18', '19'])
      await second.reader.commit!(rest.offset)
      expect(await group()).toMatchObject({ pending: 0, lag: 0 })
      const plan = await redisStreams.plan(options(), testContext({ pipeline: 'shop' }))
      expect(plan).toMatchObject({
        tables: [{ rows: 20 }],
        upstream: [{ name: 'millrace:shop', exists: true }],
      })
      expect(await redisStreams.drop!(options(), testContext({ pipeline: 'shop' }))).toEqual([
        'consumer group millrace:shop of orders',
      ])
      expect(await redisStreams.drop!(options(), testContext({ pipeline: 'shop' }))).toEqual([])
    })

    it('an owner that is none any more takes nothing from the next one', async () => {
      await add('orders', 'n', '0')
      const old = await open(null)
      const first = await take(old.batches, 1)
      const young = await open(first.offset)
      const late = old.batches.next() // it does not know yet
      await new Promise(resolve => setTimeout(resolve, 100)) // and waits at the server before the next one does
      for (let i = 1; i < 3; i++) await add('orders', 'n', String(i))
      await late
      const rest = await take(young.batches, 2)
      expect(rest.records.map(one => JSON.parse(one.after!).n)).toEqual(['1', '2'])
    })

    it('a stream that goes away while it is read is told', async () => {
      await add('orders', 'n', '0')
      const running = await open(null)
      await take(running.batches, 1)
      await server.command('DEL', 'orders')
      expect(await lost(take(running.batches, 1))).toMatchObject({
        kind: 'offset_lost',
        message: expect.stringContaining('the stream orders is gone'),
      })
    })

    it('waits for a stream that is not there yet', async () => {
      const { batches } = await open(null)
      expect((await batches.next()).value).toMatchObject({ records: [], caughtUp: true })
      const waiting = batches.next()
      await add('orders', 'n', '1')
      expect((await waiting).value.records).toHaveLength(1)
    })

    it('entries trimmed before they were read are lost, at the start and while it runs (V5)', async () => {
      for (let i = 0; i < 20; i++) await add('orders', 'n', String(i))
      const first = await open(null)
      const seven = await take(first.batches, 7)
      await server.command('XTRIM', 'orders', 'MAXLEN', '13')
      await open(seven.offset) // all that is gone was read
      await server.command('XTRIM', 'orders', 'MAXLEN', '10')
      expect(await lost(open(seven.offset))).toMatchObject({
        kind: 'offset_lost',
        message: expect.stringContaining('3 entries of the stream orders'),
      })
      stop.abort()
      stop = new AbortController()
      const running = await open(null, { count: 1_000 })
      await take(running.batches, 10)
      for (let i = 0; i < 5; i++) await add('orders', 'n', String(i))
      await server.command('XTRIM', 'orders', 'MAXLEN', '2')
      expect(await lost(take(running.batches, 1))).toMatchObject({
        kind: 'offset_lost',
        message: expect.stringContaining('3 entries'),
      })
    })

    it('entries deleted by name are gone on purpose; a stream made again is not the one that was read (V5)', async () => {
      const ids: string[] = []
      for (let i = 0; i < 10; i++) ids.push(await add('orders', 'n', String(i)))
      const first = await open(null)
      const seven = await take(first.batches, 7)
      await server.command('XDEL', 'orders', ids[1]!, ids[8]!)
      const second = await open(seven.offset)
      const rest = await take(second.batches, 2)
      expect(rest.records.map(one => JSON.parse(one.after!).n)).toEqual(['7', '9'])
      await server.command('DEL', 'orders')
      expect(await lost(open(rest.offset))).toMatchObject({ kind: 'offset_lost' })
      await server.command('XADD', 'orders', '5-0', 'n', 'new')
      expect((await lost(open(rest.offset)))?.message).toContain('made anew')
    })

    it('killed under it: unavailable, and nothing is lost or doubled for who comes back', async () => {
      for (let i = 0; i < 30; i++) await add('orders', 'n', String(i))
      const first = await open(null)
      const some = await take(first.batches, 14)
      await server.kill9()
      expect(await lost(take(first.batches, 100))).toMatchObject({ kind: 'unavailable' })
      await server.start()
      const second = await open(some.offset)
      const rest = await take(second.batches, 16)
      expect(rest.records.map(one => Number(JSON.parse(one.after!).n))).toEqual(
        Array.from({ length: 16 }, (_, i) => 14 + i),
      )
    })
  })
})
