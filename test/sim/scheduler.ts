/**
 * Time and order under the seed's control. Whatever waits in a simulation waits here: `step` for "some other time", `sleep`
 * for virtual time. The loop lets everything that is runnable run, then wakes *one* waiter, chosen by the seed; when nobody is
 * ready it moves the clock to the next sleeper. A process that was killed never wakes: its steps stay pending for ever, so
 * that nothing behind the await happens, `finally` included, as with kill -9.
 */
import type { Clock } from '../../core/connector.ts'
import type { Random } from './random.ts'

/** A simulated process. */
export interface Life {
  readonly alive: boolean
  /** Virtual ms until which it is frozen (SIGSTOP, a long pause of the collector); then it goes on as if nothing had been. */
  frozenUntilMs: number
}

interface Waiter {
  readonly life: Life
  readonly atMs: number
  readonly wake: () => void
  cancelled: boolean
}

export interface Scheduler {
  /** Virtual milliseconds. */
  nowMs(): number
  /** Moves the wall clock (not the monotonic one) by so many ms. */
  jump(ms: number): void
  step(life: Life): Promise<void>
  sleep(life: Life, ms: number, signal?: AbortSignal): Promise<void>
  clock(life: Life): Clock
  /** Called before each wake-up: kills, freezes, polls. */
  onTick: (() => void) | undefined
  /** Runs until `done`; throws when nobody can ever wake again or `maxSteps` is passed. */
  run(done: () => boolean, maxSteps: number): Promise<void>
  readonly steps: number
}

/** Time passes while somebody works, too: sleepers must not starve. */
const STEP_MS = 0.2

const settle = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

export function schedulerOf(random: Random, startMs: number): Scheduler {
  let monotonicMs = 0
  let wallOffsetMs = startMs
  let steps = 0
  let waiting: Waiter[] = []
  const add = (life: Life, atMs: number): { promise: Promise<void>; waiter: Waiter } => {
    let wake = () => {}
    const promise = new Promise<void>(resolve => {
      wake = resolve
    })
    const waiter: Waiter = { life, atMs, wake, cancelled: false }
    waiting.push(waiter)
    return { promise, waiter }
  }
  const isReady = (one: Waiter) => one.atMs <= monotonicMs && one.life.frozenUntilMs <= monotonicMs
  const scheduler: Scheduler = {
    onTick: undefined,
    get steps() {
      return steps
    },
    nowMs: () => monotonicMs,
    jump(ms) {
      wallOffsetMs += ms
    },
    step: life => add(life, 0).promise,
    async sleep(life, ms, signal) {
      if (signal?.aborted) return
      const { promise, waiter } = add(life, monotonicMs + Math.max(0, ms))
      const abort = () => {
        waiting = waiting.filter(one => one !== waiter)
        waiting.push({ ...waiter, atMs: 0 })
      }
      signal?.addEventListener('abort', abort, { once: true })
      await promise
      signal?.removeEventListener('abort', abort)
    },
    clock: life => ({
      nowUs: () => Math.floor((wallOffsetMs + monotonicMs) * 1000),
      monotonicMs: () => monotonicMs,
      sleep: (ms, signal) => scheduler.sleep(life, ms, signal),
    }),
    async run(done, maxSteps) {
      await settle()
      while (!done()) {
        monotonicMs += STEP_MS
        if (++steps > maxSteps) throw new Error(`no end after ${maxSteps} steps`)
        scheduler.onTick?.()
        waiting = waiting.filter(one => one.life.alive)
        let ready = waiting.filter(isReady)
        if (ready.length === 0) {
          const next = Math.min(...waiting.map(one => Math.max(one.atMs, one.life.frozenUntilMs)))
          if (!Number.isFinite(next)) throw new Error('everybody waits for ever')
          monotonicMs = Math.max(monotonicMs, next)
          ready = waiting.filter(isReady)
        }
        const chosen = random.pick(ready)
        waiting = waiting.filter(one => one !== chosen)
        chosen.wake()
        await settle()
      }
    },
  }
  return scheduler
}
