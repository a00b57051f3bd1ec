/** Topics of a cluster: making them as declared, and asking for their ends. */
import type { ITopicConfig } from 'kafkajs'
import type { TopicEnds } from '../log/log.ts'
import type { Admins } from './admins.ts'
import type { ClusterSettings } from './settings.ts'

export interface WantedTopic {
  readonly topic: string
  readonly partitions: number
  readonly config: Readonly<Record<string, string>>
}

/** Makes those that are not there; what another process makes at the same time is as good. */
export async function makeTopics(
  admins: Admins,
  { replicationFactor }: ClusterSettings,
  wanted: readonly WantedTopic[],
): Promise<void> {
  if (wanted.length === 0) return
  await admins.use(`making topics ${wanted.map(one => one.topic).join(', ')}`, async admin => {
    const known = new Set(await admin.listTopics())
    const missing = wanted.filter(({ topic }) => !known.has(topic))
    if (missing.length === 0) return
    try {
      await admin.createTopics({
        waitForLeaders: true,
        topics: missing.map(
          ({ topic, partitions, config }): ITopicConfig => ({
            topic,
            numPartitions: partitions,
            replicationFactor,
            configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
          }),
        ),
      })
    } catch (error) {
      if (!isThere(error)) throw error
    }
  })
}

/** Of several topics the client throws one error that holds one for each. */
function isThere(error: unknown): boolean {
  const { type, errors } = error as { type?: string; errors?: readonly { type?: string }[] }
  return (errors ?? [{ type }]).every(one => one.type === 'TOPIC_ALREADY_EXISTS')
}

/**
 * Those of them that there are. `end` is that of what readers may see: a commit is acknowledged a moment before the last of its markers
 * is written, so that `written`, topic/partition → what this process has committed, may be ahead of it.
 */
export async function endsOfTopics(
  admins: Admins,
  topics: readonly string[],
  written: ReadonlyMap<string, number> = new Map(),
): Promise<readonly TopicEnds[]> {
  if (topics.length === 0) return []
  const found = await admins.use(`asking for the ends of ${topics.join(', ')}`, async admin => {
    const known = new Set(await admin.listTopics())
    const there = topics.filter(topic => known.has(topic))
    return Promise.all(
      there.map(async topic =>
        (await admin.fetchTopicOffsets(topic)).map(({ partition, low, high }) => ({
          topic,
          partition,
          start: Number(low),
          end: Math.max(Number(high), written.get(`${topic}/${partition}`) ?? 0),
        })),
      ),
    )
  })
  const order = (a: TopicEnds, b: TopicEnds) =>
    a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1
  return found.flat().sort(order)
}

/** Topic → the largest record batch that it takes, in bytes. */
export async function largestBatches(
  admins: Admins,
  topics: readonly string[],
): Promise<Map<string, number>> {
  if (topics.length === 0) return new Map()
  const { resources } = await admins.use(`asking for max.message.bytes of ${topics.join(', ')}`, admin =>
    admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map(name => ({ type: TOPIC, name, configNames: ['max.message.bytes'] })),
    }),
  )
  return new Map(
    resources.map(({ resourceName, configEntries }) => [
      resourceName,
      Number(configEntries[0]?.configValue ?? 1_048_588),
    ]),
  )
}

/** Topic → its partitions. */
export async function partitionCounts(
  admins: Admins,
  topics: readonly string[],
): Promise<Map<string, number>> {
  if (topics.length === 0) return new Map()
  const found = await admins.use(`asking for the partitions of ${topics.join(', ')}`, admin =>
    admin.fetchTopicMetadata({ topics: [...topics] }),
  )
  return new Map(found.topics.map(({ name, partitions }) => [name, partitions.length]))
}

export interface TopicConfig {
  /** What was set on the topic itself. */
  readonly own: ReadonlyMap<string, string>
  /** What holds, wherever it was set. */
  of(name: string): string | undefined
}

const TOPIC = 2
/** The source of a setting that stands on the topic (https://kafka.apache.org/protocol.html, DescribeConfigs). */
const OWN = 1

export async function topicConfigs(
  admins: Admins,
  topics: readonly string[],
): Promise<ReadonlyMap<string, TopicConfig>> {
  if (topics.length === 0) return new Map()
  const { resources } = await admins.use(`asking for the settings of ${topics.join(', ')}`, admin =>
    admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map(name => ({ type: TOPIC, name })),
    }),
  )
  return new Map(
    resources.map(({ resourceName, configEntries }) => {
      const all = new Map(configEntries.map(one => [one.configName, one.configValue]))
      const own = configEntries.filter(one => (one as { configSource?: number }).configSource === OWN)
      return [
        resourceName,
        { own: new Map(own.map(one => [one.configName, one.configValue])), of: name => all.get(name) },
      ]
    }),
  )
}

/** Replaces all that is set on the topic. */
export async function alterTopics(
  admins: Admins,
  topic: string,
  own: ReadonlyMap<string, string>,
): Promise<void> {
  const configEntries = [...own].map(([name, value]) => ({ name, value }))
  await admins.use(`setting ${configEntries.map(one => one.name).join(', ')} of ${topic}`, admin =>
    admin.alterConfigs({ validateOnly: false, resources: [{ type: TOPIC, name: topic, configEntries }] }),
  )
}

/** Partition → offset of the first record that is not older, or the end. */
export async function firstSince(
  admins: Admins,
  topic: string,
  timestampMs: number,
): Promise<ReadonlyMap<number, number>> {
  const found = await admins.use(`asking for the records of ${topic} since ${timestampMs}`, admin =>
    admin.fetchTopicOffsetsByTimestamp(topic, timestampMs),
  )
  return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]))
}
