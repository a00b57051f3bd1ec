/**
 * Topics by the ids that their cluster gave them: one that is deleted and made anew has another, whatever its name and its offsets are.
 * The client's own request is too old to tell them. Metadata, version 10 (KIP-516); compact lengths are one more than what they count.
 *
 *   asked    [0 (header)] topics [id, 16 zeros  name  0] make them?  rights?  rights?  0
 *   told     [0 (header)] throttle i32  brokers [node i32  host  port i32  rack  0]  cluster  controller i32
 *            topics [error i16  name  id  internal?  partitions [error i16  number i32  leader i32  epoch i32  3 × [node i32]  0]  rights i32  0] …
 */
import type { Kafka } from 'kafkajs'
import { type Cluster, clusterOf, type ResponseFormat } from './cluster.ts'
import { kafkaError } from './error.ts'

export interface KnownTopic {
  /** null: the cluster is older than ids. */
  readonly id: string | null
  readonly partitions: number
}

export interface TopicIds extends AsyncDisposable {
  /** Those of them that there are. */
  look(topics: readonly string[]): Promise<ReadonlyMap<string, KnownTopic>>
}

export function openTopicIds(kafka: Kafka): TopicIds {
  const cluster = clusterOf(kafka)
  let connecting: Promise<void> | null = null
  return {
    async look(topics) {
      try {
        connecting ??= cluster.connect()
        await connecting
        return await ask(cluster, topics)
      } catch (error) {
        connecting = null
        throw kafkaError(error, `looking at ${topics.join(', ')}`)
      }
    },
    [Symbol.asyncDispose]: () => cluster.disconnect().catch(() => {}),
  }
}

const METADATA = { apiKey: 3, apiVersion: 10, apiName: 'Metadata' }

async function ask(cluster: Cluster, topics: readonly string[]): Promise<ReadonlyMap<string, KnownTopic>> {
  await cluster.refreshMetadataIfNecessary() // without it the client knows no brokers yet
  const { versions, connectionPool } = await cluster.findControllerBroker()
  if ((versions?.[METADATA.apiKey]?.maxVersion ?? 0) < METADATA.apiVersion) return withoutIds(cluster, topics)
  const body = encoded(topics)
  const request = { ...METADATA, encode: async () => ({ buf: body, buffer: body }) }
  return (await connectionPool.send({ request, response: FORMAT })) as Map<string, KnownTopic>
}

async function withoutIds(cluster: Cluster, topics: readonly string[]): Promise<Map<string, KnownTopic>> {
  const { topicMetadata } = await cluster.metadata({ topics })
  return new Map(
    topicMetadata.map(({ topic, partitionMetadata }) => [
      topic,
      { id: null, partitions: partitionMetadata.length },
    ]),
  )
}

/** Seven bits a byte, the lowest first. */
function varint(value: number): Buffer {
  const bytes: number[] = []
  let left = value
  for (; left > 127; left >>>= 7) bytes.push((left & 127) | 128)
  return Buffer.from([...bytes, left])
}

const ID_BYTES = 16

function encoded(topics: readonly string[]): Buffer {
  const named = topics.flatMap(topic => {
    const name = Buffer.from(topic)
    return [Buffer.alloc(ID_BYTES), varint(name.length + 1), name, Buffer.of(0)]
  })
  return Buffer.concat([Buffer.of(0), varint(topics.length + 1), ...named, Buffer.of(0, 0, 0, 0)])
}

const FORMAT: ResponseFormat = {
  decode: async raw => decoded(new Cursor(raw)),
  parse: async topics => topics,
}

class Cursor {
  at = 0
  readonly bytes: Buffer
  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  skip(count: number): void {
    this.at += count
  }

  int16(): number {
    this.at += 2
    return this.bytes.readInt16BE(this.at - 2)
  }

  varint(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes.readUInt8(this.at++)
      value |= (byte & 127) << shift
      if (byte < 128) return value
    }
  }

  /** null and '' alike. */
  text(): string {
    const length = Math.max(0, this.varint() - 1)
    this.at += length
    return this.bytes.toString('utf8', this.at - length, this.at)
  }

  list<T>(one: () => T): T[] {
    return Array.from({ length: Math.max(0, this.varint() - 1) }, one)
  }

  /** What later versions may add. */
  tags(): void {
    for (let left = this.varint(); left > 0; left--) {
      this.varint()
      this.skip(this.varint())
    }
  }
}

function decoded(cursor: Cursor): Map<string, KnownTopic> {
  const nodes = () => cursor.list(() => cursor.skip(4))
  cursor.tags()
  cursor.skip(4)
  cursor.list(() => {
    cursor.skip(4)
    cursor.text()
    cursor.skip(4)
    cursor.text()
    cursor.tags()
  })
  cursor.text()
  cursor.skip(4)
  const topics = cursor.list((): [name: string, known: KnownTopic, error: number] => {
    const error = cursor.int16()
    const name = cursor.text()
    const id = cursor.bytes.toString('hex', cursor.at, cursor.at + ID_BYTES)
    cursor.skip(ID_BYTES + 1)
    const partitions = cursor.list(() => {
      cursor.skip(14)
      for (const list of [nodes, nodes, nodes]) list()
      cursor.tags()
    })
    cursor.skip(4)
    cursor.tags()
    return [name, { id, partitions: partitions.length }, error]
  })
  return new Map(topics.flatMap(([name, known, error]) => (error === 0 ? [[name, known]] : [])))
}
