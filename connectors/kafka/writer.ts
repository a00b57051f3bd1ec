/**
 * Batches into topics of a cluster, exactly once: the records and the task's position are one transaction under the task's
 * transactional.id, as in the log itself (K1).
 *
 *   open    fence ─▶ read the position ─▶ refuse a higher epoch ─▶ store ours
 *   write   make topics, register shapes ─▶ serialize ─▶ [position, records of each partition in record batches] ─▶ commit
 */
import {
  assertLease,
  type Batch,
  type Context,
  type Offset,
  type Rejected,
  type Writer,
} from '../../core/connector.ts'
import { asConnectorError, ConnectorError } from '../../core/errors.ts'
import { type Serialized, type Serializer, serializer } from '../../core/format/serialize.ts'
import { fillTable } from '../../core/format/template.ts'
import { type Admins, openAdmins } from '../../core/kafka/admins.ts'
import { batchCodec, type Kafka, kafkaClient } from '../../core/kafka/client.ts'
import { partitionOf } from '../../core/kafka/partition.ts'
import {
  type BatchBuilder,
  type BatchCodec,
  batchBuilder,
  type Header,
  type RecordBatch,
} from '../../core/kafka/record-batch.ts'
import type { ClusterSettings } from '../../core/kafka/settings.ts'
import { largestBatches, makeTopics, partitionCounts } from '../../core/kafka/topics.ts'
import { openTransactions, type Transactions } from '../../core/kafka/transactions.ts'
import { unseen } from '../../core/log/log.ts'
import type { Json, LogRecord, Table } from '../../core/record.ts'
import { plain, splitRow } from '../../core/row.ts'
import { type KafkaSinkConfig, settingsOf } from './config.ts'
import { refuseForgetful, refuseOlder, standingBatch, standingOf } from './positions.ts'

interface Target {
  readonly topic: string
  readonly partitions: number
  readonly largest: number
  readonly headers: readonly Header[]
}

interface State {
  readonly config: KafkaSinkConfig
  readonly settings: ClusterSettings
  readonly context: Context
  readonly kafka: Kafka
  readonly admins: Admins
  readonly codec: BatchCodec
  readonly serializer: Serializer
  readonly transactions: Transactions
  readonly targets: WeakMap<Table, Target>
  readonly builders: Map<string, BatchBuilder>
  position: Json
}

export async function openKafkaSink(config: KafkaSinkConfig, context: Context): Promise<Writer> {
  const settings = settingsOf(config, config)
  const kafka = kafkaClient(settings, context.log)
  const admins = openAdmins(kafka, context.clock)
  let transactions: Transactions | null = null
  try {
    const { position_topic: topic } = config
    const { clock, task, epoch } = context
    const positions = { 'cleanup.policy': 'compact', 'message.timestamp.type': 'LogAppendTime' }
    await makeTopics(admins, settings, [{ topic, partitions: 1, config: positions }])
    await refuseForgetful(admins, topic)
    transactions = await openTransactions({
      kafka,
      settings,
      clock,
      transactionalId: transactionalId(config, task),
    })
    const standing = await standingOf({ kafka, admins, settings, clock, topic }, task)
    refuseOlder(context, standing)
    const state: State = {
      config,
      settings,
      context,
      kafka,
      admins,
      codec: batchCodec(config.compression),
      serializer: serializer(config),
      transactions,
      targets: new WeakMap(),
      builders: new Map(),
      position: standing?.position ?? null,
    }
    await transactions.run(
      async transaction => void (await transaction.send([positionOf(state, state.position)])),
      () => assertLease(context),
    )
    context.log.debug({ task, epoch }, `${task} writes to ${config.brokers.join(', ')}`)
    return writerOf(state)
  } catch (error) {
    await transactions?.[Symbol.asyncDispose]()
    await admins[Symbol.asyncDispose]()
    throw error
  }
}

/** Never an id of the log's (`<hub>.<task>`): a hub reports a sink's position under that one, on the same cluster, it may be (K3). */
export const transactionalId = ({ transactional_id: prefix }: KafkaSinkConfig, task: string): string =>
  `${prefix}.sink.${task}`

const writerOf = (state: State): Writer => ({
  write: batch => write(state, batch),
  position: async () => state.position as Offset | null,
  async [Symbol.asyncDispose]() {
    await state.transactions[Symbol.asyncDispose]()
    await state.admins[Symbol.asyncDispose]()
  },
})

const positionOf = ({ config, codec, context }: State, position: Json): RecordBatch =>
  standingBatch(
    config.position_topic,
    codec,
    context.task,
    { epoch: context.epoch, position },
    context.clock.nowUs() / 1000,
  )

async function write(state: State, batch: Batch): Promise<readonly Rejected[]> {
  const { context, transactions } = state
  assertLease(context)
  const records = unseen(batch.records, state.position as Offset | null)
  for (const table of new Set(records.map(record => record.table)))
    await openTarget(state, table, records.find(record => record.table === table)!.topic)
  const { batches, rejected } = encoded(state, records)
  if (rejected.length > 0) return rejected
  const position = batch.offset as Json
  await transactions.run(
    async transaction => void (await transaction.send([positionOf(state, position), ...batches])),
    () => assertLease(context),
  )
  state.position = position
  return []
}

async function openTarget(state: State, table: Table, logTopic: string): Promise<void> {
  const { targets, config, admins, settings, serializer: serialize } = state
  if (targets.has(table)) return
  const topic = topicName(config, table, logTopic)
  await makeTopics(admins, settings, [{ topic, partitions: config.partitions, config: config.topic_config }])
  const partitions = (await partitionCounts(admins, [topic])).get(topic)!
  const largest = (await largestBatches(admins, [topic])).get(topic)!
  if (config.value_field === undefined) await serialize.prepare(table, topic)
  const headers = Object.entries(config.headers).map(([name, value]) => ({
    name: Buffer.from(name),
    value: fillTable(value, table, logTopic),
  }))
  targets.set(table, { topic, partitions, largest, headers })
}

/** As a topic may be called; `plan` refuses two tables that meet. */
export const topicName = ({ topic }: KafkaSinkConfig, table: Table, logTopic: string): string =>
  fillTable(topic, table, logTopic)
    .replace(/[^A-Za-z0-9._-]/g, '_')
    .slice(0, 249)

const VERSION = Buffer.from('millrace.version')
const OP = Buffer.from('millrace.op')

function encoded(
  state: State,
  records: readonly LogRecord[],
): { batches: RecordBatch[]; rejected: Rejected[] } {
  const { targets, config, builders } = state
  const batches: RecordBatch[] = []
  const rejected: Rejected[] = []
  for (const record of records) {
    const target = targets.get(record.table)!
    // Rows alone have no word for it; a topic of changes tells each of its partitions.
    const isSweep = record.op === 'sweep'
    if (isSweep && (config.view === 'row' || config.value_field !== undefined)) continue
    try {
      const { key, value } = serialized(state, record, target.topic)
      const places = isSweep ? [...Array(target.partitions).keys()] : [partitionOf(key, target.partitions)]
      for (const place of places) put(state, batches, target, place, record, key, value)
    } catch (error) {
      const told = asConnectorError(error)
      if (told.kind !== 'data') throw error
      rejected.push({ record, stage: 'kafka', error: told })
    }
  }
  for (const builder of builders.values()) if (builder.count() > 0) batches.push(builder.finish())
  return { batches: rejected.length > 0 ? [] : batches, rejected }
}

function put(
  { config, builders, codec }: State,
  batches: RecordBatch[],
  { topic, largest, headers }: Target,
  partition: number,
  record: LogRecord,
  key: Serialized['key'],
  value: Serialized['value'],
): void {
  const place = `${topic}/${partition}`
  const builder = builders.get(place) ?? batchBuilder(topic, partition, codec)
  builders.set(place, builder)
  const all = [...headers, { name: VERSION, value: String(record.version) }, { name: OP, value: record.op }]
  if (builder.count() > 0) {
    const limit = Math.min(largest, config.batch_bytes)
    if (builder.append(key, value, record.commitMs, all, limit) === 0) return
    batches.push(builder.finish())
  }
  const bytes = builder.append(key, value, record.commitMs, all, largest)
  if (bytes > 0)
    throw new ConnectorError(
      'data',
      `the record ${record.key} of ${bytes} bytes is larger than ${topic} takes (max.message.bytes ${largest})`,
      { hint: 'Raise max.message.bytes, or leave the large column out with a transform.' },
    )
}

function serialized({ serializer: serialize, config }: State, record: LogRecord, topic: string): Serialized {
  const { key_field: keyField, value_field: valueField } = config
  const standard =
    valueField !== undefined && keyField !== undefined ? null : serialize.serialize(record, topic)
  const key = keyField === undefined ? standard!.key : (fieldOf(record, keyField) ?? '')
  return { key, value: valueField === undefined ? standard!.value : fieldOf(record, valueField) }
}

function fieldOf(record: LogRecord, field: string): string | null {
  for (const row of [record.after, record.before, record.key]) {
    if (row === null) continue
    const { names, values } = splitRow(row)
    const at = names.indexOf(field)
    if (at >= 0) return values[at] === 'null' ? null : plain(values[at]!)
  }
  return null
}
