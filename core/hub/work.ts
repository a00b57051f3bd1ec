/**
 * A worker: takes tasks that hubs offer and runs each for as long as it has the lease. Keeps nothing: what it needs of a pipeline comes
 * with the offer, secrets from its own environment.
 *
 *   take, up to its share (balance.ts)
 *        ─▶ parse ─▶ logs of the pipeline (shared by its tasks here) ─▶ attempt ─▶ give back: at once, after a backoff, or parked
 */
import { setMaxListeners } from 'node:events'
import { asConnectorError, ConnectorError } from '../errors.ts'
import type { LogOffset } from '../log/log.ts'
import { tasksOf } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { Release, Taken, TaskKind } from '../queue/queue.ts'
import type { ChangeRecord, Json, LogRecord } from '../record.ts'
import { backoffMs } from '../worker/backoff.ts'
import { type Numbers, numbers } from '../worker/metrics.ts'
import { type Attempt, attemptTask, type Task } from '../worker/task.ts'
import { type Balance, type BalanceParts, type Holding, keepBalance } from './balance.ts'
import type { Logs, PipelineLogs } from './logs.ts'
import { reportOf, type Seen, unopened } from './reports.ts'
import { openSink, openSource, type TaskParts } from './tasks.ts'

export interface WorkerParts extends BalanceParts {
  readonly logs: Logs
  readonly random: () => number
  readonly redact: (text: string) => string
  /** Of an offer's data; throws `config` with every mistake. */
  parse(data: Json): Promise<ParsedPipeline>
}

export interface RunningWorker {
  /** Those that it runs now. */
  tasks(): readonly Task[]
  /** When it last asked for a task, or had none to ask for: on the monotonic clock. A worker that does neither is stuck. */
  movedMs(): number
  readonly done: Promise<void>
}

interface Shared {
  readonly definition: Promise<ParsedPipeline>
  readonly logs: Promise<PipelineLogs>
  users: number
}

/** From the moment it was taken until it was given back. */
interface Held extends Holding {
  readonly stop: AbortController
  running: Task | null
}

interface State extends WorkerParts {
  readonly held: Set<Held>
  readonly shared: Map<string, Shared>
  readonly working: Set<Promise<void>>
  /** The wait for the next task, and for tasks of which kinds. */
  turn: { readonly kinds: readonly TaskKind[]; readonly end: AbortController } | null
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
    held: new Set(),
    shared: new Map(),
    numbers: new Map(),
    working: new Set(),
    turn: null,
    movedMs: parts.clock.monotonicMs(),
  }
  const balance = keepBalance(parts, state.held, () => endTurn(state, balance))
  return {
    tasks: () => [...state.held].flatMap(one => one.running ?? []),
    movedMs: () => state.movedMs,
    done: Promise.all([takeAgain(state, balance), balance.done]).then(() => {}),
  }
}

async function takeAgain(state: State, balance: Balance): Promise<void> {
  const { owner, signal, clock, log } = state
  while (!signal.aborted) {
    try {
      const taken = await takeInTurn(state, balance)
      state.movedMs = clock.monotonicMs()
      if (!taken) continue
      const work = hold(state, taken).finally(() => {
        state.working.delete(work)
        endTurn(state, balance)
      })
      state.working.add(work)
    } catch (error) {
      log.warn({ owner }, `the queue: ${asConnectorError(error).message}`)
      await clock.sleep(500, signal)
    }
  }
  await Promise.all(state.working)
}

/** A turn that waits for what is not wanted now, or not for all that is. */
function endTurn({ turn }: State, balance: Balance): void {
  if (turn && turn.kinds.join() !== balance.wanted().join()) turn.end.abort()
}

/** Returns now and then without a task, so that one can see that it asks. */
async function takeInTurn(state: State, balance: Balance): Promise<Taken | null> {
  const { queue, owner, signal, clock } = state
  const turn = { kinds: balance.wanted(), end: new AbortController() }
  const end = () => turn.end.abort()
  signal.addEventListener('abort', end)
  const sleeping = clock.sleep(TURN_MS, turn.end.signal).then(end)
  state.turn = turn
  try {
    if (turn.kinds.length > 0) return await queue.take(owner, turn.kinds, turn.end.signal)
    await sleeping
    return null
  } finally {
    state.turn = null
    signal.removeEventListener('abort', end)
    end()
  }
}

async function hold(state: State, taken: Taken): Promise<void> {
  const { signal, held, log, owner } = state
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  const one: Held = {
    task: taken.lease.task,
    kind: taken.offer.kind,
    stop,
    running: null,
    isRunning: () => one.running?.state() === 'running',
    isEnding: () => stop.signal.aborted,
    end: () => stop.abort(),
  }
  held.add(one)
  signal.addEventListener('abort', one.end, { once: true })
  if (signal.aborted) one.end()
  try {
    await runTaken(state, taken, one)
  } catch (error) {
    log.warn({ owner }, `${one.task} could not be given back: ${asConnectorError(error).message}`)
  } finally {
    held.delete(one)
    signal.removeEventListener('abort', one.end)
  }
}

async function runTaken(state: State, taken: Taken, held: Held): Promise<void> {
  const { queue, owner, log, redact } = state
  const { task } = taken.lease
  log.info({ task, epoch: taken.lease.epoch, owner }, `${task} is run here`)
  let release: Release
  try {
    release = await withShared(state, taken, shared => attempted(state, taken, held, shared))
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
      report: unopened(owner, error, redact),
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
    shared = { definition, logs: definition.then(one => state.logs.open(one)), users: 0 }
    state.shared.set(id, shared)
  }
  shared.users++
  try {
    return await work({ definition: await shared.definition, logs: await shared.logs })
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
  held: Held,
  { definition, logs }: { definition: ParsedPipeline; logs: PipelineLogs },
): Promise<Release> {
  const { clock, log, redact, owner } = state
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
  const attempt = start(state, taken, parts, seen, held.stop.signal)
  held.running = attempt.task
  const over = new AbortController()
  const reporting = report(state, taken, attempt.task, seen, held.stop, over.signal)
  await attempt.task.done
  over.abort()
  await reporting
  // It may have ended before the log told where it ends, and nobody asks again.
  if (attempt.task.state() === 'ended' && taken.lease.task === tasksOf(definition).source)
    seen.target ??= await logs.changes.ends()
  return releaseOf(state, attempt, definition, reportOf(attempt.task, owner, seen, redact))
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
      seen(_, durable) {
        seen.position = durable as unknown as LogOffset
      },
    },
    lease,
    failures,
  )
}

/** A task that is wanted no more, or by another file, ends here; that the queue is away ends nothing: the lease does. */
async function report(
  { queue, clock, owner, redact }: State,
  taken: Taken,
  task: Task,
  seen: Seen,
  stop: AbortController,
  over: AbortSignal,
): Promise<void> {
  while (!over.aborted) {
    try {
      if (!(await queue.report(taken, reportOf(task, owner, seen, redact)))) stop.abort()
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
