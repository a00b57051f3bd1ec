/**
 * The writer of a log whose rows people bring (`WrittenTopic`). Requests that come while a batch is written make the next one, and each is
 * answered when its rows are durable. Every hub has one of these for a pipeline, and under no lease: whoever opens the log's one writer
 * fences the one before (V1, P2), which opens anew above it. So two hubs that are both written to take turns.
 *
 *   request ─▶ waiting ─▶ batch ─▶ write ─▶ answered
 *                           ▲        │ Fenced, or an outcome nobody knows
 *                           └────────┴─ opened anew: the log's position says whether the batch stands there, and whose keys do
 *
 *   position   {"batches":["<id>", …],"keys":["<key>", …]}      of the last 32 batches and the last 1,000 requests with a key, of any hub
 */
import { createHash, randomUUID } from 'node:crypto'
import type { Clock, Context, Log, Offset, Rejected, Writer } from '../connector.ts'
import { asConnectorError, ConnectorError, Fenced } from '../errors.ts'
import { writerTask } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { ChangeRecord } from '../record.ts'
import { type Numbers, numbers } from '../worker/metrics.ts'
import type { Task } from '../worker/task.ts'
import type { PipelineLogs } from './logs.ts'
import { openWriter } from './tasks.ts'

export interface ProducerParts {
  readonly definition: ParsedPipeline
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  /** Asked for at the first request, and again after a failure. Whoever made it closes it. */
  logs(): Promise<PipelineLogs>
  /** They failed: the next ones may be others. */
  failed(): Promise<void>
}

export interface Producer extends AsyncDisposable {
  /** As status shows the source of a pipeline. */
  readonly task: Task
  /**
   * Resolves when all records are durable. One that a transform or the log refuses refuses them all (`BadRecord`). `key`: the same again
   * is written once, as long as the log remembers it.
   */
  write(records: readonly ChangeRecord[], bytes: number, key: string | null): Promise<void>
}

/** Of the records of a request the one at `index`, from 0. */
export class BadRecord extends ConnectorError {
  readonly index: number
  constructor(index: number, { message, hint }: Pick<ConnectorError, 'message' | 'hint'>) {
    super('data', message, hint === undefined ? {} : { hint })
    this.index = index
  }
}

interface Position {
  readonly batches: readonly string[]
  readonly keys: readonly string[]
}

interface Request {
  readonly records: readonly ChangeRecord[]
  readonly bytes: number
  readonly key: string | null
  resolve(): void
  reject(error: ConnectorError): void
}

interface Opened {
  readonly writer: Writer<ChangeRecord>
  position: Position
}

interface State extends ProducerParts {
  readonly metrics: Numbers
  readonly stop: AbortController
  waiting: Request[]
  waitingBytes: number
  working: Promise<void> | null
  opened: Opened | null
  /** The highest that was seen of this log's writers. */
  epoch: number
  error: ConnectorError | null
}

const KEYS_KEPT = 1_000
const BATCHES_KEPT = 32
const BATCH_BYTES = 4 << 20
const BATCH_REQUESTS = 500
const WAITING_BYTES = 64 << 20
/** Of what is away for a moment, as a connection that was idle for too long. */
const ATTEMPTS = 3
/** Turns lost to other hubs in a row before a request is given up. */
const TURNS = 100
const TURN_MS = 50
const ANSWER_MS = 30_000

const AGAIN = 'Say it again: with the same Idempotency-Key it is written once.'

export function openProducer(parts: ProducerParts): Producer {
  const state: State = {
    ...parts,
    metrics: numbers(),
    stop: new AbortController(),
    waiting: [],
    waitingBytes: 0,
    working: null,
    opened: null,
    epoch: 0,
    error: null,
  }
  return {
    task: taskOf(state),
    write: (records, bytes, key) => queued(state, records, bytes, key),
    async [Symbol.asyncDispose]() {
      state.stop.abort()
      for (const request of takeAll(state)) request.reject(stopped())
      await state.working
      await close(state)
    },
  }
}

/** Failing: the last rows that came could not be written. */
const taskOf = (state: State): Task => ({
  name: writerTask(state.definition),
  metrics: state.metrics,
  state: () => (state.stop.signal.aborted ? 'stopped' : state.error ? 'failing' : 'running'),
  error: () => state.error,
  done: Promise.resolve(),
})

const stopped = (): ConnectorError => new ConnectorError('unavailable', 'the hub stops', { hint: AGAIN })

function queued(
  state: State,
  records: readonly ChangeRecord[],
  bytes: number,
  key: string | null,
): Promise<void> {
  if (state.stop.signal.aborted) return Promise.reject(stopped())
  if (state.waitingBytes > WAITING_BYTES)
    return Promise.reject(
      new ConnectorError('throttled', `${state.waitingBytes} bytes of rows wait to be written already`, {
        hint: AGAIN,
      }),
    )
  return answeredInTime(
    state,
    new Promise((resolve, reject) => {
      const hashed = key === null ? null : hashOf(records[0]?.table, key)
      state.waiting.push({ records, bytes, key: hashed, resolve, reject })
      state.waitingBytes += bytes
      state.working ??= work(state)
    }),
  )
}

/** Whoever asks is not kept waiting for a log that is away; the rows may yet be written. */
async function answeredInTime({ clock, log, definition }: State, answered: Promise<void>): Promise<void> {
  const over = new AbortController()
  const late = clock.sleep(ANSWER_MS, over.signal).then(() => {
    if (over.signal.aborted) return
    log.warn({ pipeline: definition.name }, `rows have waited for the log for ${ANSWER_MS / 1000} s`)
    throw new ConnectorError('unavailable', `the log has not answered for ${ANSWER_MS / 1000} s`, {
      hint: AGAIN,
    })
  })
  try {
    await Promise.race([answered, late])
  } finally {
    over.abort()
    late.catch(() => {})
    answered.catch(() => {}) // nobody asks any more
  }
}

/** Of one topic, and short: a thousand of them stand beside each batch. */
const hashOf = (table: ChangeRecord['table'] | undefined, key: string): string =>
  createHash('sha256')
    .update(JSON.stringify([table?.schema, table?.name, key]))
    .digest('base64url')
    .slice(0, 16)

function takeAll(state: State): readonly Request[] {
  const all = state.waiting
  state.waiting = []
  state.waitingBytes = 0
  return all
}

/** What is written at once. Of two requests with one key the second is looked at when the first one's outcome is known. */
function nextBatch(state: State): readonly Request[] {
  const batch: Request[] = []
  const keys = new Set<string>()
  let bytes = 0
  for (const request of state.waiting) {
    if (batch.length > 0 && (bytes + request.bytes > BATCH_BYTES || batch.length >= BATCH_REQUESTS)) break
    if (request.key !== null && keys.has(request.key)) break
    if (request.key !== null) keys.add(request.key)
    batch.push(request)
    bytes += request.bytes
  }
  state.waiting = state.waiting.slice(batch.length)
  state.waitingBytes -= bytes
  return batch
}

async function work(state: State): Promise<void> {
  await null // whoever asks in the same turn is of the first batch
  while (state.waiting.length > 0) {
    const batch = nextBatch(state)
    try {
      await written(state, batch)
      state.error = null
    } catch (thrown) {
      const error = asConnectorError(thrown)
      state.error = error
      state.metrics.add('failures', 1)
      state.log.warn(
        { pipeline: state.definition.name, kind: error.kind },
        `rows could not be written: ${error.message}`,
      )
      for (const request of batch) request.reject(error) // of those that were answered nothing is left to say
    }
  }
  state.working = null
}

async function written(state: State, batch: readonly Request[]): Promise<void> {
  const id = randomUUID()
  let left = batch
  let before: Position | null = null
  let failure: ConnectorError | null = null
  for (let turn = 0; ; turn++) {
    const opened = await reopened(state, failure)
    if (before) {
      if (opened.position.batches.includes(id)) return answer(left)
      if (!remembers(opened.position, before)) throw forgotten()
      // It does not stand there, and behind the fence it never will.
      if (failure && (failure.kind !== 'unavailable' || turn >= ATTEMPTS)) throw failure
    }
    failure = null
    left = withoutKnown(left, opened.position)
    if (left.length === 0) return
    before = opened.position
    try {
      left = await writeOnce(state, opened, id, left)
      if (left.length === 0) return
    } catch (thrown) {
      await close(state)
      if (!(thrown instanceof Fenced)) {
        failure = withHint(asConnectorError(thrown))
        await state.failed()
      } else if (turn >= TURNS)
        throw new ConnectorError('unavailable', `other hubs write ${turn} times before this one`)
      else {
        state.epoch = Math.max(state.epoch, thrown.epoch)
        await state.clock.sleep(state.random() * TURN_MS, state.stop.signal)
      }
    }
  }
}

/** Answers those whose rows are durable, and those whose rows are refused; the others are left, and nothing of them was written. */
async function writeOnce(
  state: State,
  opened: Opened,
  id: string,
  requests: readonly Request[],
): Promise<readonly Request[]> {
  const { clock, metrics } = state
  const { batches, keys } = opened.position
  const own = requests.flatMap(({ key }) => key ?? [])
  const position: Position = {
    batches: [...batches, id].slice(-BATCHES_KEPT),
    keys: [...keys, ...own].slice(-KEYS_KEPT),
  }
  const records = requests.flatMap(one => one.records)
  const from = clock.monotonicMs()
  const rejected = await opened.writer.write({ records, offset: position as unknown as Offset })
  if (rejected.length > 0) return refuse(requests, rejected)
  opened.position = position
  metrics.add('records', records.length)
  metrics.add('batches', 1)
  metrics.observe('write', (clock.monotonicMs() - from) / 1_000, 1)
  metrics.set('last_commit_ms', records.at(-1)?.commitMs ?? 0)
  metrics.set('moved_ms', clock.nowUs() / 1_000)
  answer(requests)
  return []
}

const answer = (requests: readonly Request[]): void => {
  for (const request of requests) request.resolve()
}

function refuse(
  requests: readonly Request[],
  rejected: readonly Rejected<ChangeRecord>[],
): readonly Request[] {
  const errors = new Map(rejected.map(({ record, error }) => [record, error]))
  return requests.filter(request => {
    const index = request.records.findIndex(record => errors.has(record))
    if (index >= 0) request.reject(new BadRecord(index, errors.get(request.records[index]!)!))
    return index < 0
  })
}

function withoutKnown(requests: readonly Request[], { keys }: Position): readonly Request[] {
  if (requests.every(({ key }) => key === null)) return requests
  const known = new Set(keys)
  const isKnown = ({ key }: Request) => key !== null && known.has(key)
  answer(requests.filter(isKnown))
  return requests.filter(request => !isKnown(request))
}

/** Since `before` so few batches were written that ours would stand there. */
const remembers = ({ batches }: Position, before: Position): boolean =>
  batches.length < BATCHES_KEPT || batches.includes(before.batches.at(-1)!)

const forgotten = (): ConnectorError =>
  new ConnectorError(
    'unavailable',
    'other hubs wrote so much meanwhile that nobody knows whether the rows stand',
    {
      hint: AGAIN,
    },
  )

const withHint = (error: ConnectorError): ConnectorError =>
  error.hint ? error : new ConnectorError(error.kind, error.message, { cause: error, hint: AGAIN })

/** `failure`: why it was closed; when it cannot be opened that is what is told. */
async function reopened(state: State, failure: ConnectorError | null): Promise<Opened> {
  if (state.opened) return state.opened
  for (let turn = 0; ; turn++) {
    if (state.stop.signal.aborted) throw failure ?? stopped()
    try {
      state.opened = await open(state)
      return state.opened
    } catch (thrown) {
      if (!(thrown instanceof Fenced) || turn >= TURNS) {
        await state.failed()
        throw failure ?? withHint(asConnectorError(thrown))
      }
      state.epoch = Math.max(state.epoch, thrown.epoch)
      // The first time it only learns how high the others are.
      if (turn > 0) await state.clock.sleep(state.random() * TURN_MS, state.stop.signal)
    }
  }
}

async function open(state: State): Promise<Opened> {
  const { definition, clock, log, metrics, stop } = state
  const epoch = ++state.epoch
  const context: Context = {
    pipeline: definition.name,
    task: writerTask(definition),
    epoch,
    deadlineMs: () => Number.POSITIVE_INFINITY, // there is no lease to run out: the log itself refuses who is fenced
    signal: stop.signal,
    log,
    clock,
    metrics,
  }
  const writer = await openWriter({ definition, logs: await state.logs() }, context)
  try {
    const found = (await writer.position!()) as unknown as Position | null
    return { writer, position: { batches: found?.batches ?? [], keys: found?.keys ?? [] } }
  } catch (error) {
    await writer[Symbol.asyncDispose]()
    throw error
  }
}

async function close(state: State): Promise<void> {
  const { opened, log, definition } = state
  state.opened = null
  try {
    await opened?.writer[Symbol.asyncDispose]()
  } catch (error) {
    log.warn({ pipeline: definition.name }, `closing the writer: ${asConnectorError(error).message}`)
  }
}
