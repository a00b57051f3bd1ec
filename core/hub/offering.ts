/**
 * What a hub says to the queue: these tasks there are to be, again and again. A pipeline that somebody deletes is withdrawn by a mark: the
 * hub that deletes it leaves one, and each hub that was given the file before lets go of it. Whoever is given the file after that knows the
 * mark, and offers the pipeline as a new one.
 */
import type { Clock } from '../connector.ts'
import { asConnectorError, ConnectorError } from '../errors.ts'
import type { TopicEnds } from '../log/log.ts'
import { tasksOf } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { Offer, TaskQueue } from '../queue/queue.ts'
import type { Json } from '../record.ts'
import type { PipelineLogs } from './logs.ts'
import type { HubParts } from './pipeline.ts'
import type { Producer } from './producer.ts'
import { forgetPipeline } from './remove.ts'
import type { Trying } from './trying.ts'

export interface Known {
  readonly definition: ParsedPipeline
  /** Until it is checked. */
  trying: Trying | null
  /** Its tasks are offered. */
  isChecked: boolean
  error: ConnectorError | null
  logs: Promise<PipelineLogs> | null
  /** Of topics that people write; null: not checked yet, or a source is read. */
  producer: Producer | null
  /** What the log of such topics held when it was first looked at: the sinks must pass it. */
  target: readonly TopicEnds[] | null
  deadLetters: number
  countedMs: number
  /** What stood in the queue when the file was given; null: nothing. Unknown until the first look. */
  mark: string | null | undefined
}

export interface RemoteParts extends HubParts {
  readonly queue: TaskQueue
  /** What a worker needs to know of a pipeline: its file, as it stands. */
  dataOf(definition: ParsedPipeline): Json
}

export interface Offering extends RemoteParts {
  readonly known: Map<string, Known>
  /** No longer of this hub: another one may have been given it anew, and its tasks are left alone. */
  readonly gone: Map<string, ParsedPipeline>
  readonly stop: AbortController
  /** An empty list of pipelines means something only when there was one. */
  hasStarted: boolean
}

const OFFER_MS = 1_000
const WITHDRAW_MS = 30_000
const LOOK_MS = 250
/** A hub that looked just before the mark was left offers once more, and takes that back with its next look. */
const QUIET_MS = 2.5 * OFFER_MS

export async function closeLogs(opening: Promise<PipelineLogs> | null): Promise<void> {
  await (await opening?.catch(() => null))?.[Symbol.asyncDispose]()
}

/** What a queue that lost everything lacks comes back with the next look. */
export async function offerAgain(state: Offering): Promise<void> {
  const { clock, log, stop } = state
  while (!stop.signal.aborted) {
    try {
      if (state.hasStarted) await offerOnce(state)
    } catch (error) {
      log.warn({}, `the tasks could not be offered: ${asConnectorError(error).message}`)
    }
    await clock.sleep(OFFER_MS, stop.signal)
  }
}

/** Pipelines that are not checked yet may run already: they are left alone. */
async function offerOnce(state: Offering): Promise<void> {
  const { queue, known, gone } = state
  const left = new Set(gone.keys()) // without those of this look: what they have now may be of ours
  await heedMarks(state)
  const all = [...known.values()]
  const waiting = new Set(all.filter(one => !one.isChecked).map(one => one.definition.name))
  const offers = all.filter(one => one.isChecked).flatMap(one => offersOf(state, one))
  await queue.offer(offers, task => {
    const pipeline = task.slice(0, task.indexOf('/'))
    return waiting.has(pipeline) || (left.has(pipeline) && !known.has(pipeline))
  })
}

function offersOf(state: Offering, { definition }: Known): readonly Offer[] {
  const data = state.dataOf(definition)
  const { source, sinks } = tasksOf(definition)
  return [
    ...(source === null ? [] : [{ task: source, kind: 'source', data } as const]),
    ...sinks.map((sink): Offer => ({ task: sink.name, kind: 'sink', data })),
  ]
}

async function heedMarks(state: Offering): Promise<void> {
  const { queue, known, log, directory } = state
  const marks = await queue.withdrawn()
  for (const one of [...known.values()]) {
    const { name } = one.definition
    const mark = marks.get(name) ?? null
    if (one.mark === undefined) one.mark = mark // somebody deleted it before this hub was given the file
    if (mark === null || mark === one.mark) continue
    await letGo(state, one)
    forgetPipeline(directory, name)
    log.info(
      { pipeline: name },
      `${name} was deleted at another hub: its tasks are offered no more until a hub is started with its file`,
    )
  }
}

async function letGo({ known, gone }: Offering, one: Known): Promise<void> {
  const { definition, trying, logs } = one
  known.delete(definition.name)
  gone.set(definition.name, definition)
  await trying?.end()
  await one.producer?.[Symbol.asyncDispose]() // only now: while it was tried there may have been none
  await closeLogs(logs)
}

/** Ends what this hub does for a pipeline, and then its tasks, wherever they run. */
export async function withdraw(state: Offering, definition: ParsedPipeline): Promise<void> {
  const known = state.known.get(definition.name)
  if (known) await letGo(state, known)
  await withdrawTasks(state, definition.name)
}

/** They end first: one that went on would make again what is taken away. */
export async function withdrawTasks(
  { queue, clock, random }: { queue: TaskQueue; clock: Clock; random: () => number },
  pipeline: string,
): Promise<void> {
  const mark = `${clock.nowUs()}-${random()}`
  const until = clock.monotonicMs() + WITHDRAW_MS
  for (let quietFrom = Number.POSITIVE_INFINITY; ; await clock.sleep(LOOK_MS)) {
    await queue.withdraw(pipeline, mark) // each time: a queue that was wiped has lost the mark
    const left = (await queue.list()).filter(one => one.task.startsWith(`${pipeline}/`))
    const now = clock.monotonicMs()
    quietFrom = left.length > 0 ? Number.POSITIVE_INFINITY : Math.min(quietFrom, now)
    if (now - quietFrom >= QUIET_MS) return
    if (now > until)
      throw new ConnectorError('unavailable', `${left.map(one => one.task).join(', ')} did not end`, {
        hint: 'Say it again; a worker that is away loses its tasks within seconds.',
      })
  }
}
