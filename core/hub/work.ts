/**
 * A worker: takes tasks that hubs offer and runs each for as long as it has the lease. Keeps nothing: what it needs of a pipeline comes
 * with the offer, secrets from its own environment.
 *
 *   take ─▶ parse ─▶ logs of the pipeline (shared by its tasks here) ─▶ attempt ─▶ give back: at once, after a backoff, or parked
 */
import { setMaxListeners } from 'node:events'
import type { Batch, Clock, Log } from '../connector.ts'
import { asConnectorError, ConnectorError } from '../errors.ts'
import type { LogOffset } from '../log/log.ts'
import { tasksOf } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { Release, Taken, TaskKind, TaskQueue } from '../queue/queue.ts'
import type { ChangeRecord, Json, LogRecord } from '../record.ts'
import { backoffMs } from '../worker/backoff.ts'
import { type Numbers, numbers } from '../worker/metrics.ts'
import { type Attempt, attemptTask, type Task } from '../worker/task.ts'
import type { Logs, PipelineLogs } from './logs.ts'
import { reportOf, type Seen, unopened } from './reports.ts'
import { openSink, openSource, type TaskParts } from './tasks.ts'

export interface WorkerParts {
  readonly queue: TaskQueue
  readonly logs: Logs
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly redact: (text: string) => string
  /** Of an offer's data; throws `config` with every mistake. */
  parse(data: Json): ParsedPipeline
  /** Unlike that of any other worker. */
  readonly owner: string
  readonly concurrency: number
  readonly kinds: readonly TaskKind[]
  readonly signal: AbortSignal
}

export interface RunningWorker {
  /** Those that it runs now. */
  tasks(): readonly Task[]
  /** When it last asked for a task, or had none to ask for: on the monotonic clock. A worker that does neither is stuck. */
  movedMs(): number
  readonly done: Promise<void>
}

interface Shared {
  readonly definition: ParsedPipeline
  readonly logs: Promise<PipelineLogs>
  users: number
}

interface State extends WorkerParts {
  readonly running: Set<Task>
  readonly shared: Map<string, Shared>
  /** By task, over all its runs here: what counts must not begin anew with each. */
  readonly numbers: Map<string, Numbers>
  movedMs: number
}

const REPORT_MS = 1_000
const TURN_MS = 10_000
const PARKED_MS = 365 * 86_400_000

export function startWorker(parts: WorkerParts): RunningWorker {
  setMaxListeners(0, parts.signal)
  const state: State = {
    ...parts,
    running: new Set(),
    shared: new Map(),
    numbers: new Map(),
    movedMs: parts.clock.monotonicMs(),
  }
  const slots = Array.from({ length: parts.concurrency }, () => slot(state))
  return {
    tasks: () => [...state.running],
    movedMs: () => state.movedMs,
    done: Promise.all(slots).then(() => {}),
  }
}

async function slot(state: State): Promise<void> {
  const { owner, signal, clock, log } = state
  while (!signal.aborted) {
    try {
      const taken = await takeInTurn(state)
      state.movedMs = clock.monotonicMs()
      if (taken) await runTaken(state, taken)
    } catch (error) {
      log.warn({ owner }, `the queue: ${asConnectorError(error).message}`)
      await clock.sleep(500, signal)
    }
  }
}

/** Returns now and then without a task, so that one can see that it asks. */
async function takeInTurn({ queue, owner, kinds, signal, clock }: State): Promise<Taken | null> {
  const turn = new AbortController()
  const end = () => turn.abort('over')
  signal.addEventListener('abort', end)
  void clock.sleep(TURN_MS, turn.signal).then(end)
  try {
    return await queue.take(owner, kinds, turn.signal)
  } finally {
    signal.removeEventListener('abort', end)
    end()
  }
}

async function runTaken(state: State, taken: Taken): Promise<void> {
  const { queue, owner, log, redact } = state
  const { task } = taken.lease
  log.info({ task, epoch: taken.lease.epoch, owner }, `${task} is run here`)
  let release: Release
  try {
    release = await withShared(state, taken, shared => attempted(state, taken, shared))
  } catch (thrown) {
    const error = asConnectorError(thrown)
    log.error(
      { task, kind: error.kind, hint: error.hint },
      `${task} cannot be run here: ${redact(error.message)}`,
    )
    release = {
      delayMs: 5_000,
      above: 0,
      failures: taken.failures + 1,
      report: unopened(owner, redact(error.message), error.hint),
    }
  }
  await queue.release(taken, release)
}

async function withShared(
  state: State,
  { offer }: Taken,
  work: (shared: { definition: ParsedPipeline; logs: PipelineLogs }) => Promise<Release>,
): Promise<Release> {
  const id = JSON.stringify(offer.data)
  let shared = state.shared.get(id)
  if (!shared) {
    const definition = state.parse(offer.data)
    shared = { definition, logs: state.logs.open(definition), users: 0 }
    state.shared.set(id, shared)
  }
  shared.users++
  try {
    return await work({ definition: shared.definition, logs: await shared.logs })
  } finally {
    if (--shared.users === 0) {
      state.shared.delete(id)
      await (await shared.logs.catch(() => null))?.[Symbol.asyncDispose]()
    }
  }
}

async function attempted(
  state: State,
  taken: Taken,
  { definition, logs }: { definition: ParsedPipeline; logs: PipelineLogs },
): Promise<Release> {
  const { signal, clock, log, redact, owner } = state
  const stop = new AbortController()
  const onStop = () => stop.abort()
  signal.addEventListener('abort', onStop, { once: true })
  if (signal.aborted) stop.abort()
  const seen: Seen = { position: null, target: null }
  const parts: TaskParts = {
    definition,
    logs,
    clock,
    log,
    redact,
    isDetached: () => false,
    resumed(_, at) {
      seen.position = at
    },
    died() {},
  }
  const attempt = start(state, taken, parts, seen, stop.signal)
  state.running.add(attempt.task)
  const over = new AbortController()
  const reporting = report(state, taken, attempt.task, seen, stop, over.signal)
  await attempt.task.done
  over.abort()
  await reporting
  state.running.delete(attempt.task)
  signal.removeEventListener('abort', onStop)
  return releaseOf(state, attempt, definition, reportOf(attempt.task, owner, seen))
}

function start(
  { queue, clock, random, log, numbers: known }: State,
  { lease, failures }: Taken,
  parts: TaskParts,
  seen: Seen,
  signal: AbortSignal,
): Attempt {
  const { definition, logs } = parts
  const metrics = known.get(lease.task) ?? numbers()
  known.set(lease.task, metrics)
  const shared = {
    metrics,
    pipeline: definition.name,
    name: lease.task,
    queue,
    clock,
    random,
    log,
    retry: definition.errors.retry,
    signal,
  }
  const { source, sinks } = tasksOf(definition)
  if (lease.task === source)
    return attemptTask<ChangeRecord>(
      {
        ...shared,
        open: context => openSource(parts, context),
        seen(batch) {
          if (batch.caughtUp)
            void logs.changes
              .ends()
              .then(ends => (seen.target ??= ends))
              .catch(() => {})
        },
      },
      lease,
      failures,
    )
  const own = sinks.find(one => one.name === lease.task)
  if (!own) throw new ConnectorError('config', `${definition.name} has no task ${lease.task}`)
  return attemptTask<LogRecord>(
    {
      ...shared,
      open: context => openSink(parts, own.sink, own.partition, context),
      seen(batch: Batch) {
        seen.position = batch.offset as unknown as LogOffset
      },
    },
    lease,
    failures,
  )
}

/** A task that is wanted no more, or by another file, ends here; that the queue is away ends nothing: the lease does. */
async function report(
  { queue, clock, owner }: State,
  taken: Taken,
  task: Task,
  seen: Seen,
  stop: AbortController,
  over: AbortSignal,
): Promise<void> {
  while (!over.aborted) {
    try {
      if (!(await queue.report(taken, reportOf(task, owner, seen)))) stop.abort()
    } catch {
      // told by whoever renews the lease
    }
    await clock.sleep(REPORT_MS, over)
  }
}

/** What follows: the table of errors.ts, for a task that anybody may take next. */
function releaseOf(
  { random }: State,
  { task, failures, above }: Attempt,
  { errors: { retry } }: ParsedPipeline,
  report: Json,
): Release {
  const state = task.state()
  const isParked = state === 'ended' || state === 'halted'
  const hasFailed = task.error() !== null && state !== 'stopped'
  return {
    delayMs: isParked ? PARKED_MS : hasFailed ? backoffMs(retry, Math.max(1, failures()), random()) : 0,
    above: above(),
    failures: hasFailed ? failures() : 0,
    report,
  }
}
