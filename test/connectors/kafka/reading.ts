/** What a topic holds for a read_committed consumer of kafkajs, which shares nothing with our own tail but the library. */
import kafkajs, { type Kafka, type KafkaMessage } from 'kafkajs'
import { kafka as sink } from '../../../connectors/kafka/sink.ts'
import type { Context, Writer } from '../../../core/connector.ts'
import '../../../core/kafka/client.ts' // registers the codecs
import { clusterOf } from '../../../core/kafka/cluster.ts'
import type { Held, SinkTarget } from '../../conform/sink.ts'

export const openSink = (options: object, context: Context): Promise<Writer> =>
  sink.open(sink.config.parse(options), context)

export interface Read {
  readonly partition: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Readonly<Record<string, string>>
  readonly timestamp: number
}

export const clientOf = (brokers: readonly string[]) =>
  new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })

/** All that is committed by now, by partition in order. No such topic: nothing. */
export async function committed(brokers: readonly string[], topic: string): Promise<readonly Read[]> {
  const kafka = clientOf(brokers)
  const left = await ends(kafka, topic)
  if (left.size === 0) return []
  const found: Read[] = []
  const consumer = kafka.consumer({
    groupId: `look-${Math.random()}`,
    maxWaitTimeInMs: 50,
    readUncommitted: false,
  })
  const note = (partition: number, { key, value, headers, timestamp }: KafkaMessage) =>
    found.push({
      partition,
      key,
      value,
      headers: Object.fromEntries(Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)])),
      timestamp: Number(timestamp),
    })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await new Promise<void>((done, fail) => {
    const passed = (partition: number, offset: number) => {
      // Behind the last record stand the transaction's markers.
      if (offset >= (left.get(partition) ?? 0) - 1) left.delete(partition)
      if (left.size === 0) done()
    }
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) =>
      passed(payload.partition, Number(payload.lastOffset)),
    )
    // It begins again by itself where that may help, as when the coordinator has only just come up.
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) fail(payload.error)
    })
    consumer
      .run({
        eachBatchAutoResolve: true,
        async eachBatch({ batch }) {
          for (const message of batch.messages) note(batch.partition, message)
        },
      })
      .catch(fail)
  })
  await consumer.disconnect()
  return found.sort((a, b) => a.partition - b.partition)
}

interface Offsets {
  fetchTopicsOffset(
    of: readonly { topic: string; partitions: readonly { partition: number }[]; fromBeginning: boolean }[],
  ): Promise<{ partitions: { partition: number; offset: string }[] }[]>
}

/**
 * Partition → its end, with what is not yet seen to be committed: a commit is acknowledged a moment before consumers see it, and an
 * administrative client names the end that those see.
 */
async function ends(kafka: Kafka, topic: string): Promise<Map<number, number>> {
  const cluster = clusterOf(kafka, { isolationLevel: 0 })
  await cluster.connect()
  try {
    await cluster.addMultipleTargetTopics([topic])
    const { length } = cluster.findTopicPartitionMetadata(topic)
    const partitions = Array.from({ length }, (_, partition) => ({ partition }))
    const of = [{ topic, partitions, fromBeginning: false }]
    const [found] = await (cluster as unknown as Offsets).fetchTopicsOffset(of)
    return new Map(
      found!.partitions.flatMap(({ partition, offset }) =>
        Number(offset) > 0 ? [[partition, Number(offset)]] : [],
      ),
    )
  } catch (error) {
    if ((error as { type?: string }).type === 'UNKNOWN_TOPIC_OR_PARTITION') return new Map()
    throw error
  } finally {
    await cluster.disconnect()
  }
}

let targets = 0

/** Of the last record of each id; none may come twice. */
export const topicRows = (brokers: readonly string[], topic: string) => async () => {
  const rows = new Map<string, Held>()
  for (const { key, value, headers, partition } of await committed(brokers, topic)) {
    const { id } = JSON.parse(String(key)) as { id?: number }
    if (id === undefined) continue
    const version = Number(headers['millrace.version'])
    const before = rows.get(String(id))
    if (before && before.version >= version) throw new Error(`${id} of version ${version} came twice`)
    const document = value === null ? null : (JSON.parse(String(value)) as { after: unknown }).after
    rows.set(String(id), { document, version, origin: `kit.test.kit/${partition}` })
  }
  return new Map([...rows].sort(([a], [b]) => Number(a) - Number(b)))
}

/** A topic of its own each time. Rows are of the last record of each id. */
export function topicTarget(
  brokers: readonly string[],
  over: object = {},
): () => Promise<SinkTarget & { readonly topic: string }> {
  return async () => {
    const n = ++targets
    const topic = `kit-${n}`
    const options = {
      brokers,
      topic,
      position_topic: `positions-${n}`,
      transactional_id: `kit-${n}`,
      ...over,
    }
    return {
      topic,
      open: context => openSink(options, context),
      rows: topicRows(brokers, topic),
      async [Symbol.asyncDispose]() {},
    }
  }
}
