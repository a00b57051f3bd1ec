/** A context for tests that run a connector without a hub. */
import type { Context, Log } from '../../core/connector.ts'
import { realClock } from '../../core/worker/clock.ts'
import { numbers } from '../../core/worker/metrics.ts'

const silent: Log = { debug() {}, info() {}, warn() {}, error() {} }

export const testContext = (over: Partial<Context> = {}): Context => ({
  pipeline: 'test',
  task: 'test/sink/0',
  epoch: 1,
  deadlineMs: () => Number.POSITIVE_INFINITY,
  signal: new AbortController().signal,
  log: silent,
  clock: realClock,
  metrics: numbers(),
  ...over,
})
