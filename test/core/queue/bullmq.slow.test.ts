/** Tasks in a real Redis: the kit of task queues, and what can happen to the server. */
import { readFileSync } from 'node:fs'
import { Job } from 'bullmq'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type BullQueueOptions, openBullQueue } from '../../../core/queue/bullmq.ts'
import type { Offer, TaskQueue } from '../../../core/queue/queue.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { taskQueueConformance } from '../../conform/queue.ts'
import { missingForRedis, type RedisServer, startRedis, startSentinel } from '../../servers/redis.ts'

const missing = missingForRedis()
const LOCK_MS = 1_500
const silent = { debug() {}, info() {}, warn() {}, error() {} }
const options = (url: string, over: Partial<BullQueueOptions> = {}): BullQueueOptions => ({
  url,
  ca: null,
  sentinels: null,
  hub: 'test',
  lockMs: LOCK_MS,
  stalledMs: 500,
  clock: realClock,
  log: silent,
  ...over,
})
const OFFER: Offer = { task: 'p/source', kind: 'source', data: {} }
const never = new AbortController().signal
const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** As a hub does it, again and again. */
async function offered(queue: TaskQueue, offers: readonly Offer[], stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    await queue.offer(offers).catch(() => {})
    await pause(100)
  }
}

describe.skipIf(missing !== null)(missing === null ? 'BullMQ' : `BullMQ: ${missing}`, () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  taskQueueConformance({
    name: 'Redis',
    lockMs: LOCK_MS,
    async target() {
      await server.command('FLUSHALL')
      return {
        open: () => openBullQueue(options(server.url)),
        wipe: async () => void (await server.command('FLUSHALL')),
        async [Symbol.asyncDispose]() {},
      }
    },
  })

  it('a server that is killed and comes back empty: the task is handed out again, above the epoch that was seen (L2)', async () => {
    await using hub = await openBullQueue(options(server.url))
    await using worker = await openBullQueue(options(server.url))
    const stop = new AbortController()
    const offering = offered(hub, [OFFER], stop.signal)
    const taken = (await worker.take('w', ['source'], never))!
    await worker.release(taken, { delayMs: 0, above: 9, failures: 0, report: null })
    const next = (await worker.take('w', ['source'], never))!
    expect(next.lease.epoch).toBe(10)
    await server.kill9()
    await pause(300)
    await server.start()
    const after = (await worker.take('w', ['source'], never))!
    expect(after.lease.epoch, 'the queue knows nothing of it; the data does').toBe(1)
    await expect(worker.renew(next.lease)).resolves.toBeDefined() // the job is ours again, under the token of the new lease
    stop.abort()
    await offering
  })

  it('a queue that is wiped while a pipeline is withdrawn holds nothing of it any more, which is all that was asked for', async () => {
    await server.command('FLUSHALL')
    await using hub = await openBullQueue(options(server.url))
    await hub.offer([OFFER, { task: 'p/out/0', kind: 'sink', data: {} }])
    const update = Job.prototype.updateData
    const spy = vi.spyOn(Job.prototype, 'updateData').mockImplementationOnce(async function (
      this: Job,
      data,
    ) {
      await server.command('FLUSHALL')
      return update.call(this, data)
    })
    try {
      await hub.withdraw('p', 'mark')
      expect(spy).toHaveBeenCalled()
    } finally {
      spy.mockRestore()
    }
    expect(await hub.take('w', ['source', 'sink'], AbortSignal.timeout(500))).toBeNull()
  })

  it('a server that stands still: nothing is taken, and the lease ends by its own deadline', async () => {
    await server.command('FLUSHALL')
    await using hub = await openBullQueue(options(server.url))
    await hub.offer([OFFER])
    const taken = (await hub.take('w', ['source'], never))!
    server.freeze()
    const renewing = hub.renew(taken.lease)
    await pause(LOCK_MS + 200)
    expect(realClock.monotonicMs()).toBeGreaterThan(taken.lease.deadlineMs)
    server.thaw()
    await renewing.catch(() => {})
  })

  it('a password and TLS; a wrong one is told, and never shown', async () => {
    await using secured = await startRedis({ password: 'open sesame', tls: true })
    const ca = readFileSync(secured.ca!, 'utf8')
    const url = new URL(secured.url)
    url.password = 'open sesame'
    await using queue = await openBullQueue(options(url.href, { ca }))
    await queue.offer([OFFER])
    expect(await queue.list()).toHaveLength(1)
    url.password = 'hunter2'
    const error = await openBullQueue(options(url.href, { ca })).then(
      () => null,
      caught => caught as Error,
    )
    expect(error).toMatchObject({ kind: 'auth', hint: expect.stringContaining('queue.url') })
    expect(error!.message).not.toContain('hunter2')
    await expect(openBullQueue(options('redis://127.0.0.1:9'))).rejects.toMatchObject({ kind: 'unavailable' })
  })

  it('Sentinel: goes on with the new master', async () => {
    await using group = await startSentinel()
    const sentinels = { nodes: group.sentinels, name: group.masterName }
    await using hub = await openBullQueue(options('redis://unused', { sentinels }))
    await hub.offer([OFFER])
    await group.failOver()
    const stop = new AbortController()
    const offering = offered(hub, [OFFER], stop.signal)
    expect((await hub.take('w', ['source'], never))?.offer).toEqual(OFFER)
    stop.abort()
    await offering
  })
})
