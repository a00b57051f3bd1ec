/** The writer of the topics that people write: each row once, whatever is lost and whoever else writes; what it says where the log takes nothing. */
import { describe, expect, it } from 'vitest'
import { ConnectorError } from '../../../core/errors.ts'
import type { PipelineLogs } from '../../../core/hub/logs.ts'
import { openProducer } from '../../../core/hub/producer.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { handClock, settled } from './clock.ts'
import { log, newFolder, ORDERS, recordsIn, startHub, TOPIC, writing } from './producing.ts'

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

describe('a request that comes again', () => {
  it('with its Idempotency-Key is written once, also by a hub that is started anew', async () => {
    using folder = newFolder()
    {
      await using hub = await startHub(folder, ORDERS)
      expect((await hub.post(TOPIC, '{"id":1}', undefined, 'k1')).status).toBe(200)
      expect(await hub.post(TOPIC, '{"id":1}', undefined, 'k1')).toMatchObject({ body: { records: 1 } })
      await hub.post('orders.shop.notes', '{"text":"x"}', undefined, 'k1') // of another topic it is another one
      await Promise.all([1, 2, 3].map(() => hub.post(TOPIC, '{"id":2}', undefined, 'k2')))
    }
    await using hub = await startHub(folder, ORDERS)
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
      const wrap = writing(async (_, write) => {
        await write()
        wrote()
        await Promise.race([never, stopping])
      })
      let stop = () => {}
      const stopping = new Promise<void>(resolve => (stop = resolve))
      await using hub = await startHub(folder, ORDERS, { wrap })
      const answer = hub.post(TOPIC, '{"id":1}', undefined, 'k1').catch(() => null)
      await written
      stop()
      await answer
    }
    await using hub = await startHub(folder, ORDERS)
    expect((await hub.post(TOPIC, '{"id":1}', undefined, 'k1')).status).toBe(200)
    expect(await recordsIn(hub.running.log)).toHaveLength(1)
  })

  it('is found in the log when the write lost its answer, and is written when it never came there', async () => {
    using folder = newFolder()
    let breaks = 0
    const wrap = writing(async (_, write) => {
      const turn = ++breaks
      if (turn % 3 !== 2) await write()
      if (turn % 3 !== 0) throw new ConnectorError('unavailable', 'the connection was lost')
    })
    await using hub = await startHub(folder, ORDERS, { wrap })
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
    const wrap = writing(async (batch, write) => {
      sizes.push(batch.records.length)
      if (sizes.length === 1) await first
      return write()
    })
    await using hub = await startHub(folder, ORDERS, { wrap })
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
    const wrap = writing(async (_, write) => {
      await first
      return write()
    })
    await using hub = await startHub(folder, ORDERS, { wrap })
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
    await using hub = await startHub(folder, ORDERS)
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
    await using hub = await startHub(folder, ORDERS)
    const other = openProducer(partsOf(hub))
    let isLost = true
    const wrap = writing(async (_, write) => {
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

describe('a log that takes nothing', () => {
  it('at its limit is answered with 503 and what to do, and status tells of it until it has room', async () => {
    using folder = newFolder()
    await using hub = await startHub(folder, `${ORDERS}limits: { log_bytes: 20000 }\n`)
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
    await using hub = await startHub(folder, ORDERS)
    const clock = handClock()
    const wrap = writing(() => new Promise(() => {}))
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
    await using hub = await startHub(folder, ORDERS)
    await hub.post(TOPIC, '{"id":1}')
    expect(await hub.hub.remove('orders')).toContain('log and dead letters of orders')
    expect((await hub.post(TOPIC, '{"id":1}')).status).toBe(404)
  })
})
