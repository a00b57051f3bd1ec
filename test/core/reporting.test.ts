/** A report of a position beside the pump (K3): seldom, the last one always, and never a failure of the task. */
import { describe, expect, it } from 'vitest'
import type { Clock, Offset, Reader } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { Progress } from '../../core/pump.ts'
import { realClock } from '../../core/worker/clock.ts'
import { reporting } from '../../core/worker/reporting.ts'
import { testContext } from '../conform/context.ts'

/** Its sleeps end when they are told to, or when their signal aborts. */
function heldClock() {
  const sleeping = new Map<() => void, number>()
  const clock: Clock = {
    ...realClock,
    sleep: (ms, signal) =>
      new Promise(resolve => {
        const wake = () => {
          sleeping.delete(wake)
          resolve()
        }
        sleeping.set(wake, ms)
        if (signal?.aborted) wake()
        else signal?.addEventListener('abort', wake, { once: true })
      }),
  }
  return {
    clock,
    sleeps: () => [...sleeping.values()],
    wake: () => {
      for (const wake of [...sleeping.keys()]) wake()
    },
  }
}

const settled = async () => {
  for (let i = 0; i < 5; i++) await new Promise(resolve => setImmediate(resolve))
}
const reader: Reader = {
  async *[Symbol.asyncIterator]() {},
  async [Symbol.asyncDispose]() {},
}

function told(failures: readonly (Error | null)[] = [], from: Offset | null = null) {
  const held = heldClock()
  const saved: Offset[] = []
  const warnings: string[] = []
  let opened = 0
  let closed = 0
  const open = (): Progress => {
    opened++
    const failure = failures[opened - 1] ?? null
    return {
      load: async () => {
        if (failure) throw failure
        return null
      },
      save: async offset => void saved.push(offset),
      async [Symbol.asyncDispose]() {
        closed++
      },
    }
  }
  const log = {
    debug() {},
    info() {},
    error() {},
    warn: (_: unknown, text: string) => void warnings.push(text),
  }
  const context = testContext({ clock: held.clock, log })
  const wrapped = reporting(reader, { context, from, open })
  const commit = async (offset: Offset) => {
    await wrapped.commit!(offset)
    await settled()
  }
  return { held, saved, warnings, commit, wrapped, counts: () => ({ opened, closed }) }
}

describe('reporting a position', () => {
  it('tells where the task goes on, then the newest after each pause, and the last when it ends', async () => {
    const { held, saved, commit, wrapped, counts } = told([], 1)
    await settled()
    expect(saved).toEqual([1])
    for (const offset of [2, 3, 4]) await commit(offset)
    expect(saved).toEqual([1])
    held.wake()
    await settled()
    expect(saved).toEqual([1, 4])
    await commit(5)
    await wrapped[Symbol.asyncDispose]()
    expect(saved).toEqual([1, 4, 5])
    expect(counts()).toEqual({ opened: 1, closed: 1 })
  })

  it('opens anew after a failure, later, and warns once', async () => {
    const away = new ConnectorError('unavailable', 'away')
    const { held, saved, warnings, commit, wrapped, counts } = told([away, away])
    await commit(1)
    const [pauseMs] = held.sleeps()
    expect(pauseMs).toBeGreaterThan(5_000)
    held.wake()
    await settled()
    expect(saved).toEqual([])
    held.wake()
    await settled()
    expect(saved).toEqual([1])
    await wrapped[Symbol.asyncDispose]()
    expect(warnings).toEqual([expect.stringContaining('away')])
    expect(counts()).toEqual({ opened: 3, closed: 3 })
  })

  it('overwrites what is of another log', async () => {
    const { saved, commit, wrapped } = told([new ConnectorError('offset_lost', 'of another log')])
    await commit(1)
    expect(saved).toEqual([1])
    await wrapped[Symbol.asyncDispose]()
  })

  it('does not keep a task that ends when the report never comes back', async () => {
    const held = heldClock()
    const never: Progress = { load: () => new Promise(() => {}), save: async () => {} }
    const wrapped = reporting(reader, {
      context: testContext({ clock: held.clock }),
      from: 1,
      open: () => never,
    })
    const closed = wrapped[Symbol.asyncDispose]()
    await settled()
    held.wake()
    await closed
  })
})
