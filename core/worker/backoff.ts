/** Exponential backoff with full jitter: attempt 1 waits up to `backoffMs`, each further one up to twice that, at most `maxBackoffMs`. */
export interface Retry {
  /** After so many failures in a row the task is shown as failing; it goes on trying. */
  readonly maxAttempts: number
  readonly backoffMs: number
  readonly maxBackoffMs: number
}

/** At least half of the step, so that a server that is down is not hammered by luck. `random` in [0, 1). */
export function backoffMs(retry: Retry, attempt: number, random: number): number {
  const step = Math.min(retry.maxBackoffMs, retry.backoffMs * 2 ** Math.min(attempt - 1, 30))
  return step / 2 + (step / 2) * random
}
