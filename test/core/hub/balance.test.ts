/** What a worker takes and hands back, and when it gives way: on a clock and with a delay of the event loop that the test gives. */
import { afterEach, describe, expect, it } from 'vitest'
import { keepBalance } from '../../../core/hub/balance.ts'
import type { Presence, TaskKind, TaskQueue } from '../../../core/queue/queue.ts'
import { realClock, watchLoopDelay } from '../../../core/worker/clock.ts'
import { handClock } from './clock.ts'

const LOCK_MS = 5_000
const LOOK_MS = LOCK_MS / 10

interface Told {
  readonly fields: Record<string, unknown>
  readonly message: string
}

/** A worker that holds so many sources, among others. */
function worker(held: number, others: readonly Presence[] = []) {
  const clock = handClock()
  const stop = new AbortController()
  const told: Told[] = []
  const tell = (fields: object, message: string) => void told.push({ fields: { ...fields }, message })
  const log = { debug: tell, info: tell, warn: tell, error: tell }
  const world = {
    others,
    waiting: { source: 0, sink: 0 },
    delayMs: 0,
    isAway: false,
    said: null as Presence | null,
    left: '',
    changes: 0,
  }
  const queue = {
    async present(one: Presence) {
      if (world.isAway) throw new Error('the queue is away')
      world.said = one
      return { workers: [...world.others, one], waiting: world.waiting }
    },
    async leave(owner: string) {
      world.left = owner
    },
  } as unknown as TaskQueue
  const holding = (i: number) => {
    const one = {
      task: `p${i}/source`,
      kind: 'source' as TaskKind,
      ended: false,
      isRunning: () => !one.ended,
      isEnding: () => one.ended,
      end() {
        one.ended = true
      },
    }
    return one
  }
  const holdings = new Set(Array.from({ length: held }, (_, i) => holding(i)))
  const loopDelayMs = () => {
    const ms = world.delayMs
    world.delayMs = 0
    return ms
  }
  const kinds = ['source', 'sink'] as const
  const parts = { queue, clock, log, owner: 'me', kinds, concurrency: 8, lockMs: LOCK_MS, loopDelayMs }
  const balance = keepBalance({ ...parts, signal: stop.signal }, holdings, () => world.changes++)
  const ended = () => [...holdings].filter(one => one.ended).map(one => one.task)
  return { clock, stop, told, world, holdings, balance, ended }
}

const other = (source: number, concurrency = 8): Presence => ({
  owner: 'other',
  kinds: ['source'],
  concurrency,
  held: { source, sink: 0 },
})

describe('a worker among others', () => {
  const running: AbortController[] = []
  const started = (held: number, others: readonly Presence[] = []) => {
    const one = worker(held, others)
    running.push(one.stop)
    return one
  }
  afterEach(() => {
    for (const stop of running.splice(0)) stop.abort()
  })

  it('takes nothing before it has looked; alone all that it may; without a queue that tells, too', async () => {
    const { clock, balance, world } = started(1)
    expect(balance.wanted()).toEqual([])
    await clock.pass(1)
    expect(balance.wanted()).toEqual(['source', 'sink'])
    const away = started(1)
    away.world.isAway = true
    await away.clock.pass(LOOK_MS)
    expect(away.balance.wanted()).toEqual(['source', 'sink'])
    expect(away.told[0]!.message).toContain('away')
    expect(world.said).toEqual({
      owner: 'me',
      kinds: ['source', 'sink'],
      concurrency: 8,
      held: { source: 1, sink: 0 },
    })
  })

  it('at its share it leaves to others what they have room for; what nobody takes for a whole lock it takes', async () => {
    const { clock, balance, world } = started(2, [other(1)])
    await clock.pass(1)
    expect(balance.wanted(), 'sinks nobody else takes').toEqual(['sink'])
    world.waiting = { source: 1, sink: 0 }
    await clock.pass(LOCK_MS - LOOK_MS)
    expect(balance.wanted(), 'the other has fewer').toEqual(['sink'])
    await clock.pass(3 * LOOK_MS)
    expect(balance.wanted()).toEqual(['source', 'sink'])
    world.waiting = { source: 0, sink: 0 }
    await clock.pass(LOOK_MS)
    expect(balance.wanted()).toEqual(['sink'])
  })

  it('above its share it ends one task after the other, when two looks say so, and none while one waits or ends', async () => {
    const { clock, world, holdings, ended, balance, told } = started(6, [other(2)])
    await clock.pass(1)
    expect(ended()).toEqual([])
    world.waiting = { source: 1, sink: 0 }
    await clock.pass(4 * LOOK_MS)
    expect(ended(), 'somebody takes that first').toEqual([])
    world.waiting = { source: 0, sink: 0 }
    await clock.pass(2 * LOOK_MS)
    expect(ended()).toEqual(['p5/source'])
    expect(told.at(-1)!.message).toContain('p5/source is handed back')
    await clock.pass(10 * LOOK_MS)
    expect(ended(), 'it has not ended yet').toEqual(['p5/source'])
    for (const one of holdings) if (one.ended) holdings.delete(one)
    expect(balance.wanted(), 'not what it has just handed back').toEqual(['sink'])
    world.others = [other(3)]
    await clock.pass(3 * LOOK_MS)
    expect(ended()).toEqual(['p4/source'])
    for (const one of holdings) if (one.ended) holdings.delete(one)
    world.others = [other(4)]
    await clock.pass(20 * LOOK_MS)
    expect(ended(), 'both have four').toEqual([])
  })

  it('hands nothing to whoever has no room', async () => {
    const { clock, ended } = started(6, [other(2, 2)])
    await clock.pass(20 * LOOK_MS)
    expect(ended()).toEqual([])
  })

  it('gives way with all that it has when its event loop stood still for more than a quarter of the lock', async () => {
    const { clock, world, ended, told, balance } = started(3)
    await clock.pass(LOOK_MS)
    world.delayMs = LOCK_MS / 4
    await clock.pass(LOOK_MS)
    expect(ended(), 'a quarter it can bear').toEqual([])
    world.delayMs = LOCK_MS / 4 + 1
    await clock.pass(LOOK_MS)
    expect(ended()).toEqual(['p0/source', 'p1/source', 'p2/source'])
    expect(told.at(-1)!.message).toContain('stood still for 1251 ms')
    expect(told.at(-1)!.fields).toMatchObject({
      event_loop_delay_ms: 1251,
      lock_ms: LOCK_MS,
      tasks: 3,
      hint: expect.stringContaining('lock_ms'),
    })
    expect(balance.wanted(), 'others first').toEqual([])
    await clock.pass(LOOK_MS)
    expect(world.said!.concurrency).toBe(0)
    await clock.pass(LOCK_MS / 4)
    expect(balance.wanted()).toEqual(['source', 'sink'])
  })

  it('leaves when it stops, and waits for no queue that is away', async () => {
    const one = started(0)
    await one.clock.pass(1)
    one.stop.abort()
    await one.balance.done
    expect(one.world.left).toBe('me')
  })
})

describe('the delay of the event loop', () => {
  it('is what it stood still at most, since it was asked last', async () => {
    const delayMs = watchLoopDelay()
    await realClock.sleep(50)
    delayMs()
    // Whoever asks directly after a stall, in front of any timer, must see it; whoever asks later, too.
    const standStill = () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400)
    standStill()
    expect(delayMs()).toBeGreaterThan(350)
    standStill()
    await realClock.sleep(100)
    expect(delayMs()).toBeGreaterThan(350)
  })
})
