/**
 * The one writer of a pipeline's log on Kafka (V1): a batch is a transaction that holds its records, the source's offset and the last
 * number given (K1), cut anywhere in a source transaction. What became of one whose answer was lost is found in the catalog when the
 * task is opened anew; it is never repeated (K1).
 *
 *   open    fence ─▶ read the catalog to its end ─▶ refuse a higher epoch ─▶ store ours, and the topics' ends
 *   write   make topics ─▶ number ─▶ [records in rounds of a record batch a partition] ─▶ [task and new shapes] ─▶ commit
 */
import type { Message } from 'kafkajs'
import { assertLease, type Batch, type Context, type Rejected, type Writer } from '../../connector.ts'
import { ConnectorError } from '../../errors.ts'
import type { ChangeRecord, Json } from '../../record.ts'
import { numbered, refuseFuture, refuseOlder, topicsOf } from '../numbering.ts'
import { type Schemas, schemaBook } from '../schemas.ts'
import { encodeValue } from '../value.ts'
import type { Admins } from './admins.ts'
import type { Catalog, TaskEntry } from './catalog.ts'
import type { KafkaSettings } from './settings.ts'
import { endsOfTopics, largestBatches, makeTopics } from './topics.ts'
import type { OpenTransaction, RecordBatch, Transactions } from './transactions.ts'

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
  last: number
  offset: Json
}

/** Around each record in a batch: lengths, deltas, header names. */
const RECORD_OVERHEAD = 80
const BATCH_OVERHEAD = 200

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
    last,
    offset: stored?.offset ?? null,
  }
  const ends = await endsFound(state)
  const entry: TaskEntry = { epoch, offset: state.offset, last }
  await transactions.run(
    async transaction => {
      await transaction.send([
        { topic: catalog.topic, messages: [entryOf(`task:${task}`, entry), entryOf('ends', ends)] },
      ])
    },
    () => assertLease(context),
  )
  return state
}

const entryOf = (key: string, value: unknown): Message => ({
  key,
  value: JSON.stringify(value),
  partition: 0,
})

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

/** Of one topic-partition, cut into record batches. */
interface Lane {
  readonly topic: string
  readonly rounds: Message[][]
  bytes: number
}

async function write(state: State, batch: Batch<ChangeRecord>): Promise<readonly Rejected<ChangeRecord>[]> {
  const { context, transactions, catalog, least, written } = state
  await openTopics(state, batch.records)
  const { lanes, last, tooLarge } = lanesOf(state, batch)
  if (tooLarge.length > 0) return tooLarge
  const entry: TaskEntry = { epoch: context.epoch, offset: batch.offset as Json, last }
  const entries = [
    ...[...state.schemas.unwritten].map(([id, table]) => entryOf(`schema:${id}`, table)),
    entryOf(`task:${context.task}`, entry),
  ]
  await transactions.run(
    async transaction => {
      // First what is in every transaction: while the one before is being ended, one request finds out.
      await send(state, transaction, [{ topic: catalog.topic, messages: entries }])
      for (const round of roundsOf(lanes)) await send(state, transaction, round)
    },
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
  const counts = new Map(
    batches.map(({ topic, messages }) => [`${topic}/${messages[0]!.partition}`, messages.length]),
  )
  for (const { topicName, partition, baseOffset } of await transaction.send(batches)) {
    if (topicName === catalog.topic || baseOffset === undefined) continue
    const place = `${topicName}/${partition}`
    const at = Number(baseOffset)
    if (at < (least.get(place) ?? 0))
      throw gone(`${place} goes on at ${at}, and had come to ${least.get(place)}`)
    least.set(place, at + (counts.get(place) ?? 0))
  }
}

/** The first record batch of each lane, then the second of each… those of a round go at the same time. */
function roundsOf(lanes: readonly Lane[]): RecordBatch[][] {
  const most = Math.max(0, ...lanes.map(lane => lane.rounds.length))
  return Array.from({ length: most }, (_, round) =>
    lanes
      .filter(lane => lane.rounds.length > round)
      .map(({ topic, rounds }) => ({ topic, messages: rounds[round]! })),
  )
}

function lanesOf(state: State, batch: Batch<ChangeRecord>) {
  const { context, partitions, settings, topicOf, schemas } = state
  const lanes = new Map<string, Lane>()
  const tooLarge: Rejected<ChangeRecord>[] = []
  const put = (record: ChangeRecord, partition: number, version: number, below: number) => {
    const topic = topicOf(record.table)
    const most = state.largest.get(topic)!
    const value = encodeValue(record, below)
    const bytes = Buffer.byteLength(value) + Buffer.byteLength(record.key) + RECORD_OVERHEAD
    if (bytes + BATCH_OVERHEAD > most) {
      tooLarge.push({ record, stage: 'kafka', error: largeError(topic, record, bytes, most) })
      return
    }
    const place = `${topic}/${partition}`
    const lane = lanes.get(place) ?? { topic, rounds: [[]], bytes: BATCH_OVERHEAD }
    lanes.set(place, lane)
    if (
      lane.bytes + bytes > Math.min(most, settings.producer.batchSizeBytes) &&
      lane.bytes > BATCH_OVERHEAD
    ) {
      lane.rounds.push([])
      lane.bytes = BATCH_OVERHEAD
    }
    lane.bytes += bytes
    lane.rounds.at(-1)!.push({
      key: record.key,
      value,
      partition,
      timestamp: String(record.commitMs),
      headers: { [VERSION_HEADER]: String(version), [SCHEMA_HEADER]: String(schemas.idOf(record.table)) },
    })
  }
  const last = numbered(batch.records, state.last, context.clock.nowUs(), partitions, put)
  return { lanes: [...lanes.values()], last, tooLarge }
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
    const messages = fresh.map(topic => entryOf(`topic:${topic}`, {}))
    await state.transactions.run(
      async transaction => {
        await transaction.send([{ topic: state.catalog.topic, messages }])
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
