/** A clock of the test's own: it moves only when it is told to, and with it whoever sleeps. */
import type { Clock } from '../../../core/connector.ts'

export interface HandClock extends Clock {
  /** Wakes whoever is due, in order, and lets each go on as far as it gets. */
  pass(ms: number): Promise<void>
}

export const settled = async (): Promise<void> => {
  for (let turns = 0; turns < 20; turns++) await new Promise(resolve => setImmediate(resolve))
}

export function handClock(): HandClock {
  let nowMs = 0
  const sleeping = new Set<{ atMs: number; wake: () => void }>()
  return {
    nowUs: () => (1_750_000_000_000 + nowMs) * 1000,
    monotonicMs: () => nowMs,
    sleep: (ms, signal) =>
      new Promise(resolve => {
        if (signal?.aborted) return resolve()
        const one = {
          atMs: nowMs + ms,
          wake() {
            sleeping.delete(one)
            signal?.removeEventListener('abort', one.wake)
            resolve()
          },
        }
        sleeping.add(one)
        signal?.addEventListener('abort', one.wake)
      }),
    async pass(ms) {
      const endMs = nowMs + ms
      for (;;) {
        await settled()
        const next = [...sleeping].sort((a, b) => a.atMs - b.atMs)[0]
        if (!next || next.atMs > endMs) break
        nowMs = Math.max(nowMs, next.atMs)
        next.wake()
      }
      nowMs = endMs
    },
  }
}
