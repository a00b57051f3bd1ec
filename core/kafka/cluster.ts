/**
 * The connections of a client of kafkajs, for requests that its producer makes too dear (record-batch.ts). Its version is pinned, and these
 * are its private parts: `clusterOf` is the one place that knows how to get at them, and says so when they are not there.
 */
import { createRequire } from 'node:module'
import type { Kafka } from 'kafkajs'
import { ConnectorError } from '../errors.ts'

/** What the broker gave a producer. The client's own 64-bit number, handed back to it as it came. */
export interface ProducerId {
  readonly producerId: { toString(): string }
  readonly producerEpoch: number
}

type OfTransaction = ProducerId & { readonly transactionalId: string }

/** A request and how its answer is read, in the shapes that the client's connections take. */
interface ProtocolCall {
  readonly request: {
    readonly apiKey: number
    readonly apiVersion: number
    readonly apiName: string
    encode(): Promise<{ readonly buf: Buffer; readonly buffer: Buffer }>
  }
  readonly response: ResponseFormat
}
export interface ResponseFormat {
  decode(raw: Buffer): Promise<unknown>
  /** Throws what a code of the answer says. */
  parse(decoded: unknown): Promise<unknown>
}

/** Where a record batch came to stand. */
export interface Placed {
  readonly topic: string
  readonly partition: number
  readonly baseOffset: number
  readonly count: number
}

interface Produced {
  readonly topics: readonly {
    readonly topicName: string
    readonly partitions: readonly { readonly partition: number; readonly baseOffset: string }[]
  }[]
}

export interface Broker {
  readonly connectionPool: { send(call: ProtocolCall): Promise<unknown> }
  /** By number of the request. */
  readonly versions?: Readonly<Record<number, { readonly maxVersion: number }>>
  initProducerId(of: { transactionalId: string; transactionTimeout: number }): Promise<ProducerId>
  addPartitionsToTxn(
    of: OfTransaction & { topics: readonly { topic: string; partitions: readonly number[] }[] },
  ): Promise<unknown>
  addOffsetsToTxn(of: OfTransaction & { groupId: string }): Promise<unknown>
  txnOffsetCommit(
    of: OfTransaction & {
      groupId: string
      topics: readonly {
        topic: string
        partitions: readonly { partition: number; offset: string; metadata: string }[]
      }[]
    },
  ): Promise<unknown>
  endTxn(of: OfTransaction & { transactionResult: boolean }): Promise<unknown>
}

export const COORDINATOR = { group: 0, transaction: 1 } as const

export interface Cluster {
  connect(): Promise<void>
  disconnect(): Promise<void>
  /** Asks for the leaders of those that are new; later ones, when they may be out of date. */
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>
  refreshMetadataIfNecessary(): Promise<void>
  /** Node → those of the partitions that it leads; one that nobody knows is left out. */
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Record<string, number[]>
  findTopicPartitionMetadata(topic: string): readonly { readonly partitionId: number }[]
  findControllerBroker(): Promise<Broker>
  metadata(of: { topics: readonly string[] }): Promise<{
    readonly topicMetadata: readonly {
      readonly topic: string
      readonly partitionMetadata: readonly unknown[]
    }[]
  }>
  findBroker(of: { nodeId: string | number }): Promise<Broker>
  findGroupCoordinatorMetadata(of: {
    groupId: string
    coordinatorType: number
  }): Promise<{ readonly coordinator: { readonly nodeId: number } }>
}

const METADATA_MS = 300_000

export function clusterOf(kafka: Kafka, over: object = {}): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find(
    one => one.description === 'private:Kafka:createCluster',
  )
  if (!symbol) throw new ConnectorError('bug', 'Kafka: this version of kafkajs keeps its cluster elsewhere')
  const make = (kafka as unknown as Record<symbol, (options: object) => Cluster>)[symbol]!
  return make({ metadataMaxAge: METADATA_MS, allowAutoTopicCreation: false, ...over })
}

const PRODUCE = { apiKey: 0, apiVersion: 7, apiName: 'Produce' }
const produceResponse: ResponseFormat = createRequire(import.meta.url)(
  `kafkajs/src/protocol/requests/produce/v${PRODUCE.apiVersion}/response.js`,
)

/** A Produce request, already encoded. Throws what the first failed partition met. */
export async function produce({ connectionPool }: Broker, body: Buffer): Promise<Omit<Placed, 'count'>[]> {
  const encoded = { buf: body, buffer: body }
  const request = { ...PRODUCE, encode: async () => encoded }
  const { topics } = (await connectionPool.send({ request, response: produceResponse })) as Produced
  return topics.flatMap(({ topicName: topic, partitions }) =>
    partitions.map(({ partition, baseOffset }) => ({ topic, partition, baseOffset: Number(baseOffset) })),
  )
}
