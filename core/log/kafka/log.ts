/**
 * A pipeline's log on Kafka: a topic for each table, one for what the log knows of itself (catalog.ts), one for dead letters.
 * Contract: ../log.ts; rules K1 to K5. The client is core/kafka/.
 *
 *   <prefix><pipeline>.<schema>.<table>    changes, as many partitions as declared; written by the source task
 *   <prefix><pipeline>.offsets             compacted, one partition; written by the source task, of retention by a hub
 *   <prefix><pipeline>.dead                compacted, one partition; written by every task
 *
 *   transactional.id   <hub>.<task>        one for each task, by which a newer owner fences an older one
 *   group              <hub>.<pipeline>.<sink>       a sink's progress        <hub>.private.<random>   a reader's, empty
 */
import { randomUUID } from 'node:crypto'
import type { Clock, Context, Log } from '../../connector.ts'
import { ConnectorError, Fenced } from '../../errors.ts'
import { type Admins, openAdmins } from '../../kafka/admins.ts'
import { batchCodec, type Kafka, kafkaClient } from '../../kafka/client.ts'
import { type BatchCodec, batchOf } from '../../kafka/record-batch.ts'
import { endsOfTopics, makeTopics } from '../../kafka/topics.ts'
import { openTransactions, type Transactions } from '../../kafka/transactions.ts'
import type { Progress } from '../../pump.ts'
import type { ChangeLog, Compression, EntryLog, Retention } from '../log.ts'
import { CATALOG_FORMAT, type Catalog, type LogEntry, openCatalog } from './catalog.ts'
import { openKafkaEntries } from './entries.ts'
import { kafkaProgress } from './progress.ts'
import { openKafkaReader } from './reader.ts'
import { kafkaRetention } from './retention.ts'
import { deadLetterTopic, groupOf, type KafkaSettings, offsetsTopic, transactionalId } from './settings.ts'
import { openKafkaWriter } from './writer.ts'

export interface KafkaLogOptions {
  /** Default: one made of the settings. The simulation has its own. */
  readonly kafka?: Kafka
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly log: Log
  /** The pipeline's name. */
  readonly name: string
  readonly partitions: number
  readonly compression: Compression
  readonly retentionHours: number
  /** Who drains the log: its topics' retention follows them (K5). null: whoever has opened it does not see to that. */
  readonly retention: Retention | null
}

export interface KafkaLog extends ChangeLog {
  /** Of a sink's task. */
  progress(context: Context, sink: string, partition: number): Progress
}

interface State extends KafkaLogOptions {
  /** Producers and readers that are open: they end with the log. */
  readonly parts: Set<AsyncDisposable>
  readonly codec: BatchCodec
  readonly kafka: Kafka
  readonly admins: Admins
  readonly catalog: Catalog
}

export async function openKafkaLog(options: KafkaLogOptions): Promise<KafkaLog> {
  const { settings, name, clock, log, compression } = options
  const codec = batchCodec(settings.producer.compression ?? compression)
  const kafka = options.kafka ?? kafkaClient(settings, log)
  const admins = openAdmins(kafka, clock)
  const topic = offsetsTopic(settings, name)
  let catalog: Catalog | null = null
  try {
    await makeTopics(admins, settings, [{ topic, partitions: 1, config: catalogConfig(settings) }])
    catalog = openCatalog({ kafka, admins, settings, clock, log, topic })
    const state: State = { ...options, codec, kafka, admins, catalog, parts: new Set() }
    const entry = await entryOf(state)
    return opened(state, entry.id)
  } catch (error) {
    await catalog?.[Symbol.asyncDispose]()
    await admins[Symbol.asyncDispose]()
    throw error
  }
}

/** Replication as all topics; retention never. */
const catalogConfig = ({ topicConfig }: KafkaSettings): Record<string, string> => {
  const { 'min.insync.replicas': replicas } = topicConfig
  return {
    'cleanup.policy': 'compact',
    'message.timestamp.type': 'LogAppendTime', // brokers refuse times far ahead of theirs, and nothing rests on these
    ...(replicas === undefined ? {} : { 'min.insync.replicas': replicas }),
  }
}

/** Of topic/partition. */
const topicOfPlace = (place: string): string => place.slice(0, place.lastIndexOf('/'))

function opened(state: State, id: string): KafkaLog {
  const { settings, admins, catalog, codec, kafka, clock, name, partitions, retentionHours, retention } =
    state
  const written = new Map<string, number>()
  // What we have committed ourselves the catalog may hear of a moment later.
  const topics = () => new Set([...catalog.topics, ...[...written.keys()].map(topicOfPlace)])
  const ends = () => endsOfTopics(admins, [...topics()], written)
  const open = (context: Context) => openProducer(state, transactionalId(settings, context.task))
  const topicConfig = {
    'cleanup.policy': 'delete',
    // The time of a record is the database's, whose clock may be ahead of the brokers'. Kafka knows this setting from 3.6 on.
    'message.timestamp.after.max.ms': String(Number.MAX_SAFE_INTEGER),
    'retention.ms': String(Math.min(Number.MAX_SAFE_INTEGER, retentionHours * 3_600_000)),
    ...settings.topicConfig,
  }
  return {
    id,
    partitions,
    writer: (context, floor) =>
      openKafkaWriter(
        { admins, settings, catalog, codec, name, partitions, topicConfig, written, open },
        context,
        floor,
      ),
    reader: async reading =>
      held(state, await openKafkaReader({ kafka, settings, clock, catalog, id, ends }, reading)),
    ends,
    sizeBytes: () => null,
    retain: retention
      ? kafkaRetention({
          ...state,
          id,
          retention,
          open: () => openProducer(state, transactionalId(settings, `${name}/retention`)),
        })
      : async () => {},
    progress: (context, sink, partition) =>
      kafkaProgress({ admins, catalog, id, group: groupOf(settings, name, sink), partition, open }, context),
    async [Symbol.asyncDispose]() {
      await Promise.all([...state.parts].map(part => part[Symbol.asyncDispose]()))
      await catalog[Symbol.asyncDispose]()
      await admins[Symbol.asyncDispose]()
    },
  }
}

/** Closed by its holder or with the log, once. */
function held<T extends AsyncDisposable>({ parts }: State, part: T): T {
  const whole = {
    ...part,
    async [Symbol.asyncDispose]() {
      if (parts.delete(whole)) await part[Symbol.asyncDispose]()
    },
  }
  parts.add(whole)
  return whole
}

async function openProducer(state: State, id: string): Promise<Transactions> {
  const { kafka, settings, clock } = state
  return held(state, await openTransactions({ kafka, settings, clock, transactionalId: id }))
}

/** Made by whoever finds none: of two at once the later one fences the other, and looks again behind the fence. */
async function entryOf(state: State): Promise<LogEntry> {
  const { catalog, codec, settings, name, partitions, clock } = state
  await catalog.refresh()
  while (!catalog.log()) {
    try {
      await using transactions = await openProducer(state, transactionalId(settings, `${name}/log`))
      await catalog.refresh()
      if (catalog.log()) break
      const entry: LogEntry = { format: CATALOG_FORMAT, id: randomUUID(), hub: settings.hub, partitions }
      const record = {
        key: 'log',
        value: JSON.stringify(entry),
        timestampMs: Math.floor(clock.nowUs() / 1000),
      }
      const batch = batchOf(catalog.topic, 0, codec, [record])
      await transactions.run(async transaction => void (await transaction.send([batch])))
    } catch (error) {
      if (!(error instanceof Fenced)) throw error
      await clock.sleep(50)
    }
    await catalog.refresh()
  }
  return refuseOther(state, catalog.log()!)
}

function refuseOther({ catalog, settings, partitions, name }: State, entry: LogEntry): LogEntry {
  if (entry.format > CATALOG_FORMAT)
    throw new ConnectorError(
      'config',
      `topic ${catalog.topic} was written by a newer Millrace: format ${entry.format}, this one knows ${CATALOG_FORMAT}`,
      { hint: 'Start the newer Millrace.' },
    )
  if (entry.hub !== settings.hub)
    throw new ConnectorError(
      'config',
      `topic ${catalog.topic} belongs to the hub "${entry.hub}", and this one is "${settings.hub}"`,
      { hint: 'Set name or log.topic_prefix in hub.yaml, or rename the pipeline.' },
    )
  if (entry.partitions !== partitions)
    throw new ConnectorError(
      'config',
      `the log of ${name} was made with ${entry.partitions} partitions, and its file says ${partitions}`,
      { hint: 'Partitions never change (V7). Make the pipeline anew: millrace delete NAME --yes.' },
    )
  return entry
}

export interface KafkaEntryLogOptions {
  /** As above. */
  readonly kafka?: Kafka
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly log: Log
  readonly pipeline: string
  readonly compression: Compression
}

export async function openKafkaEntryLog(options: KafkaEntryLogOptions): Promise<EntryLog> {
  const { settings, clock, log, pipeline, compression } = options
  const kafka = options.kafka ?? kafkaClient(settings, log)
  const admins = openAdmins(kafka, clock)
  const entries = openKafkaEntries({
    kafka,
    admins,
    settings,
    clock,
    topic: deadLetterTopic(settings, pipeline),
    compression: settings.producer.compression ?? compression,
  })
  return {
    ...entries,
    async [Symbol.asyncDispose]() {
      await entries[Symbol.asyncDispose]()
      await admins[Symbol.asyncDispose]()
    },
  }
}
