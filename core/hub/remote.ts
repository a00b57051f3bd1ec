/**
 * A hub whose tasks others run: it checks pipelines, offers their tasks to workers over the queue, again and again, and shows what these
 * tell. Any number of hubs may do the same for the same files; none of them is needed for what runs already.
 */
import type { Clock } from '../connector.ts'
import { asConnectorError, ConnectorError } from '../errors.ts'
import type { TopicEnds } from '../log/log.ts'
import { tasksOf } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { Offer, Offered, TaskQueue } from '../queue/queue.ts'
import type { Json } from '../record.ts'
import { readDeadLetters } from '../worker/dead-letters.ts'
import { type Hub, keepTrying, readDeadLettersOf, search, unknownPipeline } from './hub.ts'
import type { PipelineLogs } from './logs.ts'
import { type HubParts, RETAIN_EVERY_MS } from './pipeline.ts'
import { admit } from './preflight.ts'
import { removePipeline } from './remove.ts'
import { readReport } from './reports.ts'
import { failedStatus, lagOf, lagSeconds, type PipelineStatus, type TaskStatus, worstOf } from './status.ts'

export interface RemoteParts extends HubParts {
  readonly queue: TaskQueue
  /** What a worker needs to know of a pipeline: its file, as it stands. */
  dataOf(definition: ParsedPipeline): Json
}

interface Known {
  readonly definition: ParsedPipeline
  /** Its tasks are offered. */
  isChecked: boolean
  error: ConnectorError | null
  logs: Promise<PipelineLogs> | null
  deadLetters: number
  countedMs: number
}

interface State extends RemoteParts {
  readonly stop: AbortController
  readonly known: Map<string, Known>
  readonly working: Set<Promise<void>>
  /** An empty list of pipelines means something only when there was one. */
  hasStarted: boolean
}

const OFFER_MS = 1_000
const WITHDRAW_MS = 30_000
/** Dead letters are read to be counted: not at each look. */
const COUNT_MS = 10_000
export function openRemoteHub(parts: RemoteParts): Hub {
  const state: State = {
    ...parts,
    stop: new AbortController(),
    known: new Map(),
    working: new Set(),
    hasStarted: false,
  }
  const inBackground = (work: Promise<void>) => {
    state.working.add(work)
    void work.finally(() => state.working.delete(work))
  }
  inBackground(offerAgain(state))
  inBackground(retainNowAndThen(state))
  const add = (definition: ParsedPipeline): Known => {
    const known = { definition, isChecked: false, error: null, logs: null, deadLetters: 0, countedMs: 0 }
    state.known.set(definition.name, known)
    state.hasStarted = true
    return known
  }
  return {
    keepStarting: definition => inBackground(keepChecking(state, add(definition))),
    status: async () => ({ pipelines: await pipelinesOf(state) }),
    async numbers() {
      const pipelines = await pipelinesOf(state)
      const tasks = pipelines.flatMap(one => one.tasks)
      return { pipelines, tasks: tasks.map(task => ({ ...task, metrics: {}, histograms: {} })) }
    },
    search: (pipeline, words, limit) => search(definitionOf(state, pipeline), words, limit),
    deadLetters: pipeline => readDeadLettersOf(parts, definitionOf(state, pipeline).name),
    remove: pipeline => remove(state, definitionOf(state, pipeline)),
    async [Symbol.asyncDispose]() {
      state.stop.abort()
      await Promise.all(state.working)
      for (const { logs } of state.known.values()) await closeLogs(logs)
    },
  }
}

async function pipelinesOf(state: State): Promise<readonly PipelineStatus[]> {
  const offered = await state.queue.list().catch(() => null)
  const pipelines = await Promise.all([...state.known.values()].map(one => statusOf(state, one, offered)))
  return pipelines.sort((a, b) => (a.name < b.name ? -1 : 1))
}

async function closeLogs(opening: Promise<PipelineLogs> | null): Promise<void> {
  await (await opening?.catch(() => null))?.[Symbol.asyncDispose]()
}

function definitionOf({ known }: State, pipeline: string): ParsedPipeline {
  const found = known.get(pipeline)
  if (found) return found.definition
  throw unknownPipeline(pipeline, [...known.keys()])
}

const keepChecking = (state: State, known: Known): Promise<void> =>
  keepTrying(state, known.definition, state.stop.signal, {
    async attempt() {
      await admit(known.definition, state, state.stop.signal, await isRead(state, known.definition))
      known.error = null
      known.isChecked = true
    },
    failed(error) {
      known.error = error
    },
    isWanted: () => state.known.get(known.definition.name) === known,
  })

async function isRead({ queue }: State, definition: ParsedPipeline): Promise<boolean> {
  const { source } = tasksOf(definition)
  return (await queue.list()).some(one => one.task === source && one.state === 'held')
}

function offersOf(state: State, { definition }: Known): readonly Offer[] {
  const data = state.dataOf(definition)
  const { source, sinks } = tasksOf(definition)
  return [
    { task: source, kind: 'source', data },
    ...sinks.map((sink): Offer => ({ task: sink.name, kind: 'sink', data })),
  ]
}

/** What a queue that lost everything lacks comes back with the next look. Pipelines that are not checked yet may run already: they are left alone. */
async function offerAgain(state: State): Promise<void> {
  const { queue, clock, log, stop, known } = state
  while (!stop.signal.aborted) {
    try {
      const all = [...known.values()]
      const waiting = new Set(all.filter(one => !one.isChecked).map(one => one.definition.name))
      const offers = all.filter(one => one.isChecked).flatMap(one => offersOf(state, one))
      if (state.hasStarted) await queue.offer(offers, task => waiting.has(task.slice(0, task.indexOf('/'))))
    } catch (error) {
      log.warn({}, `the tasks could not be offered: ${asConnectorError(error).message}`)
    }
    await clock.sleep(OFFER_MS, stop.signal)
  }
}

/** Opened at the first look, and then kept. */
function logsOf(state: State, known: Known): Promise<PipelineLogs> {
  const { definition } = known
  known.logs ??= state.logs.open(definition, {
    ...definition.log.retention,
    consumers: tasksOf(definition).sinks.map(one => one.name),
    isDetached: () => false,
    atLimit: () => false,
  })
  return known.logs
}

async function retainNowAndThen(state: State): Promise<void> {
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

async function endsOf(state: State, known: Known): Promise<readonly TopicEnds[]> {
  const opening = logsOf(state, known)
  try {
    const { changes, dead } = await opening
    if (state.clock.monotonicMs() - known.countedMs > COUNT_MS) {
      known.countedMs = state.clock.monotonicMs()
      known.deadLetters = (await readDeadLetters(dead)).length
    }
    return await changes.ends()
  } catch {
    forget(known, opening)
    return []
  }
}

async function statusOf(
  state: State,
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
  const target = reportOf(source)?.target ?? null
  const isCaughtUp =
    target !== null &&
    sinks.every(({ name, partition }) =>
      target.every(
        one => one.partition !== partition || (reportOf(name)?.position?.next[one.topic] ?? 0) >= one.end,
      ),
    )
  const tasks = [
    taskStatus(source, byTask.get(source), 0, state.clock),
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

/** Its tasks end first: one that went on would make again what is taken away. */
async function remove(state: State, definition: ParsedPipeline): Promise<readonly string[]> {
  const { known, queue, clock } = state
  const { name } = definition
  const logs = known.get(name)?.logs ?? null
  known.delete(name)
  await closeLogs(logs)
  const until = clock.monotonicMs() + WITHDRAW_MS
  for (;;) {
    const left = (await queue.list()).filter(one => one.task.startsWith(`${name}/`))
    if (left.length === 0) break
    if (clock.monotonicMs() > until)
      throw new ConnectorError('unavailable', `${left.map(one => one.task).join(', ')} did not end`, {
        hint: 'Say it again; a worker that is away loses its tasks within seconds.',
      })
    await clock.sleep(200)
  }
  return removePipeline(state, definition)
}
