/** A context for looking (check, plan, drop): no lease, and no epoch that could fence anybody. */
import type { Clock, Context, Log } from '../connector.ts'
import { numbers } from '../worker/metrics.ts'

export const lookingContext = (clock: Clock, log: Log, pipeline: string, signal: AbortSignal): Context => ({
  pipeline,
  task: `${pipeline}/look`,
  epoch: 1,
  deadlineMs: () => Number.POSITIVE_INFINITY,
  signal,
  log,
  clock,
  metrics: numbers(),
})
