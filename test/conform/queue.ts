/** The kit every task queue passes: one holder a task, epochs that rise, leases that end when nobody renews them, what is lost is made again. */
import { afterEach, describe, expect, it } from 'vitest'
import { Fenced } from '../../core/errors.ts'
import type { Offer, Presence, Taken, TaskQueue } from '../../core/queue/queue.ts'

export interface TaskQueueTarget extends AsyncDisposable {
  /** Another process on the same queue. */
  open(): Promise<TaskQueue>
  /** All that it holds is gone. */
  wipe(): Promise<void>
}

export interface TaskQueueKit {
  readonly name: string
  target(): Promise<TaskQueueTarget>
  readonly lockMs: number
}

const offerOf = (n: number, revision = 1): Offer => ({
  task: `p${n}/source`,
  kind: 'source',
  data: { revision, text: '${env:SECRET}' },
})
const sinkOf = (n: number): Offer => ({ task: `p${n}/index/0`, kind: 'sink', data: {} })
const never = new AbortController().signal
const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

export function taskQueueConformance(kit: TaskQueueKit): void {
  describe(`${kit.name}: task queue`, () => {
    let target: TaskQueueTarget | null = null
    const opened: TaskQueue[] = []
    afterEach(async () => {
      for (const queue of opened.splice(0)) await queue[Symbol.asyncDispose]()
      await target?.[Symbol.asyncDispose]()
      target = null
    })
    const open = async () => {
      target ??= await kit.target()
      const queue = await target.open()
      opened.push(queue)
      return queue
    }
    const soon = async (
      queue: TaskQueue,
      ms: number,
      kinds = ['source', 'sink'] as const,
    ): Promise<Taken | null> => {
      const stop = new AbortController()
      setTimeout(() => stop.abort(), ms)
      return queue.take('soon', kinds, stop.signal)
    }
    const release = { delayMs: 0, above: 0, failures: 0, report: null }

    it('hands each task to one worker, and only the kinds that it takes', async () => {
      const [hub, one, other] = [await open(), await open(), await open()]
      await hub.offer([...Array.from({ length: 6 }, (_, i) => offerOf(i)), sinkOf(1)])
      const taken = await Promise.all(
        Array.from({ length: 6 }, (_, i) => (i % 2 === 0 ? one : other).take(`w${i % 2}`, ['source'], never)),
      )
      expect(taken.map(one => one!.offer.task).sort()).toEqual([0, 1, 2, 3, 4, 5].map(n => `p${n}/source`))
      expect(taken.every(one => one!.lease.epoch === 1)).toBe(true)
      expect(await soon(one, 300, ['source'] as never)).toBeNull()
      expect((await soon(one, 2_000))?.offer).toEqual(sinkOf(1))
    })

    it('is offered by any number of hubs, and makes what is missing; what is offered no more is taken back', async () => {
      const [hub, other, worker] = [await open(), await open(), await open()]
      await Promise.all([hub.offer([offerOf(1), offerOf(2)]), other.offer([offerOf(1), offerOf(2)])])
      expect((await hub.list()).map(one => [one.task, one.state])).toEqual([
        ['p1/source', 'waiting'],
        ['p2/source', 'waiting'],
      ])
      const taken = (await worker.take('w', ['source'], never))!
      expect(await worker.report(taken, { state: 'running' })).toBe(true)
      const shown = (await hub.list()).find(one => one.task === taken.offer.task)
      expect(shown).toMatchObject({ state: 'held', report: { state: 'running' } })
      await hub.offer([])
      expect(await worker.report(taken, null), 'wanted no more').toBe(false)
      await worker.release(taken, release)
      expect(await hub.list()).toEqual([])
      expect(await soon(worker, 300)).toBeNull()
    })

    it('ends who runs a task by old data; the next one has the new', async () => {
      const [hub, worker] = [await open(), await open()]
      await hub.offer([offerOf(1)])
      const taken = (await worker.take('w', ['source'], never))!
      await hub.offer([offerOf(1, 2)])
      expect(await worker.report(taken, {})).toBe(false)
      await worker.release(taken, { ...release, delayMs: 60_000 })
      const next = (await soon(worker, 3_000))!
      expect(next.offer).toEqual(offerOf(1, 2))
      expect(next.lease.epoch).toBe(2)
    })

    it('a lease that is renewed stays; one that is not goes to another worker, and its old holder is fenced', async () => {
      const [hub, one, other] = [await open(), await open(), await open()]
      await hub.offer([offerOf(1)])
      const taken = (await one.take('one', ['source'], never))!
      let { lease } = taken
      const taking = soon(other, 30 * kit.lockMs)
      for (let i = 0; i < 6; i++) {
        await pause(kit.lockMs / 2)
        lease = await one.renew(lease)
      }
      const next = (await taking)!
      expect(next.offer).toEqual(offerOf(1))
      expect(next.lease.epoch).toBeGreaterThan(lease.epoch)
      await expect(one.renew(lease)).rejects.toThrow(Fenced)
      await one.release(taken, { ...release, failures: 7 })
      expect(await soon(one, 300), 'it is not his to give back').toBeNull()
      await other.renew(next.lease)
    })

    it('gives back with a delay, what the next one needs to know, and an epoch to be above', async () => {
      const [hub, worker] = [await open(), await open()]
      await hub.offer([offerOf(1)])
      const taken = (await worker.take('w', ['source'], never))!
      await worker.release(taken, { delayMs: 700, above: 41, failures: 3, report: { error: 'away' } })
      expect(await soon(worker, 200)).toBeNull()
      expect(await hub.list()).toMatchObject([{ state: 'delayed', report: { error: 'away' } }])
      const next = (await worker.take('w', ['source'], never))!
      expect(next).toMatchObject({ failures: 3, lease: { epoch: 42 } })
      await worker.release(next, release)
      expect((await soon(worker, 2_000))?.lease.epoch).toBe(43)
    })

    it('knows who is there: until it leaves, or is silent for as long as a lease lasts; wiped, when it says so again', async () => {
      const [one, other] = [await open(), await open()]
      const a: Presence = {
        owner: 'a',
        kinds: ['source', 'sink'],
        concurrency: 3,
        held: { source: 1, sink: 0 },
      }
      const b: Presence = { owner: 'b', kinds: ['sink'], concurrency: 5, held: { source: 0, sink: 2 } }
      const owners = async (queue: TaskQueue, worker: Presence) =>
        (await queue.present(worker)).workers.map(who => who.owner).sort()
      expect((await one.present(a)).workers).toEqual([a])
      expect(await owners(other, b)).toEqual(['a', 'b'])
      const changed = { ...a, held: { source: 2, sink: 1 } }
      await one.present(changed)
      expect((await other.present(b)).workers).toEqual(expect.arrayContaining([changed, b]))
      await one.leave('a')
      expect(await owners(other, b)).toEqual(['b'])
      await one.present(a)
      for (let i = 0; i < 4; i++) {
        await pause(kit.lockMs / 2)
        await other.present(b)
      }
      expect(await owners(other, b), 'a was silent').toEqual(['b'])
      await target!.wipe()
      expect(await owners(one, a)).toEqual(['a'])
      expect(await owners(other, b)).toEqual(['a', 'b'])
    })

    it('tells how many tasks of each kind wait to be taken', async () => {
      const [hub, worker] = [await open(), await open()]
      const who: Presence = {
        owner: 'w',
        kinds: ['source', 'sink'],
        concurrency: 3,
        held: { source: 0, sink: 0 },
      }
      await hub.offer([offerOf(1), offerOf(2), sinkOf(1)])
      expect((await worker.present(who)).waiting).toEqual({ source: 2, sink: 1 })
      const taken = (await worker.take('w', ['source'], never))!
      expect((await worker.present(who)).waiting).toEqual({ source: 1, sink: 1 })
      await worker.release(taken, { ...release, delayMs: 60_000 })
      const waiting = async () => (await worker.present(who)).waiting
      expect(await waiting(), 'a delayed one nobody can take').toEqual({ source: 1, sink: 1 })
      const next = (await worker.take('w', ['source'], never))!
      await worker.release(next, { ...release, delayMs: 500 })
      expect((await waiting()).source).toBe(0)
      // Nobody may be asking for tasks: all may have their share.
      await pause(700)
      expect((await waiting()).source, 'it can be taken now').toBe(1)
      expect((await soon(worker, 3_000, ['source'] as never))?.offer).toEqual(next.offer)
    })

    it('tells of tasks whose lease ran out, although nobody asks for one', async () => {
      const [hub, one, other] = [await open(), await open(), await open()]
      const who: Presence = { owner: 'w', kinds: ['source'], concurrency: 3, held: { source: 0, sink: 0 } }
      await hub.offer([offerOf(1)])
      await one.take('one', ['source'], never)
      expect((await other.present(who)).waiting.source).toBe(0)
      opened.splice(opened.indexOf(one), 1)
      await one[Symbol.asyncDispose]() // without giving it back
      for (let looks = 0; looks < 60; looks++) {
        await pause(kit.lockMs / 5)
        if ((await other.present(who)).waiting.source > 0) break
      }
      expect((await other.present(who)).waiting.source).toBe(1)
    })

    it('what is withdrawn ends, and every hub can hear of it by its mark; what is offered after that is there', async () => {
      const [hub, other, worker] = [await open(), await open(), await open()]
      const long: Offer = { task: 'p10/source', kind: 'source', data: {} }
      await hub.offer([offerOf(1), sinkOf(1), offerOf(2), long])
      const taken = (await worker.take('w', ['source'], never))!
      expect(taken.offer).toEqual(offerOf(1))
      await hub.withdraw('p1', 'first')
      expect(await other.withdrawn()).toEqual(new Map([['p1', 'first']]))
      expect(await worker.report(taken, {}), 'wanted no more').toBe(false)
      expect(
        (await other.list()).map(one => one.task),
        'held until its holder gives it back',
      ).toEqual(['p1/source', 'p10/source', 'p2/source'])
      await worker.release(taken, release)
      expect((await other.list()).map(one => one.task)).toEqual(['p10/source', 'p2/source'])
      await hub.withdraw('p1', 'second')
      expect((await other.withdrawn()).get('p1')).toBe('second')
      await other.offer([offerOf(1), offerOf(2), long])
      expect((await hub.list()).map(one => one.task)).toContain('p1/source')
      await target!.wipe()
      expect(await hub.withdrawn()).toEqual(new Map())
    })

    it('wiped: holders are fenced, and what a hub offers again is taken again (L2)', async () => {
      const [hub, worker] = [await open(), await open()]
      await hub.offer([offerOf(1), offerOf(2)])
      const taken = (await worker.take('w', ['source'], never))!
      await target!.wipe()
      await expect(worker.renew(taken.lease)).rejects.toThrow(Fenced)
      expect(await worker.report(taken, {})).toBe(false)
      await worker.release(taken, release)
      await hub.offer([offerOf(1), offerOf(2)])
      const again = [await soon(worker, 3_000), await soon(worker, 3_000)]
      expect(again.map(one => one?.offer.task).sort()).toEqual(['p1/source', 'p2/source'])
    })
  })
}
