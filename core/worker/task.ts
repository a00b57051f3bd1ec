/**
 * One task for as long as it is wanted: lease, open, pump, close, and decide on errors. The only place that decides (errors.ts
 * has the table). Does not know what it pumps: `open` hands it reader, writer, progress and dead letters.
 *
 *            lease                 open, pump
 *   waiting ───────▶ starting ───────────────▶ running ──reader ends──▶ ended
 *      ▲                 │ error                  │ error
 *      │                 └───────────┬────────────┘
 *      │  Fenced                     ▼
 *      ├───────────────────────── which kind?
 *      │  backoff kinds: wait with jitter; shown as failing after max_attempts failures in a row
 *      │  halt kinds                      ▼
 *      │                               halted ──until the signal aborts, or `wake`
 *   every state ──signal──▶ stopped
 */
import { setMaxListeners } from 'node:events'
import type { Batch, Clock, Context, Log, Offset, Reader, Writer } from '../connector.ts'
import { asConnectorError, type ConnectorError, Fenced, POLICY } from '../errors.ts'
import { observed, timed } from '../flow.ts'
import { type DeadLetters, type Progress, pump } from '../pump.ts'
import type { Lease, Queue, Renewal } from '../queue/queue.ts'
import type { ChangeRecord } from '../record.ts'
import { backoffMs, type Retry } from './backoff.ts'
import { type Numbers, numbers } from './metrics.ts'

export type TaskState = 'waiting' | 'starting' | 'running' | 'failing' | 'halted' | 'ended' | 'stopped'

export interface Opened<R extends ChangeRecord> {
  readonly reader: Reader<R>
  readonly writer: Writer<R>
  readonly progress: Progress
  readonly dead: DeadLetters<R>
}

/** Of one run under one lease. */
export interface AttemptOptions<R extends ChangeRecord> {
  readonly pipeline: string
  readonly name: string
  readonly queue: Renewal
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  readonly retry: Retry
  readonly signal: AbortSignal
  /** Those that a run before had counted to. Default: of its own. */
  readonly metrics?: Numbers
  open(context: Context): Promise<Opened<R>>
  /** Each batch with which more became durable, and up to where. */
  seen?(batch: Batch<R>, durable: Offset): void
}

export interface TaskOptions<R extends ChangeRecord> extends AttemptOptions<R> {
  readonly owner: string
  readonly queue: Queue
}

export interface Task {
  readonly name: string
  readonly metrics: Numbers
  state(): TaskState
  /** Of the last failure, until it runs again. */
  error(): ConnectorError | null
  /** Resolves when the task has ended or stopped; never rejects. */
  readonly done: Promise<void>
}

interface Run<R extends ChangeRecord> {
  readonly options: AttemptOptions<R>
  readonly metrics: Numbers
  state: TaskState
  error: ConnectorError | null
  /** Failures since the last batch that was written. */
  failures: number
  /** An epoch seen where the data lives: the next lease must be above it (L1). */
  above: number
}

const runOf = <R extends ChangeRecord>(options: AttemptOptions<R>, failures: number): Run<R> => ({
  options,
  metrics: options.metrics ?? numbers(),
  state: 'waiting',
  error: null,
  failures,
  above: 0,
})
const taskOf = <R extends ChangeRecord>(run: Run<R>, done: Promise<void>): Task => ({
  name: run.options.name,
  metrics: run.metrics,
  state: () => run.state,
  error: () => run.error,
  done,
})

/** For as long as it is wanted: leased again and again. */
export function startTask<R extends ChangeRecord>(options: TaskOptions<R>): Task {
  const run = runOf(options, 0)
  return taskOf(run, supervise(run, options))
}

/** Once, under a lease that somebody else took: who gives it back when `done`. */
export interface Attempt {
  readonly task: Task
  /** In a row, this one included. */
  failures(): number
  /** An epoch that was seen where the data lives. */
  above(): number
}

export function attemptTask<R extends ChangeRecord>(
  options: AttemptOptions<R>,
  lease: Lease,
  failures: number,
): Attempt {
  const run = runOf(options, failures)
  const done = attempt(run, lease).then(() => {
    if (options.signal.aborted && run.state !== 'ended' && run.state !== 'halted') run.state = 'stopped'
  })
  return { task: taskOf(run, done), failures: () => run.failures, above: () => run.above }
}

const POLL_LEASE_MS = 250

async function supervise<R extends ChangeRecord>(run: Run<R>, options: TaskOptions<R>): Promise<void> {
  const { signal, clock, queue, name, owner } = options
  while (!signal.aborted && run.state !== 'ended') {
    const lease = await queue.lease(name, owner, run.above).catch(error => failed(run, error))
    if (!lease) {
      await clock.sleep(POLL_LEASE_MS, signal)
      continue
    }
    const outcome = await attempt(run, lease)
    await queue.release(lease).catch(error => failed(run, error))
    if (outcome !== 'ended') await rest(run)
  }
  if (run.state !== 'ended') run.state = 'stopped'
}

/** Notes what went wrong and what follows from it. */
function failed<R extends ChangeRecord>(run: Run<R>, thrown: unknown): null {
  const { log, name, retry } = run.options
  const error = asConnectorError(thrown)
  run.failures++
  run.error = error
  run.metrics.add('failures', 1)
  const halts = POLICY[error.kind].action !== 'backoff'
  run.state = halts ? 'halted' : run.failures >= retry.maxAttempts ? 'failing' : 'waiting'
  const fields = {
    task: name,
    kind: error.kind,
    attempt: run.failures,
    hint: error.hint,
    ...(error.kind === 'bug' ? { stack: stackOf(error) } : {}),
  }
  if (halts) log.error(fields, `${name} is halted: ${error.message}`)
  else log.warn(fields, `${name} failed and will be tried again: ${error.message}`)
  return null
}

const stackOf = (error: ConnectorError): string | undefined =>
  error.cause instanceof Error ? error.cause.stack : error.stack

/** What follows a failure: halted waits for the signal, the rest for its backoff. */
async function rest<R extends ChangeRecord>(run: Run<R>): Promise<void> {
  const { clock, signal, retry, random } = run.options
  if (run.state === 'halted') while (!signal.aborted) await clock.sleep(60_000, signal)
  else await clock.sleep(backoffMs(retry, Math.max(1, run.failures), random()), signal)
}

async function attempt<R extends ChangeRecord>(run: Run<R>, first: Lease): Promise<'ended' | 'again'> {
  const { signal, log, name } = run.options
  const stop = new AbortController()
  setMaxListeners(0, stop.signal) // connections, chunks and timers of the task all listen to it
  const lease = { now: first }
  // Linked by hand: on Node 20 a signal of AbortSignal.any can be collected while somebody listens to it.
  const onStop = () => stop.abort()
  signal.addEventListener('abort', onStop, { once: true })
  if (signal.aborted) stop.abort()
  const context = contextOf(run, lease, stop.signal)
  const renewal = renew(run, lease, stop)
  let opened: Opened<R> | undefined
  try {
    run.state = 'starting'
    opened = await run.options.open(context)
    run.state = 'running'
    await pumpOnce(run, opened)
    if (stop.signal.aborted) return 'again'
    run.state = 'ended'
    return 'ended'
  } catch (error) {
    // Whatever a task meets after its lease has run out may be the work of a newer owner: it is no reason to halt.
    const isLate = run.options.clock.monotonicMs() >= lease.now.deadlineMs
    if (error instanceof Fenced || isLate) {
      run.above = Math.max(run.above, error instanceof Fenced ? error.epoch : 0)
      run.state = 'waiting'
      log.info({ task: name, epoch: first.epoch }, `${name} gives way: ${asConnectorError(error).message}`)
    } else if (!signal.aborted) failed(run, error)
    return 'again'
  } finally {
    stop.abort()
    signal.removeEventListener('abort', onStop)
    await renewal
    await close(run, opened)
  }
}

function pumpOnce<R extends ChangeRecord>(
  run: Run<R>,
  { reader, writer, progress, dead }: Opened<R>,
): Promise<void> {
  const { metrics } = run
  const { clock, seen, name, pipeline } = run.options
  const isSource = name === `${pipeline}/source`
  const measured = timed(writer, clock, (batch, written, ms) => {
    metrics.add('records', written)
    metrics.add('batches', 1)
    metrics.observe('write', ms / 1000, 1)
    const [first] = batch.records
    if (!first || written === 0) return
    // Of a batch's first record, for all of them: what came later was no slower.
    const seconds = Math.max(0, clock.nowUs() / 1_000_000 - first.commitMs / 1000)
    metrics.observe(isSource ? 'commit_to_durable' : 'commit_to_applied', seconds, written)
  })
  const counted: DeadLetters<R> = {
    async add(rejected) {
      await dead.add(rejected)
      metrics.add('rejected', rejected.length)
    },
  }
  const watched = observed(reader, (batch, durable) => {
    run.failures = 0
    run.error = null
    const last = batch.records.at(-1)
    const nowMs = clock.nowUs() / 1000
    if (last) {
      metrics.set('last_commit_ms', last.commitMs)
      metrics.set('latency_ms', Math.max(0, nowMs - last.commitMs))
    }
    metrics.set('moved_ms', nowMs)
    seen?.(batch, durable)
  })
  return pump(watched, measured, progress, counted)
}

/** Closing must not hide why the task ended, and a failure in it is told. */
async function close<R extends ChangeRecord>(run: Run<R>, opened: Opened<R> | undefined): Promise<void> {
  for (const part of [opened?.reader, opened?.writer, opened?.progress]) {
    try {
      await part?.[Symbol.asyncDispose]?.()
    } catch (error) {
      run.options.log.warn(
        { task: run.options.name },
        `closing ${run.options.name}: ${asConnectorError(error).message}`,
      )
    }
  }
}

function contextOf<R extends ChangeRecord>(run: Run<R>, lease: { now: Lease }, signal: AbortSignal): Context {
  const { pipeline, name, log, clock } = run.options
  return {
    pipeline,
    task: name,
    epoch: lease.now.epoch,
    deadlineMs: () => lease.now.deadlineMs,
    signal,
    log,
    clock,
    metrics: run.metrics,
  }
}

/** Renews at a third of what is left; losing the lease aborts the task (L1). */
async function renew<R extends ChangeRecord>(
  run: Run<R>,
  lease: { now: Lease },
  stop: AbortController,
): Promise<void> {
  const { clock, queue } = run.options
  while (!stop.signal.aborted) {
    await clock.sleep(Math.max(10, (lease.now.deadlineMs - clock.monotonicMs()) / 3), stop.signal)
    if (stop.signal.aborted) return
    try {
      lease.now = await queue.renew(lease.now)
    } catch (error) {
      if (error instanceof Fenced || clock.monotonicMs() >= lease.now.deadlineMs) stop.abort()
    }
  }
}
