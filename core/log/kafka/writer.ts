/**
 * The one writer of a pipeline's log on Kafka (V1): a batch is a transaction that holds its records, the source's offset and the last
 * number given (K1), cut anywhere in a source transaction. What became of one whose answer was lost is found in the catalog when the
 * task is opened anew; it is never repeated (K1).
 *
 *   open    fence ─▶ read the catalog to its end ─▶ refuse a higher epoch ─▶ store ours, and the topics' ends
 *   write   make topics ─▶ number, encode ─▶ [task, new shapes, records of each partition in record batches] ─▶ commit
 */
import { assertLease, type Batch, type Context, type Rejected, type Writer } from '../../connector.ts'
import { ConnectorError } from '../../errors.ts'
import type { Admins } from '../../kafka/admins.ts'
import {
  type BatchBuilder,
  type BatchCodec,
  batchBuilder,
  batchOf,
  type Header,
  type PlainRecord,
  type RecordBatch,
} from '../../kafka/record-batch.ts'
import { endsOfTopics, largestBatches, makeTopics } from '../../kafka/topics.ts'
import type { OpenTransaction, Transactions } from '../../kafka/transactions.ts'
import type { ChangeRecord, Json } from '../../record.ts'
import { encodeValue } from '../../row.ts'
import { numbered, refuseFuture, refuseOlder, topicsOf } from '../numbering.ts'
import { type Schemas, schemaBook } from '../schemas.ts'
import type { Catalog, TaskEntry } from './catalog.ts'
import type { KafkaSettings } from './settings.ts'

export const VERSION_HEADER = 'millrace.version'
export const SCHEMA_HEADER = 'millrace.schema'

export interface KafkaWriterParts {
  readonly admins: Admins
  readonly settings: KafkaSettings
  readonly catalog: Catalog
  readonly name: string
  readonly partitions: number
  /** Of topics of changes, by Kafka's names. */
  readonly topicConfig: Readonly<Record<string, string>>
  readonly codec: BatchCodec
  /** Topic/partition → offset behind the last record that was committed. */
  readonly written: Map<string, number>
  /** Under the task's transactional.id: opening it fences who had it before. */
  open(context: Context): Promise<Transactions>
}

interface State extends KafkaWriterParts {
  readonly context: Context
  readonly transactions: Transactions
  readonly schemas: Schemas
  readonly topicOf: ReturnType<typeof topicsOf>
  /** Topics that the catalog holds. */
  readonly topics: Set<string>
  /** Topic/partition → the least offset that its next record can have. */
  readonly least: Map<string, number>
  /** Topic → the largest record batch that it takes. */
  readonly largest: Map<string, number>
  /** Topic/partition → its builder, whose buffer is used again. */
  readonly builders: Map<string, BatchBuilder>
  last: number
  offset: Json
}

export async function openKafkaWriter(
  parts: KafkaWriterParts,
  context: Context,
  floor: number,
): Promise<Writer<ChangeRecord>> {
  assertLease(context)
  const transactions = await parts.open(context)
  try {
    const state = await claim(parts, context, transactions, floor)
    return {
      write: batch => write(state, batch),
      position: async () => state.offset,
      [Symbol.asyncDispose]: () => transactions[Symbol.asyncDispose](),
    }
  } catch (error) {
    await transactions[Symbol.asyncDispose]()
    throw error
  }
}

async function claim(
  parts: KafkaWriterParts,
  context: Context,
  transactions: Transactions,
  floor: number,
): Promise<State> {
  const { catalog, settings, name } = parts
  const { task, epoch, clock } = context
  await catalog.refresh() // behind the fence: the owner before has ended, and all he wrote is there
  const stored = catalog.task(task)
  refuseOlder(task, epoch, stored?.epoch ?? 0)
  const last = Math.max(stored?.last ?? 0, floor)
  refuseFuture(task, last, clock.nowUs())
  const schemas = schemaBook()
  schemas.learn(Object.fromEntries(catalog.shapes))
  const state: State = {
    ...parts,
    context,
    transactions,
    schemas,
    topicOf: topicsOf(`${settings.topicPrefix}${name}`),
    topics: new Set(catalog.topics),
    least: new Map(),
    largest: new Map(),
    builders: new Map(),
    last,
    offset: stored?.offset ?? null,
  }
  const ends = await endsFound(state)
  const entry: TaskEntry = { epoch, offset: state.offset, last }
  await transactions.run(
    async transaction => {
      await transaction.send([entriesOf(state, [entryOf(`task:${task}`, entry), entryOf('ends', ends)])])
    },
    () => assertLease(context),
  )
  return state
}

type CatalogEntry = Omit<PlainRecord, 'timestampMs'>
const entryOf = (key: string, value: unknown): CatalogEntry => ({ key, value: JSON.stringify(value) })

function entriesOf({ catalog, codec, context }: State, entries: readonly CatalogEntry[]): RecordBatch {
  const timestampMs = Math.floor(context.clock.nowUs() / 1000)
  return batchOf(
    catalog.topic,
    0,
    codec,
    entries.map(entry => ({ ...entry, timestampMs })),
  )
}

/** A topic that is gone, was made again or has other partitions than it had is none that we could go on writing. */
async function endsFound(state: State): Promise<{ [topic: string]: number[] }> {
  const { admins, catalog, topics, least, partitions } = state
  const found: { [topic: string]: number[] } = {}
  for (const { topic, partition, end } of await endsOfTopics(admins, [...topics])) {
    found[topic] ??= []
    found[topic][partition] = end
    least.set(`${topic}/${partition}`, end)
  }
  for (const topic of topics) {
    const ends = found[topic]
    if (!ends) throw gone(`topic ${topic} is gone`)
    if (ends.length !== partitions)
      throw new ConnectorError(
        'config',
        `Kafka: topic ${topic} has ${ends.length} partitions, and its pipeline was made with ${partitions} (V7)`,
        { hint: 'Partitions of a topic never change. Make the pipeline anew: millrace delete NAME --yes.' },
      )
    for (const [partition, before] of (catalog.ends()[topic] ?? []).entries())
      if ((ends[partition] ?? 0) < before)
        throw gone(`${topic}/${partition} ends at ${ends[partition]}, and ended at ${before} before`)
  }
  return found
}

const gone = (what: string): ConnectorError =>
  new ConnectorError('offset_lost', `Kafka: ${what}: it was deleted, or made again`, {
    hint: 'What it held is not in the log any more. Make the pipeline anew: millrace delete NAME --yes.',
  })

async function write(state: State, batch: Batch<ChangeRecord>): Promise<readonly Rejected<ChangeRecord>[]> {
  const { context, transactions, least, written } = state
  await openTopics(state, batch.records)
  const { batches, last, tooLarge } = encoded(state, batch)
  if (tooLarge.length > 0) return tooLarge
  const entry: TaskEntry = { epoch: context.epoch, offset: batch.offset as Json, last }
  const entries = entriesOf(state, [
    ...[...state.schemas.unwritten].map(([id, table]) => entryOf(`schema:${id}`, table)),
    entryOf(`task:${context.task}`, entry),
  ])
  await transactions.run(
    transaction => send(state, transaction, [entries, ...batches]),
    () => assertLease(context),
  )
  state.last = last
  state.schemas.written()
  for (const [place, end] of least) written.set(place, end)
  return []
}

/** Where records came to stand is looked at before the commit: a topic that was made again begins anew. */
async function send(
  { least, catalog }: State,
  transaction: OpenTransaction,
  batches: readonly RecordBatch[],
): Promise<void> {
  const placed = await transaction.send(batches)
  for (const { topic, partition, baseOffset } of placed) {
    const place = `${topic}/${partition}`
    if (topic !== catalog.topic && baseOffset < (least.get(place) ?? 0))
      throw gone(`${place} goes on at ${baseOffset}, and had come to ${least.get(place)}`)
  }
  for (const { topic, partition, baseOffset, count } of placed) {
    const place = `${topic}/${partition}`
    if (topic !== catalog.topic) least.set(place, Math.max(least.get(place) ?? 0, baseOffset + count))
  }
}

const VERSION_NAME = Buffer.from(VERSION_HEADER)
const SCHEMA_NAME = Buffer.from(SCHEMA_HEADER)

/** Numbered, and cut into record batches: those of a partition in their order. */
function encoded(state: State, batch: Batch<ChangeRecord>) {
  const { context, partitions, settings, topicOf, schemas, largest, codec, builders } = state
  const batches: RecordBatch[] = []
  const tooLarge: Rejected<ChangeRecord>[] = []
  const begun = new Set<BatchBuilder>()
  const put = (record: ChangeRecord, partition: number, version: number, below: number) => {
    const topic = topicOf(record.table)
    const most = largest.get(topic)!
    const place = `${topic}/${partition}`
    let builder = builders.get(place)
    if (!builder) {
      builder = batchBuilder(topic, partition, codec)
      builders.set(place, builder)
    }
    begun.add(builder)
    const value = encodeValue(record, below)
    const headers: Header[] = [
      { name: VERSION_NAME, value: String(version) },
      { name: SCHEMA_NAME, value: String(schemas.idOf(record.table)) },
    ]
    const { key, commitMs } = record
    if (builder.count() > 0) {
      const limit = Math.min(most, settings.producer.batchSizeBytes)
      if (builder.append(key, value, commitMs, headers, limit) === 0) return
      batches.push(builder.finish())
    }
    const bytes = builder.append(key, value, commitMs, headers, most)
    if (bytes > 0) tooLarge.push({ record, stage: 'kafka', error: largeError(topic, record, bytes, most) })
  }
  const last = numbered(batch.records, state.last, context.clock.nowUs(), partitions, put)
  for (const builder of begun) if (builder.count() > 0) batches.push(builder.finish())
  return { batches, last, tooLarge }
}

/**
 * A topic is in the catalog before its first record: so one that is not there and holds something is somebody else's, or is left of
 * a pipeline of this name.
 */
async function openTopics(state: State, records: readonly ChangeRecord[]): Promise<void> {
  const { admins, settings, topics, largest, topicOf, partitions, topicConfig: config } = state
  const names = new Set(records.map(record => topicOf(record.table)))
  const fresh = [...names].filter(topic => !topics.has(topic))
  if (fresh.length > 0) {
    const wanted = fresh.map(topic => ({ topic, partitions, config }))
    await makeTopics(admins, settings, wanted)
    const entries = entriesOf(
      state,
      fresh.map(topic => entryOf(`topic:${topic}`, {})),
    )
    await state.transactions.run(
      async transaction => {
        await transaction.send([entries])
        await refuseForeign(state, fresh) // of a topic that a newer owner has begun to fill the abort tells
      },
      () => assertLease(state.context),
    )
    for (const topic of fresh) topics.add(topic)
  }
  const unasked = [...names].filter(topic => !largest.has(topic))
  for (const [topic, bytes] of await largestBatches(admins, unasked)) largest.set(topic, bytes)
}

async function refuseForeign({ admins, partitions }: State, fresh: readonly string[]): Promise<void> {
  const ends = await endsOfTopics(admins, fresh)
  for (const topic of fresh) {
    const own = ends.filter(one => one.topic === topic)
    if (own.length !== partitions || own.some(({ end }) => end > 0))
      throw new ConnectorError(
        'config',
        `Kafka: there is a topic ${topic} that is not this log's: ${own.length} partitions, ending at ${own.map(one => one.end).join(', ')}`,
        { hint: 'Delete the topic, or set another log.topic_prefix in hub.yaml.' },
      )
  }
}

const largeError = (topic: string, { key }: ChangeRecord, bytes: number, most: number): ConnectorError =>
  new ConnectorError(
    'data',
    `the record ${key} of ${bytes} bytes is larger than ${topic} takes (max.message.bytes ${most})`,
    { hint: 'Raise max.message.bytes, or leave the large column out with source.columns.' },
  )
