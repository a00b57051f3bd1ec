/**
 * How a running hub looks to a person: on a terminal a line that is drawn over again (snapshot bar with rows/s and time left,
 * then changes, lag and dead letters); elsewhere the log lines speak.
 */
import type { PipelineStatus, Status } from '../hub/status.ts'
import { count } from './output.ts'

const BAR = 16
const EVERY_MS = 500

export interface ProgressView extends Disposable {
  /** Prints a line above what is drawn. */
  line(text: string): void
}

interface Seen {
  readonly records: number
  readonly atMs: number
}

function bar(done: number, all: number): string {
  const filled = all > 0 ? Math.min(BAR, Math.round((done / all) * BAR)) : 0
  return `[${'█'.repeat(filled)}${'·'.repeat(BAR - filled)}]`
}

const left = (seconds: number): string =>
  seconds < 90 ? `${Math.ceil(seconds)} s left` : `${Math.ceil(seconds / 60)} min left`

/** One line of a pipeline. `rate`: records a second since the last look. */
export function describe(pipeline: PipelineStatus, rate: number): string {
  const [source, ...sinks] = pipeline.tasks
  const metrics = source?.metrics ?? {}
  const error = pipeline.tasks.find(task => task.error)
  if (error && ['failing', 'halted', 'detached'].includes(pipeline.state))
    return `${pipeline.name}  ${pipeline.state}: ${error.error}`
  if (metrics.snapshot_running === 1) {
    const done = metrics.snapshot_rows ?? 0
    const all = Math.max(done, metrics.snapshot_rows_total ?? 0)
    const remaining = rate > 0 && all > done ? `, ${left((all - done) / rate)}` : ''
    return `${pipeline.name}  snapshot ${bar(done, all)} ${count(done)} of ~${count(all)} rows, ${count(rate)}/s${remaining}`
  }
  const lag = Math.max(0, ...sinks.map(task => task.lag_records))
  const dead = pipeline.dead_letters > 0 ? `, ${count(pipeline.dead_letters)} dead letters` : ''
  return `${pipeline.name}  ${pipeline.state}: ${count(source?.records ?? 0)} records, ${count(rate)}/s, ${lag === 0 ? 'no lag' : `${count(lag)} behind`}${dead}`
}

export function drawProgress(status: () => Promise<Status>, stream: NodeJS.WriteStream): ProgressView {
  const seen = new Map<string, Seen>()
  let drawn = 0
  const clear = () => {
    if (drawn > 0) stream.write(`\u001b[${drawn}A\u001b[J`)
    drawn = 0
  }
  let isOver = false
  const draw = async () => {
    const { pipelines } = await status()
    if (isOver) return
    const nowMs = performance.now()
    const lines = pipelines.map(pipeline => {
      const records = pipeline.tasks[0]?.records ?? 0
      const last = seen.get(pipeline.name) ?? { records, atMs: nowMs - EVERY_MS }
      seen.set(pipeline.name, { records, atMs: nowMs })
      return describe(pipeline, (Math.max(0, records - last.records) * 1000) / Math.max(1, nowMs - last.atMs))
    })
    clear()
    const width = stream.columns ?? 100
    for (const line of lines) stream.write(`${line.slice(0, width - 1)}\n`)
    drawn = lines.length
  }
  const timer = setInterval(() => void draw().catch(() => {}), EVERY_MS)
  return {
    line(text) {
      clear()
      stream.write(`${text}\n`)
    },
    [Symbol.dispose]() {
      clearInterval(timer)
      isOver = true
    },
  }
}
