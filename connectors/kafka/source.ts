/**
 * Topics of a Kafka cluster as rows. Where we stand is the log's to know: a tail for each partition number (core/kafka/tail.ts), from
 * the offsets that the log holds, committed read only; no group of the cluster is used.
 *
 *   offset   {"next":{"orders/0":17,"orders/1":4},"ids":{"orders":"5f1c…"}}
 *            next: of the next record to be read; what is not named is read from its start. ids: of the topics (core/kafka/topic-ids.ts)
 */
import {
  type Batch,
  type Clock,
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
import { type KnownTopic, openTopicIds, type TopicIds } from '../../core/kafka/topic-ids.ts'
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
    await using admins = openAdmins(client, context.clock)
    const ids = openTopicIds(client)
    try {
      const known = idsIn(await knownTopics(ids, config, idsOf(from)))
      const ends = await foundEnds(admins, config)
      const start: Start = { ends, next: nextOf(ends, from), ids: known }
      return await openReader(config, settings, client, ids, start, context)
    } catch (error) {
      await ids[Symbol.asyncDispose]()
      throw error
    }
  },
})

const LOST_HINT = 'The topic was cut or made anew. Make the pipeline anew: millrace delete NAME --yes.'

const idsOf = (from: Offset | null): Readonly<Record<string, string>> =>
  (from as { ids?: Record<string, string> } | null)?.ids ?? {}

/** Those that there are. Throws `offset_lost` for one that is another than what was read (V5). */
async function knownTopics(
  ids: TopicIds,
  { topics }: KafkaSourceConfig,
  before: Readonly<Record<string, string>>,
): Promise<ReadonlyMap<string, KnownTopic>> {
  const known = await ids.look(topics)
  for (const [topic, { id }] of known)
    if (id !== null && (before[topic] ?? id) !== id)
      throw new ConnectorError('offset_lost', `the topic ${topic} is another than the one that was read`, {
        hint: LOST_HINT,
      })
  return known
}

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
  const lost = (what: string) => new ConnectorError('offset_lost', what, { hint: LOST_HINT })
  if (!known) throw lost(`kafka cannot resume at ${JSON.stringify(from)}`)
  return new Map(
    ends.map(({ topic, partition, start, end }) => {
      const place = placeOf(topic, partition)
      const next = known[place] ?? start
      if (next < start) throw lost(`${place} begins at ${start}, and was read up to ${next}`)
      if (next > end) throw lost(`${place} ends at ${end}, and was read up to ${next}`)
      return [place, next]
    }),
  )
}

interface Start {
  readonly ends: readonly TopicEnds[]
  /** Moves on with what is read. */
  readonly next: Map<string, number>
  readonly ids: Readonly<Record<string, string>>
}

async function openReader(
  config: KafkaSourceConfig,
  settings: ClusterSettings,
  kafka: Kafka,
  ids: TopicIds,
  start: Start,
  context: Context,
): Promise<Reader<ChangeRecord>> {
  const { ends, next } = start
  const tails = new Map<number, Tail>()
  const close = async () => {
    await Promise.all([...tails.values()].map(tail => tail[Symbol.asyncDispose]()))
    await ids[Symbol.asyncDispose]()
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
    [Symbol.asyncIterator]: () => batches(config, tails, ids, start, context),
    [Symbol.asyncDispose]: close,
  }
}

const LOOK_MS = 5_000

/** Asks every few seconds whether the topics are the ones that are read, and have no partitions that are not. */
function looking(config: KafkaSourceConfig, ids: TopicIds, start: Start, { clock }: Context) {
  let lookedMs = clock.monotonicMs()
  return async (): Promise<void> => {
    if (clock.monotonicMs() - lookedMs < LOOK_MS) return
    const now = await knownTopics(ids, config, start.ids)
    lookedMs = clock.monotonicMs()
    for (const [topic, { partitions }] of now) {
      const read = start.ends.filter(one => one.topic === topic).length
      if (partitions > read)
        throw new ConnectorError(
          'unavailable',
          `Kafka: ${topic} has ${partitions} partitions now, and ${read} are read: the source opens anew`,
        )
    }
  }
}

/** null: nothing came for a while. */
async function nextArrived(waiting: Iterable<Promise<Arrived>>, clock: Clock): Promise<Arrived | null> {
  const arrived = new AbortController()
  try {
    return await Promise.race([...waiting, clock.sleep(LOOK_MS, arrived.signal).then(() => null)])
  } finally {
    arrived.abort('arrived')
  }
}

const idsIn = (known: ReadonlyMap<string, KnownTopic>): Record<string, string> =>
  Object.fromEntries([...known].flatMap(([topic, { id }]) => (id === null ? [] : [[topic, id]])))

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
  ids: TopicIds,
  start: Start,
  context: Context,
): AsyncGenerator<Batch<ChangeRecord>> {
  const { ends, next } = start
  const { signal, clock } = context
  const reader = messageReader(config)
  const look = looking(config, ids, start, context)
  const take = async (partition: number): Promise<Arrived> => ({
    partition,
    fetched: await tails.get(partition)!.take(signal),
  })
  const offset = (): Offset => ({ next: Object.fromEntries(next), ids: start.ids })
  const isLevel = () => ends.every(({ topic, partition, end }) => next.get(placeOf(topic, partition))! >= end)
  const waiting = new Map([...tails.keys()].map(partition => [partition, take(partition)]))
  for (const one of waiting.values()) one.catch(() => {}) // told when its turn comes
  let isCaughtUp = isLevel()
  if (isCaughtUp) yield { records: [], offset: offset(), caughtUp: true }
  while (!signal.aborted) {
    const arrived = await nextArrived(waiting.values(), clock)
    await look()
    if (!arrived) continue
    const { partition, fetched } = arrived
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
