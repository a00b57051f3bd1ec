/**
 * A hub whose tasks others run: it checks pipelines, offers their tasks to workers over the queue, again and again, and shows what these
 * tell. Any number of hubs may do the same for the same files; none of them is needed for what runs already.
 */
import type { Clock } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { TopicEnds } from '../log/log.ts'
import { isWritten, tasksOf, writerTask } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { Offered } from '../queue/queue.ts'
import { readDeadLetters } from '../worker/dead-letters.ts'
import { type Hub, readDeadLettersOf, search, unknownPipeline } from './hub.ts'
import type { PipelineLogs } from './logs.ts'
import { closeLogs, type Known, type Offering, offerAgain, type RemoteParts, withdraw } from './offering.ts'
import { RETAIN_EVERY_MS } from './pipeline.ts'
import { admit } from './preflight.ts'
import { ownProducer, produceInto, targetOf } from './produce.ts'
import { removePipeline } from './remove.ts'
import { readReport } from './reports.ts'
import {
  failedStatus,
  lagOf,
  lagSeconds,
  taskStatus as ownStatus,
  type PipelineStatus,
  type TaskStatus,
  worstOf,
} from './status.ts'
import { keepTrying } from './trying.ts'

/** Dead letters are read to be counted: not at each look. */
const COUNT_MS = 10_000

export function openRemoteHub(parts: RemoteParts): Hub {
  const state: Offering = {
    ...parts,
    stop: new AbortController(),
    known: new Map(),
    gone: new Map(),
    hasStarted: false,
  }
  const working = Promise.all([offerAgain(state), retainNowAndThen(state)])
  return {
    keepStarting: definition => add(state, definition),
    status: async () => ({ pipelines: await pipelinesOf(state) }),
    async numbers() {
      const pipelines = await pipelinesOf(state)
      const tasks = pipelines.flatMap(one => one.tasks)
      const own = new Map(
        [...state.known.values()].flatMap(({ producer }) =>
          producer ? [[producer.task.name, producer.task.metrics]] : [],
        ),
      )
      return {
        pipelines,
        tasks: tasks.map(task => ({
          ...task,
          metrics: own.get(task.name)?.all() ?? {},
          histograms: own.get(task.name)?.histograms() ?? {},
        })),
      }
    },
    search: (pipeline, words, limit) => search(definitionOf(state, pipeline), words, limit),
    deadLetters: pipeline => readDeadLettersOf(parts, definitionOf(state, pipeline).name),
    async produce(topic, request) {
      const known = [...state.known.values()]
      const target = targetOf(
        known.map(one => one.definition),
        topic,
      )
      const { producer = null } = state.known.get(target.definition.name) ?? {}
      return produceInto(target, producer, request, parts.clock)
    },
    async remove(pipeline) {
      const definition = state.gone.get(pipeline) ?? definitionOf(state, pipeline) // said again, maybe
      await withdraw(state, definition)
      return removePipeline(state, definition)
    },
    async [Symbol.asyncDispose]() {
      state.stop.abort()
      const known = [...state.known.values()]
      await Promise.all([working, ...known.map(one => one.trying?.end())])
      for (const { logs, producer } of known) {
        await producer?.[Symbol.asyncDispose]()
        await closeLogs(logs)
      }
    },
  }
}

async function pipelinesOf(state: Offering): Promise<readonly PipelineStatus[]> {
  const offered = await state.queue.list().catch(() => null)
  const pipelines = await Promise.all([...state.known.values()].map(one => statusOf(state, one, offered)))
  return pipelines.sort((a, b) => (a.name < b.name ? -1 : 1))
}

function definitionOf({ known }: Offering, pipeline: string): ParsedPipeline {
  const found = known.get(pipeline)
  if (found) return found.definition
  throw unknownPipeline(pipeline, [...known.keys()])
}

function add(state: Offering, definition: ParsedPipeline): void {
  const known: Known = {
    definition,
    trying: null,
    isChecked: false,
    error: null,
    logs: null,
    producer: null,
    target: null,
    deadLetters: 0,
    countedMs: 0,
    mark: undefined,
  }
  state.known.set(definition.name, known)
  state.gone.delete(definition.name)
  state.hasStarted = true
  known.trying = keepTrying(state, definition, {
    async attempt(signal) {
      await admit(definition, state, signal, await isRead(state, definition))
      known.error = null
      if (isWritten(definition)) known.producer = ownProducer({ ...state, definition })
      known.isChecked = true
    },
    failed(error) {
      known.error = error
    },
  })
}

async function isRead({ queue }: Offering, definition: ParsedPipeline): Promise<boolean> {
  const { source } = tasksOf(definition)
  return source !== null && (await queue.list()).some(one => one.task === source && one.state === 'held')
}

/** Opened at the first look, and then kept. */
function logsOf(state: Offering, known: Known): Promise<PipelineLogs> {
  const { definition } = known
  known.logs ??= state.logs.open(definition, {
    ...definition.log.retention,
    consumers: tasksOf(definition).sinks.map(one => one.name),
    isDetached: () => false,
    atLimit: () => false,
  })
  return known.logs
}

async function retainNowAndThen(state: Offering): Promise<void> {
  const { clock, log, stop, known } = state
  while (!stop.signal.aborted) {
    await clock.sleep(RETAIN_EVERY_MS, stop.signal)
    for (const one of [...known.values()]) {
      if (!one.isChecked || stop.signal.aborted) continue
      const opening = logsOf(state, one)
      try {
        await (await opening).changes.retain()
      } catch (error) {
        forget(one, opening)
        const { name } = one.definition
        if (known.get(name) === one)
          log.warn({ pipeline: name }, `retention of ${name}: ${(error as Error).message}`)
      }
    }
  }
}

/** They are opened anew at the next look. */
function forget(known: Known, opening: Promise<PipelineLogs>): void {
  if (known.logs === opening) known.logs = null
  void closeLogs(opening)
}

async function endsOf(state: Offering, known: Known): Promise<readonly TopicEnds[]> {
  const opening = logsOf(state, known)
  try {
    const { changes, dead } = await opening
    if (state.clock.monotonicMs() - known.countedMs > COUNT_MS) {
      known.countedMs = state.clock.monotonicMs()
      known.deadLetters = (await readDeadLetters(dead)).length
    }
    const ends = await changes.ends()
    if (known.producer) known.target ??= ends
    return ends
  } catch {
    forget(known, opening)
    return []
  }
}

async function statusOf(
  state: Offering,
  known: Known,
  offered: readonly Offered[] | null,
): Promise<PipelineStatus> {
  const { definition, error, isChecked } = known
  if (!isChecked && error) return failedStatus(definition, error)
  if (!offered)
    return failedStatus(definition, new ConnectorError('unavailable', 'the queue of tasks is away'))
  const ends = isChecked ? await endsOf(state, known) : []
  const { source, sinks } = tasksOf(definition)
  const byTask = new Map(offered.map(one => [one.task, one]))
  const reportOf = (task: string) => readReport(byTask.get(task)?.report ?? null)
  const target = source === null ? known.target : (reportOf(source)?.target ?? null)
  const isCaughtUp =
    target !== null &&
    sinks.every(({ name, partition }) =>
      target.every(
        one => one.partition !== partition || (reportOf(name)?.position?.next[one.topic] ?? 0) >= one.end,
      ),
    )
  const tasks = [
    known.producer
      ? ownStatus(known.producer.task, false, 0, state.clock.nowUs() / 1000)
      : taskStatus(writerTask(definition), source ? byTask.get(source) : undefined, 0, state.clock),
    ...sinks.map(({ name, partition }) =>
      taskStatus(
        name,
        byTask.get(name),
        lagOf(ends, reportOf(name)?.position ?? null, partition),
        state.clock,
      ),
    ),
  ]
  const [first, ...others] = tasks.map(task => task.state)
  return {
    name: definition.name,
    state: worstOf(first!, others, tasks[0]!.metrics.snapshot_running === 1, isCaughtUp),
    caught_up: isCaughtUp,
    tasks,
    dead_letters: known.deadLetters,
    log_records: ends.reduce((sum, { end }) => sum + end, 0),
    log: { bytes: null, limit_bytes: definition.limits.logBytes },
  }
}

function taskStatus(
  name: string,
  offered: Offered | undefined,
  lagRecords: number,
  clock: Clock,
): TaskStatus {
  const report = readReport(offered?.report ?? null)
  const metrics = report?.metrics ?? {}
  // What waits for a worker says no more than why it was given back.
  const isParked = report !== null && ['ended', 'halted', 'failing'].includes(report.state)
  return {
    name,
    state: report && (offered!.state === 'held' || isParked) ? report.state : 'waiting',
    records: metrics.records ?? 0,
    lag_records: lagRecords,
    lag_seconds: lagSeconds(lagRecords, metrics.last_commit_ms ?? 0, clock.nowUs() / 1000),
    error: report?.error ?? null,
    hint: report?.hint ?? null,
    metrics,
    worker: offered?.state === 'held' ? (report?.owner ?? null) : null,
  }
}
