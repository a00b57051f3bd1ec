/**
 * What a pipeline's log on Kafka knows of itself, in a topic of its own (K1): `<prefix><pipeline>.offsets`, one partition, compacted.
 * Written by the source task alone, in the transaction of the batch (but for `log`, written once by who finds none, and `retention`). Every process that
 * opens the log follows it, and so hears of new topics and shapes.
 *
 *   key               value (JSON)
 *   log               {"format":1,"id":"…","hub":"millrace","partitions":3}      made with the log (V5)
 *   task:<task>       {"epoch":3,"offset":…,"last":1700000000000000}             the source's position and last number (V1)
 *   topic:<topic>     {}                                                         there before its first record
 *   schema:<n>        the table's shape                                          there before its first record
 *   ends              {"<topic>":[12,…]}                                         as its writer found them when it opened
 *   retention:<topic> {"retention.ms":{"own":"3600000",…}}                       what was declared, while it is raised (K5); by a hub
 *
 * Records name their shape by header, since the shape is not in their value.
 */

import type { Clock, Log } from '../../connector.ts'
import { ConnectorError } from '../../errors.ts'
import type { Admins } from '../../kafka/admins.ts'
import type { Kafka } from '../../kafka/client.ts'
import { type Fetched, openTail, type Tail } from '../../kafka/tail.ts'
import { endsOfTopics } from '../../kafka/topics.ts'
import type { Json, Table } from '../../record.ts'
import type { KafkaSettings } from './settings.ts'

export const CATALOG_FORMAT = 1

export interface LogEntry {
  readonly format: number
  readonly id: string
  readonly hub: string
  readonly partitions: number
}

export interface TaskEntry {
  readonly epoch: number
  readonly offset: Json
  readonly last: number
}

/** What a setting of a topic was before it was raised (K5). */
export interface Raised {
  /** The topic's own; null: it had none. */
  readonly own: string | null
  /** What held then. */
  readonly declared: number
  readonly raised: number
  /** When it was raised last, or set back. */
  readonly atMs?: number
}
export type RaisedSettings = { readonly [setting: string]: Raised }

export interface Catalog extends AsyncDisposable {
  readonly topic: string
  log(): LogEntry | null
  task(name: string): TaskEntry | null
  readonly topics: ReadonlySet<string>
  /** Shapes by number, as committed. */
  readonly shapes: ReadonlyMap<number, Table>
  ends(): { readonly [topic: string]: readonly number[] }
  readonly raised: ReadonlyMap<string, RaisedSettings>
  /** Resolves when all that stands in the topic now has been read. Throws `unavailable` when it cannot be. */
  refresh(): Promise<void>
  /** Counts what was read of topics and shapes; `changed` waits for more of it. */
  generation(): number
  changed(seen: number, signal: AbortSignal): Promise<void>
}

export interface CatalogOptions {
  readonly kafka: Kafka
  readonly admins: Admins
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly log: Log
  readonly topic: string
}

interface State extends CatalogOptions {
  readonly topics: Set<string>
  readonly shapes: Map<number, Table>
  readonly tasks: Map<string, TaskEntry>
  readonly raised: Map<string, RaisedSettings>
  readonly stop: AbortController
  /** Called at each step: read on, or failed. */
  readonly listeners: Set<() => void>
  entry: LogEntry | null
  ends: { readonly [topic: string]: readonly number[] }
  next: number
  generation: number
  failure: Error | null
}

const PAUSE_MS = 500
/** Longer than a broker that is restarted takes to answer. */
const PATIENCE_MS = 20_000

export function openCatalog(options: CatalogOptions): Catalog {
  const state: State = {
    ...options,
    topics: new Set(),
    shapes: new Map(),
    tasks: new Map(),
    raised: new Map(),
    stop: new AbortController(),
    listeners: new Set(),
    entry: null,
    ends: {},
    next: 0,
    generation: 0,
    failure: null,
  }
  const following = follow(state)
  return {
    topic: options.topic,
    log: () => state.entry,
    task: name => state.tasks.get(name) ?? null,
    topics: state.topics,
    shapes: state.shapes,
    ends: () => state.ends,
    raised: state.raised,
    refresh: () => refresh(state),
    generation: () => state.generation,
    changed: (seen, signal) => until(state, signal, () => state.generation > seen),
    async [Symbol.asyncDispose]() {
      state.stop.abort()
      await following
    },
  }
}

/** For as long as the log is open: a client that died is made anew. */
async function follow(state: State): Promise<void> {
  const { kafka, settings, clock, topic, stop, log } = state
  while (!stop.signal.aborted) {
    let tail: Tail | null = null
    try {
      tail = await openTail({ kafka, settings, clock, partition: 0, from: new Map([[topic, state.next]]) })
      for (;;) {
        const fetched = await tail.take(stop.signal)
        if (!fetched) break
        state.failure = null
        apply(state, fetched)
        tell(state)
      }
    } catch (error) {
      state.failure = error as Error
      log.debug({ topic }, `following ${topic}: ${(error as Error).message}`)
      tell(state)
      await clock.sleep(PAUSE_MS, stop.signal)
    } finally {
      await tail?.[Symbol.asyncDispose]()
    }
  }
}

const tell = ({ listeners }: State): void => {
  for (const listener of [...listeners]) listener()
}

function apply(state: State, { messages, next }: Fetched): void {
  for (const { key, value } of messages) if (key && value) note(state, key.toString(), value.toString())
  state.next = next
}

function note(state: State, key: string, text: string): void {
  const value = JSON.parse(text)
  const [kind, ...rest] = key.split(':')
  const name = rest.join(':')
  if (kind === 'log') state.entry = value as LogEntry
  else if (kind === 'task') state.tasks.set(name, value as TaskEntry)
  else if (kind === 'ends') state.ends = value
  else if (kind === 'retention') state.raised.set(name, value as RaisedSettings)
  else if (kind === 'topic') {
    state.topics.add(name)
    state.generation++
  } else if (kind === 'schema') {
    state.shapes.set(Number(name), value as Table)
    state.generation++
  }
}

async function refresh(state: State): Promise<void> {
  const { admins, topic, clock, stop } = state
  const [ends] = await endsOfTopics(admins, [topic])
  if (!ends) throw new ConnectorError('unavailable', `Kafka: there is no topic ${topic}`)
  const from = clock.monotonicMs()
  const isRead = () => state.next >= ends.end
  await until(state, stop.signal, () => isRead() || clock.monotonicMs() - from > PATIENCE_MS)
  if (isRead()) return
  throw (
    state.failure ??
    new ConnectorError('unavailable', `Kafka: ${topic} is read up to ${state.next} of ${ends.end} only`)
  )
}

/** Waits until `isTrue`; looks at every step and every half second. */
async function until(state: State, signal: AbortSignal, isTrue: () => boolean): Promise<void> {
  while (!isTrue() && !signal.aborted) {
    const woken = new AbortController()
    const wake = () => woken.abort('woken')
    state.listeners.add(wake)
    signal.addEventListener('abort', wake)
    try {
      await state.clock.sleep(PAUSE_MS, woken.signal)
    } finally {
      state.listeners.delete(wake)
      signal.removeEventListener('abort', wake)
    }
  }
}
