/**
 * What /metrics shows of tasks and pipelines, in Prometheus' text format: one list, of which the page docs/reference/metrics.md is made too.
 * Where several processes run the tasks of a hub each number is shown once, so that a sum over all is right: what a task counts by
 * who runs it, how far it is behind by the hub.
 */
import { BUCKETS_SECONDS, type Histograms } from '../worker/metrics.ts'

export interface TaskNumbers {
  /** "<pipeline>/source" or "<pipeline>/<sink>/<partition>". */
  readonly name: string
  readonly metrics: Readonly<Record<string, number>>
  readonly histograms: Histograms
  /** What only a hub knows. */
  readonly state?: string
  readonly lag_records?: number
  readonly lag_seconds?: number
}

export interface PipelineNumbers {
  readonly name: string
  readonly dead_letters: number
  readonly log_records: number
  /** `bytes` null: on a cluster, which does not say. */
  readonly log: { readonly bytes: number | null; readonly limit_bytes: number }
}

export interface ShownNumbers {
  readonly tasks: readonly TaskNumbers[]
  readonly pipelines: readonly PipelineNumbers[]
  /** Of the process, since it was asked last. */
  readonly eventLoopDelay?: { readonly maxMs: number; readonly p99Ms: number }
}

type Sample = readonly [labels: Labels, value: number]
type Labels = Readonly<Record<string, string>>

export interface Metric {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  /** `task`: shown by the process that runs the task (`worker`, `up`). `hub`: by `hub` and `up`. `process`: by each. */
  readonly by: 'task' | 'hub' | 'process'
  /** Under which name a task counts it; '': it does not. */
  readonly key: string
  samples(shown: ShownNumbers): readonly Sample[]
}

const isSink = ({ name }: TaskNumbers): boolean => name.split('/').length > 2

const labelsOf = ({ name }: TaskNumbers): Labels => {
  const [pipeline = '', sink = '', partition] = name.split('/')
  return { pipeline, task: name, ...(partition === undefined ? {} : { sink }) }
}

/** One that a task counts by `key`, in the unit times `scale`. */
const counted = (
  key: string,
  [name, type]: readonly [string, 'counter' | 'gauge'],
  help: string,
  scale = 1,
): Metric => ({
  name: `millrace_task_${name}`,
  help,
  type,
  by: 'task',
  key,
  samples: ({ tasks }) =>
    tasks.flatMap((task): Sample[] => {
      const value = task.metrics[key]
      return value === undefined ? [] : [[labelsOf(task), value * scale]]
    }),
})

const observed = (key: string, name: string, help: string): Metric => ({
  name: `millrace_task_${name}`,
  help,
  type: 'histogram',
  by: 'task',
  key,
  samples: () => [],
})

const ofTask = (
  name: string,
  help: string,
  read: (task: TaskNumbers) => readonly [number | undefined, Labels?],
): Metric => ({
  name: `millrace_task_${name}`,
  help,
  type: 'gauge',
  by: 'hub',
  key: '',
  samples: ({ tasks }) =>
    tasks.flatMap((task): Sample[] => {
      const [value, labels] = read(task)
      return value === undefined ? [] : [[{ ...labelsOf(task), ...labels }, value]]
    }),
})

const ofPipeline = (
  name: string,
  help: string,
  read: (pipeline: PipelineNumbers) => number | null,
): Metric => ({
  name: `millrace_pipeline_${name}`,
  help,
  type: 'gauge',
  by: 'hub',
  key: '',
  samples: ({ pipelines }) =>
    pipelines.flatMap((pipeline): Sample[] => {
      const value = read(pipeline)
      return value === null ? [] : [[{ pipeline: pipeline.name }, value]]
    }),
})

const ofProcess = (name: string, help: string, of: 'maxMs' | 'p99Ms'): Metric => ({
  name: `millrace_process_${name}`,
  help,
  type: 'gauge',
  by: 'process',
  key: '',
  samples: ({ eventLoopDelay }) => (eventLoopDelay ? [[{}, eventLoopDelay[of] / 1000]] : []),
})

export const METRICS: readonly Metric[] = [
  counted(
    'records',
    ['records_total', 'counter'],
    'Records written: by a source to the log, by a sink to where it writes.',
  ),
  counted('batches', ['batches_total', 'counter'], 'Batches written.'),
  observed(
    'commit_to_durable',
    'commit_to_durable_seconds',
    'Of records of sources: from the commit in the database until they are durable in the log. Observed once a batch, by its first record.',
  ),
  observed(
    'commit_to_applied',
    'commit_to_applied_seconds',
    'Of records of sinks: from the commit in the database until they are written. Observed once a batch, by its first record.',
  ),
  observed('write', 'write_seconds', 'How long the write of a batch took.'),
  counted('failures', ['failures_total', 'counter'], 'Times the task failed. It is opened anew, or halts.'),
  counted(
    'retried',
    ['retries_total', 'counter'],
    'Records sent again by a sink, since its server was busy or away.',
  ),
  counted(
    'rejected',
    ['rejects_total', 'counter'],
    'Records that the sink or a transform could not take: dead letters.',
  ),
  counted(
    'refused',
    ['refused_total', 'counter'],
    'Records that the sink refused as older than what it holds. A replay after a failure brings some.',
  ),
  counted(
    'last_commit_ms',
    ['last_commit_timestamp_seconds', 'gauge'],
    'When the last record that was written was committed in the database, since 1970.',
    0.001,
  ),
  counted(
    'moved_ms',
    ['moved_timestamp_seconds', 'gauge'],
    'When the last batch was written, since 1970.',
    0.001,
  ),
  counted('snapshot_running', ['snapshot_running', 'gauge'], '1 while the source takes its snapshot.'),
  counted('snapshot_rows', ['snapshot_rows_total', 'counter'], 'Rows that the snapshot has copied.'),
  counted(
    'snapshot_rows_total',
    ['snapshot_rows_expected', 'gauge'],
    'Rows that the snapshot had to copy when the task was opened, as the database estimates them.',
  ),
  counted('objects', ['objects_total', 'counter'], 'Objects or files that a sink has finished.'),
  counted(
    'requests_window',
    ['requests_window', 'gauge'],
    'Requests that a search sink has under way at most, as its cluster takes them.',
  ),
  ofTask(
    'state',
    '1 for the state that the task is in: waiting, starting, running, failing, halted, ended, stopped or detached.',
    ({ state }) => (state === undefined ? [undefined] : [1, { state }]),
  ),
  ofTask(
    'lag_records',
    'Records in the log that the sink has not written yet. On Kafka the markers of transactions count too.',
    task => [isSink(task) ? task.lag_records : undefined],
  ),
  ofTask(
    'lag_seconds',
    'How old the last record is that the sink has written, while there are others behind it.',
    task => [isSink(task) ? task.lag_seconds : undefined],
  ),
  ofPipeline('dead_letters', 'Dead letters there are.', one => one.dead_letters),
  ofPipeline(
    'log_records',
    'Records that the log ever took; 0 while it cannot be asked.',
    one => one.log_records,
  ),
  ofPipeline('log_bytes', 'Size of the log on disk, where it is in files.', one => one.log.bytes),
  ofPipeline('log_limit_bytes', 'limits.log_bytes, where the log is in files.', one =>
    one.log.bytes === null ? null : one.log.limit_bytes,
  ),
  ofProcess(
    'event_loop_delay_max_seconds',
    'The longest time that the event loop stood still since /metrics was asked last.',
    'maxMs',
  ),
  ofProcess(
    'event_loop_delay_p99_seconds',
    'How late the event loop was, but for one time in a hundred, since /metrics was asked last.',
    'p99Ms',
  ),
]

const escaped = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')

function line(name: string, labels: Labels, value: number): string {
  const inside = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`)
  return `${name}${inside.length > 0 ? `{${inside.join()}}` : ''} ${value}`
}

/** Cumulative, as Prometheus has them. */
function histogramLines({ name, key }: Metric, { tasks }: ShownNumbers): string[] {
  return tasks.flatMap(task => {
    const histogram = task.histograms[key]
    if (!histogram) return []
    const labels = labelsOf(task)
    let total = 0
    const buckets = histogram.counts.map((count, i) => {
      total += count
      const le = i < BUCKETS_SECONDS.length ? String(BUCKETS_SECONDS[i]) : '+Inf'
      return line(`${name}_bucket`, { ...labels, le }, total)
    })
    return [...buckets, line(`${name}_sum`, labels, histogram.sum), line(`${name}_count`, labels, total)]
  })
}

/** https://prometheus.io/docs/instrumenting/exposition_formats/ */
export function exposition(shown: ShownNumbers): string {
  return METRICS.map(metric => {
    const { name, type, help } = metric
    const lines =
      type === 'histogram'
        ? histogramLines(metric, shown)
        : metric
            .samples(shown)
            .filter(([, value]) => Number.isFinite(value))
            .map(([labels, value]) => line(name, labels, value))
    if (lines.length === 0) return ''
    return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('\n')}\n`
  }).join('')
}
