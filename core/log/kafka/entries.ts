/** A log of plain entries on Kafka: one topic, one partition, compacted by key; many appenders, each in transactions of its own (K2). */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../../connector.ts'
import type { Admins } from '../../kafka/admins.ts'
import { batchCodec, type Kafka } from '../../kafka/client.ts'
import { batchOf } from '../../kafka/record-batch.ts'
import type { KafkaCompression } from '../../kafka/settings.ts'
import { openTail } from '../../kafka/tail.ts'
import { endsOfTopics, makeTopics } from '../../kafka/topics.ts'
import { openTransactions, type Transactions } from '../../kafka/transactions.ts'
import type { Entry, EntryLog, PlacedEntry } from '../log.ts'
import type { KafkaSettings } from './settings.ts'

export interface KafkaEntriesOptions {
  readonly kafka: Kafka
  readonly admins: Admins
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly topic: string
  readonly compression: KafkaCompression
}

interface Waiting {
  readonly entries: readonly Entry[]
  readonly done: () => void
  readonly fail: (error: unknown) => void
}

interface State extends KafkaEntriesOptions {
  transactions: Promise<Transactions> | null
  waiting: Waiting[]
  /** Offset behind the last entry that was committed: readers may see it a moment later. */
  written: number
  flushing: Promise<void> | null
}

export function openKafkaEntries(options: KafkaEntriesOptions): EntryLog {
  const state: State = { ...options, transactions: null, waiting: [], written: 0, flushing: null }
  return {
    id: options.topic,
    append: entries =>
      new Promise((done, fail) => {
        state.waiting.push({ entries, done, fail })
        state.flushing ??= flush(state)
      }),
    entries: () => entriesOf(options, state.written),
    async [Symbol.asyncDispose]() {
      await state.flushing
      const transactions = await state.transactions?.catch(() => null)
      await transactions?.[Symbol.asyncDispose]()
    },
  }
}

/** Whatever has gathered goes in one transaction; what comes meanwhile in the next. */
async function flush(state: State): Promise<void> {
  const { settings, clock } = state
  try {
    while (state.waiting.length > 0) {
      if (settings.producer.lingerMs > 0) await clock.sleep(settings.producer.lingerMs)
      const group = state.waiting
      state.waiting = []
      try {
        await write(
          state,
          group.flatMap(one => one.entries),
        )
        for (const { done } of group) done()
      } catch (error) {
        for (const { fail } of group) fail(error)
      }
    }
  } finally {
    state.flushing = null
  }
}

async function write(state: State, entries: readonly Entry[]): Promise<void> {
  const { topic } = state
  state.transactions ??= openAppender(state)
  try {
    const transactions = await state.transactions
    let end = 0
    await transactions.run(async transaction => {
      for (const part of partsOf(entries)) {
        const [place] = await transaction.send([batchOf(topic, 0, batchCodec(state.compression), part)])
        end = place!.baseOffset + part.length
      }
    })
    state.written = end
  } catch (error) {
    // Of a producer whose last transaction has an unknown end nothing more can be asked.
    const failed = state.transactions
    state.transactions = null
    void failed.then(one => one[Symbol.asyncDispose]()).catch(() => {})
    throw error
  }
}

const PART_BYTES = 700_000
function partsOf(entries: readonly Entry[]): Entry[][] {
  const parts: Entry[][] = [[]]
  let bytes = 0
  for (const entry of entries) {
    const size = Buffer.byteLength(entry.key) + Buffer.byteLength(entry.value) + 100
    if (bytes + size > PART_BYTES && bytes > 0) {
      parts.push([])
      bytes = 0
    }
    bytes += size
    parts.at(-1)!.push(entry)
  }
  return parts
}

/** Under an id that nobody else has: appenders need not be fenced, since a letter that comes twice overwrites itself (P3). */
async function openAppender({ kafka, admins, settings, clock, topic }: State): Promise<Transactions> {
  await makeTopics(admins, settings, [{ topic, partitions: 1, config: { 'cleanup.policy': 'compact' } }])
  return openTransactions({
    kafka,
    settings,
    clock,
    transactionalId: `${settings.hub}.${topic}.${randomUUID()}`,
  })
}

async function* entriesOf(
  { kafka, admins, settings, clock, topic }: KafkaEntriesOptions,
  written: number,
): AsyncGenerator<PlacedEntry> {
  const [ends] = await endsOfTopics(admins, [topic], new Map([[`${topic}/0`, written]]))
  if (!ends || ends.end <= ends.start) return
  await using tail = await openTail({
    kafka,
    settings,
    clock,
    partition: 0,
    from: new Map([[topic, ends.start]]),
  })
  const never = new AbortController().signal
  for (let next = ends.start; next < ends.end; ) {
    const fetched = await tail.take(never)
    if (!fetched) return
    next = fetched.next
    for (const { key, value, timestamp, offset } of fetched.messages)
      if (key && value)
        yield {
          topic,
          partition: 0,
          key: key.toString(),
          value: value.toString(),
          timestampMs: Number(timestamp),
          offset: Number(offset),
        }
  }
}
