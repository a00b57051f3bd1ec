/** What a worker tells of a task, through the queue, and what a hub makes of it. Plain JSON; nothing secret is in it. */
import type { ConnectorError } from '../errors.ts'
import type { LogOffset, TopicEnds } from '../log/log.ts'
import type { Json } from '../record.ts'
import type { Task, TaskState } from '../worker/task.ts'

export interface TaskReport {
  readonly owner: string
  readonly state: TaskState
  readonly error: string | null
  readonly hint: string | null
  readonly metrics: Readonly<Record<string, number>>
  /** Of a sink's task: what it has let go last. */
  readonly position: LogOffset | null
  /** Of a source's task: what the log held when it had read all that stood upstream. */
  readonly target: readonly TopicEnds[] | null
}

export interface Seen {
  position: LogOffset | null
  target: readonly TopicEnds[] | null
}

export function reportOf(
  task: Task,
  owner: string,
  { position, target }: Seen,
  redact: (text: string) => string,
): Json {
  const error = task.error()
  const report: TaskReport = {
    owner,
    state: task.state(),
    error: error ? redact(error.message) : null,
    hint: error?.hint ? redact(error.hint) : null,
    metrics: task.metrics.all(),
    position,
    target,
  }
  return report as unknown as Json
}

/** Of a task that could not even be begun. */
export function unopened(owner: string, error: ConnectorError, redact: (text: string) => string): Json {
  const report: TaskReport = {
    owner,
    state: 'failing',
    error: redact(error.message),
    hint: error.hint ? redact(error.hint) : null,
    metrics: {},
    position: null,
    target: null,
  }
  return report as unknown as Json
}

/** null: nobody has told anything yet. */
export const readReport = (report: Json): TaskReport | null =>
  typeof report === 'object' && report !== null && 'state' in report
    ? (report as unknown as TaskReport)
    : null
