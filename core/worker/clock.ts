/** The real clock, and how far the event loop is behind it: made in the composition root and nowhere else. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import type { Clock } from '../connector.ts'

export const realClock: Clock = {
  nowUs: () => Date.now() * 1000,
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const wake = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      const timer = setTimeout(wake, Math.min(ms, 0x7fffffff))
      signal?.addEventListener('abort', wake, { once: true })
    }),
}

/** Milliseconds that the event loop stood still at most since it was asked last. */
export function watchLoopDelay(): () => number {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  return () => {
    const maxMs = delay.max / 1e6
    delay.reset()
    return maxMs
  }
}
