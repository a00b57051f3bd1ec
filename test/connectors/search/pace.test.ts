import { describe, expect, it } from 'vitest'
import { paceOf } from '../../../connectors/search/pace.ts'

const never = new AbortController().signal

function clockOf() {
  let now = 0
  const sleeping: { at: number; wake: () => void }[] = []
  return {
    nowUs: () => now * 1000,
    monotonicMs: () => now,
    sleep: (ms: number) => new Promise<void>(wake => sleeping.push({ at: now + ms, wake })),
    async pass(ms: number) {
      now += ms
      for (const one of sleeping) if (one.at <= now) one.wake()
      await new Promise(resolve => setImmediate(resolve))
    },
  }
}

describe('pace', () => {
  it('grows by one after a window of successes, to the limit', async () => {
    const pace = paceOf({ parallel: 4, clock: clockOf(), random: () => 0 })
    const windows = []
    for (let i = 0; i < 12; i++) {
      await pace.enter(never)
      pace.answered(10, true)
      windows.push(Math.floor(pace.window()))
    }
    expect(windows).toEqual([2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4])
    expect(pace.inFlight()).toBe(0)
  })

  it('lets no more in than the window, and the next when one has left', async () => {
    const pace = paceOf({ parallel: 4, clock: clockOf(), random: () => 0 })
    await pace.enter(never)
    await pace.enter(never)
    let isIn = false
    const third = pace.enter(never).then(() => {
      isIn = true
    })
    await new Promise(resolve => setImmediate(resolve))
    expect(isIn).toBe(false)
    pace.answered(10, true)
    await third
    expect(pace.inFlight()).toBe(2)
  })

  it('halves and pauses when pushed back, twice as long each time, and shrinks when answers become slow', async () => {
    const clock = clockOf()
    const pace = paceOf({ parallel: 16, clock, random: () => 1 })
    for (let i = 0; i < 200; i++) {
      await pace.enter(never)
      pace.answered(10, true)
    }
    expect(pace.window()).toBe(16)
    await pace.enter(never)
    pace.answered(25, true)
    expect(pace.window()).toBeCloseTo(14.4)
    for (const [window, pauseMs] of [
      [7.2, 50],
      [3.6, 100],
      [1.8, 200],
      [1, 400],
      [1, 800],
    ] as const) {
      const entering = pace.enter(never)
      await clock.pass(0)
      await entering
      pace.pushedBack()
      expect(pace.window()).toBeCloseTo(window)
      let isIn = false
      const next = pace.enter(never).then(() => {
        isIn = true
      })
      await clock.pass(pauseMs - 1)
      expect(isIn, `a pause of ${pauseMs} ms`).toBe(false)
      await clock.pass(1)
      await next
      pace.gaveUp()
    }
  })

  it('ends waiting when it is stopped', async () => {
    const stop = new AbortController()
    const pace = paceOf({ parallel: 1, clock: clockOf(), random: () => 0 })
    await pace.enter(stop.signal)
    const second = pace.enter(stop.signal)
    stop.abort()
    await second
  })
})
