/** The real clock, and how far the event loop is behind it: made in the composition root and nowhere else. */
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

const TICK_MS = 20

/**
 * Milliseconds that the event loop stood still at most since it was asked last. Not by monitorEventLoopDelay: its reset forgets the tick
 * before, and timers of JavaScript that are due may run in front of its own, so that whoever asks right after a stall loses it.
 */
export function watchLoopDelay(): () => number {
  let tickMs = performance.now()
  let longestMs = 0
  const tick = () => {
    const nowMs = performance.now()
    longestMs = Math.max(longestMs, nowMs - tickMs - TICK_MS)
    tickMs = nowMs
  }
  setInterval(tick, TICK_MS).unref()
  return () => {
    tick() // what stands still until now counts, whichever timer is first
    const longest = longestMs
    longestMs = 0
    return longest
  }
}
