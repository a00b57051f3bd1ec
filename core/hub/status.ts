/** What `status --json`, the API and the page show of the running pipelines. Plain data; nothing secret is in it. */
import type { ConnectorError } from '../errors.ts'
import type { LogOffset, TopicEnds } from '../log/log.ts'
import { detachedError } from '../log/retention.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { Task } from '../worker/task.ts'
import type { RunningPipeline } from './pipeline.ts'

export interface TaskStatus {
  readonly name: string
  /** That of the task, or `detached`: let go at the log's limit. */
  readonly state: string
  readonly records: number
  readonly lag_records: number
  readonly lag_seconds: number
  readonly error: string | null
  readonly hint: string | null
  readonly metrics: Readonly<Record<string, number>>
  /** Who runs it; null: this process, or nobody. */
  readonly worker: string | null
}

export interface PipelineStatus {
  readonly name: string
  /** starting | snapshot | following | detached | failing | halted | ended | stopped */
  readonly state: string
  readonly caught_up: boolean
  readonly tasks: readonly TaskStatus[]
  readonly dead_letters: number
  /** Records the log ever took, of all topics. */
  readonly log_records: number
  /** `bytes` null: on a cluster, which does not say. */
  readonly log: { readonly bytes: number | null; readonly limit_bytes: number }
}

export interface Status {
  readonly pipelines: readonly PipelineStatus[]
}

/** Records in the log that the sink task has not passed. */
export function lagOf(ends: readonly TopicEnds[], position: LogOffset | null, partition: number): number {
  let lag = 0
  for (const { topic, partition: of, start, end } of ends)
    if (of === partition) lag += end - Math.max(start, position?.next[topic] ?? start)
  return lag
}

/** How old what it has written last was in the database. */
export const lagSeconds = (lagRecords: number, lastMs: number, nowMs: number): number =>
  lagRecords > 0 && lastMs > 0 ? Math.max(0, Math.round((nowMs - lastMs) / 100) / 10) : 0

/** Of one that runs in this process. */
export function taskStatus(task: Task, isDetached: boolean, lagRecords: number, nowMs: number): TaskStatus {
  const error = isDetached ? detachedError(task.name) : task.error()
  const lastMs = task.metrics.get('last_commit_ms')
  return {
    name: task.name,
    state: isDetached ? 'detached' : task.state(),
    records: task.metrics.get('records'),
    lag_records: lagRecords,
    lag_seconds: lagSeconds(lagRecords, lastMs, nowMs),
    error: error?.message ?? null,
    hint: error?.hint ?? null,
    metrics: task.metrics.all(),
    worker: null,
  }
}

/** The worst a task is in is what the pipeline is in. */
export function worstOf(
  source: string,
  sinks: readonly string[],
  isInSnapshot: boolean,
  isCaughtUp: boolean,
): string {
  const states = [source, ...sinks]
  for (const bad of ['halted', 'failing', 'detached'] as const) if (states.includes(bad)) return bad
  if (states.every(state => state === 'stopped')) return 'stopped'
  if (source === 'ended') return isCaughtUp ? 'ended' : 'following'
  if (source !== 'running') return 'starting'
  return isInSnapshot ? 'snapshot' : 'following'
}

const stateOf = (running: RunningPipeline): string =>
  worstOf(
    running.source.state(),
    running.sinks.map(({ task }) => (running.isDetached(task.name) ? 'detached' : task.state())),
    running.source.metrics.get('snapshot_running') === 1,
    running.isCaughtUp(),
  )

export async function statusOf(running: readonly RunningPipeline[], nowMs: number): Promise<Status> {
  return { pipelines: await Promise.all(running.map(one => pipelineStatus(one, nowMs))) }
}

async function pipelineStatus(one: RunningPipeline, nowMs: number): Promise<PipelineStatus> {
  const ends = await one.log.ends().catch(() => []) // the log is away, which its tasks tell
  return {
    name: one.definition.name,
    state: stateOf(one),
    caught_up: one.isCaughtUp(),
    tasks: [
      taskStatus(one.source, false, 0, nowMs),
      ...one.sinks.map(({ task, partition }) =>
        taskStatus(task, one.isDetached(task.name), lagOf(ends, one.position(task.name), partition), nowMs),
      ),
    ],
    dead_letters: one.deadCount(),
    log_records: ends.reduce((sum, { end }) => sum + end, 0),
    log: { bytes: one.log.sizeBytes(), limit_bytes: one.definition.limits.logBytes },
  }
}

/** A pipeline that does not start. */
export const failedStatus = ({ name, limits }: ParsedPipeline, error: ConnectorError): PipelineStatus => ({
  name,
  state: 'failing',
  caught_up: false,
  tasks: [
    {
      name: `${name}/source`,
      state: 'failing',
      records: 0,
      lag_records: 0,
      lag_seconds: 0,
      error: error.message,
      hint: error.hint ?? null,
      metrics: {},
      worker: null,
    },
  ],
  dead_letters: 0,
  log_records: 0,
  log: { bytes: 0, limit_bytes: limits.logBytes },
})
