/**
 * How many requests are in flight: additive increase, multiplicative decrease, as TCP does it (Chiu and Jain, 1989). No I/O.
 *
 *   answered well        window += 1 / window      one more after a window's worth of successes
 *   answered slowly      window *= 0.9             more than twice as slow as usual: the cluster queues
 *   pushed back          window /= 2, and a pause that doubles with each push-back in a row, with jitter
 */
import type { Clock } from '../../core/connector.ts'

export interface PaceOptions {
  readonly parallel: number
  readonly clock: Clock
  readonly random: () => number
}

export interface Pace {
  /** Resolves when one more may be sent, and counts it; or when the signal aborts. */
  enter(signal: AbortSignal): Promise<void>
  answered(ms: number, isFull: boolean): void
  pushedBack(): void
  /** Nothing can be said of it: it was aborted. */
  gaveUp(): void
  window(): number
  inFlight(): number
}

const FIRST_WINDOW = 2
const SLOW = 2
/** Weight of the newest answer in what is usual. */
const NEWEST = 0.1
const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 10_000

export function paceOf({ parallel, clock, random }: PaceOptions): Pace {
  let window = Math.min(FIRST_WINDOW, parallel)
  let inFlight = 0
  let usualMs = 0
  let pushBacks = 0
  let pausedUntilMs = 0
  let waiting: (() => void)[] = []
  const leave = () => {
    inFlight--
    const woken = waiting
    waiting = []
    for (const wake of woken) wake()
  }
  const left = (signal: AbortSignal) =>
    new Promise<void>(resolve => {
      const done = () => {
        signal.removeEventListener('abort', done)
        resolve()
      }
      waiting.push(done)
      signal.addEventListener('abort', done, { once: true })
    })
  return {
    async enter(signal) {
      while (!signal.aborted) {
        const pauseMs = pausedUntilMs - clock.monotonicMs()
        if (pauseMs > 0) await clock.sleep(pauseMs, signal)
        else if (inFlight >= Math.floor(window)) await left(signal)
        else break
      }
      inFlight++
    },
    answered(ms, isFull) {
      pushBacks = 0
      if (isFull && usualMs > 0 && ms > SLOW * usualMs) window = Math.max(1, window * 0.9)
      else window = Math.min(parallel, window + 1 / window)
      if (isFull) usualMs = usualMs === 0 ? ms : usualMs + NEWEST * (ms - usualMs)
      leave()
    },
    pushedBack() {
      window = Math.max(1, window / 2)
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** pushBacks++)
      pausedUntilMs = Math.max(pausedUntilMs, clock.monotonicMs() + pauseMs * (0.5 + random() / 2))
      leave()
    },
    gaveUp: leave,
    window: () => window,
    inFlight: () => inFlight,
  }
}
