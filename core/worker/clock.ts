/** The real clock, made in the composition root and nowhere else. */
import { performance } from 'node:perf_hooks'
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
