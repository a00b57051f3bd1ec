/**
 * Reads one partition over all topics of a pipeline, from a position on, behind the writer for ever (K4). Topics that come later are
 * taken up when the catalog names them: the tail is made anew at the offsets it had come to.
 *
 * Offsets have gaps, since the transactions' markers stand among the records: what follows what is the cluster's to keep. That
 * nothing was jumped over is seen by where the fetches begin (tail.ts).
 */

import type { Batch, Clock, Reader } from '../../connector.ts'
import { ConnectorError } from '../../errors.ts'
import type { Kafka, KafkaMessage } from '../../kafka/client.ts'
import { type Fetched, openTail, type Tail } from '../../kafka/tail.ts'
import type { Json, LogRecord } from '../../record.ts'
import type { LogOffset, LogReaderOptions, TopicEnds } from '../log.ts'
import { lostPosition } from '../log.ts'
import { resumeFrom } from '../position.ts'
import { decodeValue } from '../value.ts'
import type { Catalog } from './catalog.ts'
import type { KafkaSettings } from './settings.ts'
import { SCHEMA_HEADER, VERSION_HEADER } from './writer.ts'

export interface KafkaReaderParts {
  readonly kafka: Kafka
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly catalog: Catalog
  readonly id: string
  ends(): Promise<readonly TopicEnds[]>
}

interface State extends KafkaReaderParts {
  readonly options: LogReaderOptions
  /** Next offset by topic: of what was handed out. */
  readonly next: Map<string, number>
  /** Ends to stop at; null: follows for ever. */
  readonly target: ReadonlyMap<string, number> | null
  tail: Tail | null
  /** Times in a row that the cluster's ends did not fit what was read. */
  misfits: number
  /** Fetched and not handed out wholly. */
  rest: { fetched: Fetched; at: number } | null
}

const MAX_RECORDS = 5_000
const MAX_BYTES = 4 << 20
/** Several tables come one after another when a pipeline begins. */
const SETTLE_MS = 100
/** After so long without records the cluster is asked whether it still holds what was read. */
const IDLE_MS = 5_000
const MISFITS = 3
/** Far longer than the markers of a transaction are apart. */
const SHAPE_MS = 20_000
const SHAPE_PAUSE_MS = 20

export async function openKafkaReader(parts: KafkaReaderParts, options: LogReaderOptions): Promise<Reader> {
  const { catalog, id } = parts
  const { partition, from, untilEnd } = options
  await catalog.refresh()
  const ends = await endsThere(parts)
  const next = resumeFrom(id, ends, partition, from)
  const target = new Map(ends.filter(one => one.partition === partition).map(one => [one.topic, one.end]))
  const state: State = {
    ...parts,
    options,
    next,
    target: untilEnd ? target : null,
    tail: null,
    misfits: 0,
    rest: null,
  }
  return {
    [Symbol.asyncIterator]: () => batches(state),
    [Symbol.asyncDispose]: () => closeTail(state),
  }
}

/** Throws `offset_lost` for a topic that is gone. One that the catalog names only while we ask is not asked for, and not gone. */
async function endsThere({ catalog, ends: ask }: KafkaReaderParts): Promise<readonly TopicEnds[]> {
  const known = [...catalog.topics]
  const ends = await ask()
  const there = new Set(ends.map(one => one.topic))
  for (const topic of known) if (!there.has(topic)) throw lostPosition(`topic ${topic} was deleted`)
  return ends
}

async function closeTail(state: State): Promise<void> {
  const { tail } = state
  state.tail = null
  await tail?.[Symbol.asyncDispose]()
}

const isLevel = ({ target, next }: State): boolean =>
  target !== null && [...target].every(([topic, end]) => (next.get(topic) ?? 0) >= end)

async function* batches(state: State): AsyncGenerator<Batch> {
  const { options, catalog, settings } = state
  const { signal } = options
  const maxRecords = Math.min(options.maxRecords ?? MAX_RECORDS, settings.consumer.maxPollRecords)
  const maxBytes = options.maxBytes ?? MAX_BYTES
  while (!signal.aborted && !isLevel(state)) {
    const seen = catalog.generation()
    await followAll(state)
    if (!state.tail) {
      await catalog.changed(seen, signal)
      continue
    }
    const watch = new AbortController()
    const stop = () => watch.abort('stop')
    signal.addEventListener('abort', stop)
    if (signal.aborted) stop() // while the tail was being made
    // A new topic wakes a reader that waits; one that is busy sees it in its time.
    void catalog.changed(seen, watch.signal).then(stop)
    void state.clock.sleep(IDLE_MS, watch.signal).then(stop)
    let isIdle = true
    try {
      for (;;) {
        const batch = await collect(state, watch.signal, maxRecords, maxBytes)
        if (!batch) break
        isIdle = false
        yield batch
        if (isLevel(state) || catalog.generation() !== seen) break
      }
    } finally {
      stop()
      signal.removeEventListener('abort', stop)
    }
    if (isIdle && !signal.aborted && !isLevel(state)) await refuseMisfit(state)
  }
}

/**
 * A topic that was cut or made again while it was followed: the client finds its offset out of range, begins elsewhere without a word,
 * and waits for records that may never come. A leader that has only just become one may name ends that are behind: so not at once.
 */
async function refuseMisfit(state: State): Promise<void> {
  const { options } = state
  try {
    const ends = await endsThere(state)
    resumeFrom(state.id, ends, options.partition, positionOf(state) as unknown as Json)
    state.misfits = 0
  } catch (error) {
    if (!(error instanceof ConnectorError) || error.kind !== 'offset_lost') throw error
    if (++state.misfits >= MISFITS) throw error
  }
}

const positionOf = ({ id, next }: State): LogOffset => ({ log: id, next: Object.fromEntries(next) })

/** A tail over every topic there is. */
async function followAll(state: State): Promise<void> {
  const { kafka, settings, clock, catalog, next, options } = state
  const isNew = [...catalog.topics].some(topic => !next.has(topic))
  if (state.tail && !isNew) return
  if (isNew && state.tail) await clock.sleep(SETTLE_MS, options.signal)
  for (const topic of catalog.topics) if (!next.has(topic)) next.set(topic, 0)
  if (next.size === 0 || options.signal.aborted) return
  await closeTail(state)
  // What was fetched and not handed out is fetched again.
  state.rest = null
  state.tail = await openTail({ kafka, settings, clock, from: next, partition: options.partition })
}

/** Waits for a first record, then takes what is there. null: the signal aborted, or the target is reached. */
async function collect(
  state: State,
  signal: AbortSignal,
  maxRecords: number,
  maxBytes: number,
): Promise<Batch | null> {
  const records: LogRecord[] = []
  let bytes = 0
  let moved = false
  const isFull = () => records.length >= maxRecords || bytes >= maxBytes
  while (!isFull() && !signal.aborted && !isLevel(state)) {
    if (!state.rest && moved && !state.tail!.isReady()) break
    state.rest ??= await nextFetched(state, signal)
    if (!state.rest) break
    const { fetched, at } = state.rest
    moved = true
    let i = at
    for (; i < fetched.messages.length && !isFull(); i++) {
      const message = fetched.messages[i]!
      bytes += (message.key?.length ?? 0) + (message.value?.length ?? 0)
      const shape = schemaOf(message.headers)
      if (!state.catalog.shapes.has(shape) && !(await learnShape(state, shape))) break
      records.push(recordOf(state, fetched.topic, message))
    }
    const isWhole = i === fetched.messages.length
    state.next.set(fetched.topic, isWhole ? fetched.next : Number(fetched.messages[i]!.offset))
    state.rest = isWhole ? null : { fetched, at: i }
  }
  if (!moved) return null
  return { records, offset: positionOf(state) as unknown as Json }
}

/**
 * A shape is committed with its first record, or before. With it: each partition has a marker of the transaction of its own, and that of
 * the records may be written before that of the shapes. False: it was to stop. One that never comes is told by whoever needs it.
 */
async function learnShape({ catalog, clock, options: { signal } }: State, shape: number): Promise<boolean> {
  const until = clock.monotonicMs() + SHAPE_MS
  while (!signal.aborted) {
    await catalog.refresh()
    if (catalog.shapes.has(shape) || clock.monotonicMs() > until) return true
    await clock.sleep(SHAPE_PAUSE_MS, signal)
  }
  return false
}

async function nextFetched({ tail }: State, signal: AbortSignal): Promise<State['rest']> {
  const fetched = await tail!.take(signal)
  return fetched && { fetched, at: 0 }
}

function recordOf(
  { catalog, options }: State,
  topic: string,
  { key, value, offset, timestamp, headers }: KafkaMessage,
): LogRecord {
  const { partition } = options
  const version = Number(headers?.[VERSION_HEADER])
  const table = catalog.shapes.get(schemaOf(headers))
  if (!key || !value || !Number.isSafeInteger(version))
    throw foreign(topic, partition, offset, 'it has no key, value or version')
  if (!table) throw foreign(topic, partition, offset, `nobody knows its schema ${schemaOf(headers)}`)
  const place = { topic, partition, offset: Number(offset), version, timestampMs: Number(timestamp) }
  try {
    return decodeValue(key.toString(), value.toString(), table, place)
  } catch (error) {
    throw foreign(topic, partition, offset, (error as Error).message)
  }
}

const schemaOf = (headers: KafkaMessage['headers']): number => Number(headers?.[SCHEMA_HEADER])

const foreign = (topic: string, partition: number, offset: string, why: string): ConnectorError =>
  new ConnectorError(
    'config',
    `Kafka: ${topic}/${partition} offset ${offset} was not written by Millrace: ${why}`,
    {
      hint: 'Nobody else may write to the topics of a pipeline. Make it anew: millrace delete NAME --yes.',
    },
  )
