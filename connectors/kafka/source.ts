/**
 * Topics of a Kafka cluster as rows. Where we stand is the log's to know: a tail for each partition number (core/kafka/tail.ts), from
 * the offsets that the log holds, committed read only; no group of the cluster is used.
 *
 *   offset   {"next":{"orders/0":17,"orders/1":4}}       of the next record to be read; what is not named is read from its start
 */
import {
  type Batch,
  type Context,
  defineSource,
  type Offset,
  type Reader,
  type SourcePlan,
} from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { type Admins, openAdmins } from '../../core/kafka/admins.ts'
import { type Kafka, type KafkaMessage, kafkaClient } from '../../core/kafka/client.ts'
import type { ClusterSettings } from '../../core/kafka/settings.ts'
import { type Fetched, openTail, type Tail } from '../../core/kafka/tail.ts'
import { endsOfTopics } from '../../core/kafka/topics.ts'
import type { TopicEnds } from '../../core/log/log.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { type KafkaSourceConfig, settingsOf, sourceConfig } from './config.ts'
import { type MessageReader, messageReader, type Place } from './entry.ts'

export const kafkaTopics = defineSource({
  name: 'kafka',
  summary: 'Reads topics of a Kafka cluster as rows.',
  config: sourceConfig,
  examples: [
    { title: 'Topics with JSON objects', config: { brokers: ['localhost:9092'], topics: ['orders'] } },
    {
      title: 'Keys and values as they stand, for a mirror',
      config: { brokers: ['kafka.edge.example.com:9092'], topics: ['readings', 'alarms'], format: 'text' },
    },
    {
      title: 'Avro with a schema registry',
      config: {
        brokers: ['localhost:9092'],
        topics: ['orders'],
        format: 'avro',
        registry: { url: 'http://localhost:8081' },
      },
    },
  ],
  async check(config, context) {
    await using admins = openAdmins(kafkaClient(settingsOf(config), context.log), context.clock)
    await foundEnds(admins, config)
  },
  async plan(config, context): Promise<SourcePlan> {
    await using admins = openAdmins(kafkaClient(settingsOf(config), context.log), context.clock)
    const ends = await foundEnds(admins, config)
    return {
      tables: config.topics.map(topic => ({
        table: {
          schema: 'kafka',
          name: topic,
          key: config.key ?? ['key'],
          columns: (config.key ?? ['key']).map(name => ({ name, type: 'text' })),
        },
        rows: ends.filter(one => one.topic === topic).reduce((sum, { start, end }) => sum + end - start, 0),
      })),
      upstream: [],
    }
  },
  async open(config, from, context): Promise<Reader<ChangeRecord>> {
    const settings = settingsOf(config)
    const client = kafkaClient(settings, context.log)
    const admins = openAdmins(client, context.clock)
    try {
      const ends = await foundEnds(admins, config)
      return await openReader(config, settings, client, admins, ends, nextOf(ends, from), context)
    } catch (error) {
      await admins[Symbol.asyncDispose]()
      throw error
    }
  },
})

/** Throws `config` for topics that are not there. */
async function foundEnds(
  admins: Admins,
  { topics, brokers }: KafkaSourceConfig,
): Promise<readonly TopicEnds[]> {
  const ends = await endsOfTopics(admins, topics)
  const missing = topics.filter(topic => !ends.some(one => one.topic === topic))
  if (missing.length === 0) return ends
  throw new ConnectorError('config', `Kafka ${brokers.join(',')} has no topic ${missing.join(', ')}`, {
    hint: 'Check `topics`; a topic is made with kafka-topics.sh --create --topic NAME.',
  })
}

const placeOf = (topic: string, partition: number): string => `${topic}/${partition}`

/** Throws `offset_lost` for what the cluster does not hold (V5). */
function nextOf(ends: readonly TopicEnds[], from: Offset | null): Map<string, number> {
  const known = from === null ? {} : (from as { next?: Record<string, number> }).next
  const lost = (what: string) =>
    new ConnectorError('offset_lost', what, {
      hint: 'The topic was cut or made anew. Make the pipeline anew: millrace delete NAME --yes.',
    })
  if (!known) throw lost(`kafka cannot resume at ${JSON.stringify(from)}`)
  return new Map(
    ends.map(({ topic, partition, start, end }) => {
      const place = placeOf(topic, partition)
      const next = known[place] ?? (from === null ? start : 0)
      if (next < start && next > 0) throw lost(`${place} begins at ${start}, and was read up to ${next}`)
      if (next > end) throw lost(`${place} ends at ${end}, and was read up to ${next}`)
      return [place, Math.max(next, start)]
    }),
  )
}

async function openReader(
  config: KafkaSourceConfig,
  settings: ClusterSettings,
  kafka: Kafka,
  admins: Admins,
  ends: readonly TopicEnds[],
  next: Map<string, number>,
  context: Context,
): Promise<Reader<ChangeRecord>> {
  const tails = new Map<number, Tail>()
  const close = async () => {
    await Promise.all([...tails.values()].map(tail => tail[Symbol.asyncDispose]()))
    await admins[Symbol.asyncDispose]()
  }
  try {
    for (const partition of new Set(ends.map(one => one.partition))) {
      const own = ends.filter(one => one.partition === partition)
      const from = new Map(own.map(({ topic }) => [topic, next.get(placeOf(topic, partition))!]))
      tails.set(partition, await openTail({ kafka, settings, clock: context.clock, partition, from }))
    }
  } catch (error) {
    await close()
    throw error
  }
  return {
    [Symbol.asyncIterator]: () => batches(config, tails, ends, next, context),
    [Symbol.asyncDispose]: close,
  }
}

interface Arrived {
  readonly partition: number
  readonly fetched: Fetched | null
}

/** Up to the first that cannot be read: what stands before it is handed on. */
function recordsOf(reader: MessageReader, messages: readonly KafkaMessage[], place: Place) {
  const records: ChangeRecord[] = []
  for (const message of messages)
    try {
      records.push(reader.record(message, place))
    } catch (error) {
      return { records, failed: { error, offset: Number(message.offset) } }
    }
  return { records, failed: null }
}

async function* batches(
  config: KafkaSourceConfig,
  tails: ReadonlyMap<number, Tail>,
  ends: readonly TopicEnds[],
  next: Map<string, number>,
  context: Context,
): AsyncGenerator<Batch<ChangeRecord>> {
  const { signal, clock } = context
  const reader = messageReader(config)
  const take = async (partition: number): Promise<Arrived> => ({
    partition,
    fetched: await tails.get(partition)!.take(signal),
  })
  const offset = (): Offset => ({ next: Object.fromEntries(next) })
  const isLevel = () => ends.every(({ topic, partition, end }) => next.get(placeOf(topic, partition))! >= end)
  const waiting = new Map([...tails.keys()].map(partition => [partition, take(partition)]))
  for (const one of waiting.values()) one.catch(() => {}) // told when its turn comes
  let isCaughtUp = isLevel()
  if (isCaughtUp) yield { records: [], offset: offset(), caughtUp: true }
  while (!signal.aborted) {
    const { partition, fetched } = await Promise.race(waiting.values())
    if (!fetched) return
    const again = take(partition)
    again.catch(() => {})
    waiting.delete(partition) // behind the others, so that none starves
    waiting.set(partition, again)
    const { topic, messages } = fetched
    const nowMs = clock.nowUs() / 1000
    await reader.prepare(messages)
    const { records, failed } = recordsOf(reader, messages, { topic, partition, nowMs })
    next.set(placeOf(topic, partition), failed ? failed.offset : fetched.next)
    const caughtUp = isLevel()
    if (failed && records.length === 0) throw failed.error
    if (records.length === 0 && caughtUp === isCaughtUp) continue
    isCaughtUp = caughtUp
    yield { records, offset: offset(), ...(caughtUp ? { caughtUp: true as const } : {}) }
    if (failed) throw failed.error
  }
}
