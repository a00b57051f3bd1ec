/**
 * Sends operations until each is done, refused as older, or set aside; in requests of bounded size, as many at once as the cluster
 * takes. No two operations may have one id: requests overtake each other.
 *
 *   made when it is its turn
 *     │
 *   queue ─▶ enter ─▶ request ─┬─ items: done, refused │ bad: set aside │ later: back into the queue
 *              ▲               ├─ split: two halves into the queue (one operation: set aside)
 *              └─── pause ─────┴─ later, or no answer: all of it back into the queue
 *
 * Waits as long as anything gets through. When nothing did for a while it throws what the cluster said last: the task then shows
 * why it stands, and tries again. What was done by then is done again and refused, which is no harm.
 */
import { assertLease, type Context, type Rejected } from '../../core/connector.ts'
import { asConnectorError, ConnectorError } from '../../core/errors.ts'
import type { LogRecord } from '../../core/record.ts'
import { badRecord, itemOutcome, type Outcome, requestOutcome } from './classify.ts'
import { callError, type SearchAnswer, type SearchClient, toldBy } from './client.ts'
import type { SearchConfig } from './config.ts'
import { halves, type Operations, pick, sizeOf } from './operations.ts'
import type { Pace } from './pace.ts'

export interface SendParts {
  readonly client: SearchClient
  readonly config: SearchConfig
  readonly context: Context
  readonly pace: Pace
  /** Name in the requests' path. */
  readonly index: string
  /** What became of a name that the cluster knows no more; the error itself where that cannot be seen. */
  lost(error: Error): Promise<Error>
}

export interface Sent {
  readonly rejected: readonly Rejected[]
  /** Older than what stands there. */
  readonly refused: number
}

/** Without anything done for so long, the task is told. */
const PATIENCE_MS = 30_000
/** Times an operation may meet an error of the cluster's own (500) before it is held to be the operation's fault. */
const CLUSTER_FAULTS = 5

interface Sending extends SendParts {
  /** What must be sent again. */
  readonly queue: Operations[]
  readonly rejected: Rejected[]
  refused: number
  isGone: boolean
  /** Faults of the cluster's own by record. */
  readonly faults: Map<LogRecord, number>
  doneMs: number
  /** What ends it. */
  error: Error | null
  /** What the cluster said last when it pushed back. */
  reason: ConnectorError | null
}

/** `made`: a request's operations each, made while others are on their way. */
export async function send(parts: SendParts, made: Iterator<Operations, void>): Promise<Sent> {
  const { context, pace } = parts
  const sending: Sending = {
    ...parts,
    queue: [],
    rejected: [],
    refused: 0,
    isGone: false,
    faults: new Map(),
    doneMs: context.clock.monotonicMs(),
    error: null,
    reason: null,
  }
  const running = new Set<Promise<void>>()
  let isAllMade = false
  while (sending.error === null && (!isAllMade || sending.queue.length > 0 || running.size > 0)) {
    if (isAllMade && sending.queue.length === 0) {
      await Promise.race(running)
      continue
    }
    await pace.enter(context.signal)
    if (context.signal.aborted) sending.error ??= new ConnectorError('unavailable', 'stopped while writing')
    const one = sending.error ? undefined : (sending.queue.shift() ?? next(sending, made))
    if (!one) {
      pace.gaveUp()
      isAllMade ||= sending.error === null
      continue
    }
    const request = attempt(sending, one).finally(() => running.delete(request))
    running.add(request)
  }
  await Promise.all(running) // whoever goes on must find nothing of ours in flight
  if (sending.error) throw sending.isGone ? await parts.lost(sending.error) : sending.error
  return { rejected: sending.rejected, refused: sending.refused }
}

/** undefined: there are no more, or they cannot be made; what is on its way is waited for first. */
function next(sending: Sending, made: Iterator<Operations, void>): Operations | undefined {
  try {
    return made.next().value ?? undefined
  } catch (error) {
    sending.error = asConnectorError(error)
    return undefined
  }
}

/** Never rejects. */
async function attempt(sending: Sending, operations: Operations): Promise<void> {
  const { context, pace, config } = sending
  const startMs = context.clock.monotonicMs()
  try {
    const answer = await request(sending, operations)
    const outcome =
      answer.status < 300 ? take(sending, operations, answer) : whole(sending, operations, answer)
    if (outcome === 'later') pace.pushedBack()
    else pace.answered(context.clock.monotonicMs() - startMs, isFull(operations, config))
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : asConnectorError(thrown)
    const isLost = error instanceof ConnectorError && error.kind === 'unavailable' && !context.signal.aborted
    if (isLost) again(sending, operations, error)
    else sending.error ??= error
    if (isLost) pace.pushedBack()
    else pace.gaveUp()
  }
  context.metrics.set('requests_window', Math.floor(pace.window()))
}

/** Only how long a large one takes says how the cluster fares. */
const isFull = ({ ends, bytes }: Operations, { bulk }: SearchConfig): boolean =>
  ends.length * 2 >= bulk.actions || bytes.length * 2 >= bulk.bytes

function request({ client, config, context, index }: Sending, { bytes }: Operations): Promise<SearchAnswer> {
  assertLease(context) // directly before it goes out; and it must not outlive the lease
  const leftMs = context.deadlineMs() - context.clock.monotonicMs()
  return client.request({
    method: 'POST',
    path: `/${encodeURIComponent(index)}/_bulk`,
    query: {
      filter_path: 'errors,items.*.status,items.*.error',
      ...(config.pipeline === undefined ? {} : { pipeline: config.pipeline }),
    },
    lines: bytes,
    timeoutMs: Math.max(1, Math.floor(Math.min(config.bulk.timeout_ms, leftMs))),
    signal: context.signal,
  })
}

interface BulkItem {
  readonly status: number
  readonly error?: unknown
}
interface BulkBody {
  readonly errors?: boolean
  readonly items?: readonly { readonly [operation: string]: BulkItem }[]
}

/** An answer with items: one for each operation, in their order. */
function take(sending: Sending, operations: Operations, { body }: SearchAnswer): Outcome {
  const { errors, items = [] } = (body ?? {}) as BulkBody
  if (items.length !== operations.ends.length) {
    // Cut short on its way: whatever was done is refused when it comes again.
    again(
      sending,
      operations,
      new ConnectorError(
        'unavailable',
        `${sending.client.target} answered ${items.length} items of a bulk of ${operations.ends.length}`,
      ),
    )
    return 'later'
  }
  if (errors === false) {
    done(sending)
    return 'done'
  }
  const later: number[] = []
  for (const [i, item] of items.entries())
    if (one(sending, operations.records[i]!, Object.values(item)[0]!) === 'later') later.push(i)
  if (later.length < operations.ends.length) done(sending)
  if (later.length === 0) return 'done'
  sending.context.metrics.add('retried', later.length)
  again(sending, pick(operations, later), sending.reason)
  return 'later'
}

function one(sending: Sending, record: LogRecord, { status, error }: BulkItem): Outcome {
  const told = error === undefined ? { type: '', reason: '' } : toldBy({ error })
  const outcome = itemOutcome(status, told)
  const { client, rejected, faults } = sending
  if (outcome === 'refused') sending.refused++
  else if (outcome === 'later') sending.reason = throttled(client, status, told)
  else if (outcome === 'stop') sending.error ??= callError(client, 'writing a document', status, { error })
  else if (outcome === 'gone') {
    sending.isGone = true
    sending.error ??= new ConnectorError(
      'unavailable',
      `${client.product} ${client.target}: an index was not there while it is written: ${told.reason}`,
    )
  } else if (outcome === 'bad') {
    const met = (faults.get(record) ?? 0) + 1
    faults.set(record, met)
    if (status >= 500 && met < CLUSTER_FAULTS) {
      sending.reason = throttled(client, status, told)
      return 'later'
    }
    rejected.push({ record, stage: client.product, error: badRecord(placeOf(record), status, told) })
  }
  return outcome
}

const placeOf = ({ topic, partition, offset, key }: LogRecord): string =>
  `${topic}/${partition} offset ${offset}, key ${key}`

const throttled = (
  { product, target }: SearchClient,
  status: number,
  { type, reason }: { type: string; reason: string },
) =>
  new ConnectorError(
    status === 429 ? 'throttled' : 'unavailable',
    `${product} ${target} pushes back: ${status} ${type}: ${reason}`,
  )

/** An answer to the whole request. */
function whole(sending: Sending, operations: Operations, { status, body }: SearchAnswer): Outcome {
  const told = toldBy(body)
  const outcome = requestOutcome(status, told)
  if (outcome === 'later')
    again(sending, operations, callError(sending.client, 'writing documents', status, body))
  else if (outcome === 'stop') sending.error ??= callError(sending.client, 'writing documents', status, body)
  else if (operations.ends.length > 1) sending.queue.unshift(...halves(operations))
  else {
    const record = operations.records[0]!
    const error = new ConnectorError(
      'data',
      `${placeOf(record)}: the document has ${sizeOf(operations, 0)} bytes, more than the cluster takes (http.max_content_length)`,
    )
    sending.rejected.push({ record, stage: sending.client.product, error })
  }
  return outcome
}

const done = (sending: Sending): void => {
  sending.doneMs = sending.context.clock.monotonicMs()
}

/** Back into the queue, unless nothing has got through for too long. */
function again(sending: Sending, operations: Operations, reason: ConnectorError | null): void {
  sending.reason = reason
  sending.queue.push(operations)
  if (sending.context.clock.monotonicMs() - sending.doneMs > PATIENCE_MS) sending.error ??= reason
}
