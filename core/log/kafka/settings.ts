/** What a log on Kafka is told: where the cluster is, how to log in, and Kafka's own settings under Kafka's own names. */
import type { Compression } from '../log.ts'

export interface KafkaTls {
  /** PEM texts. */
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
  readonly rejectUnauthorized: boolean
}

export const SASL_MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const
export interface KafkaSasl {
  readonly mechanism: (typeof SASL_MECHANISMS)[number]
  readonly username: string
  readonly password: string
}

export type KafkaCompression = Compression | 'snappy'

export interface KafkaProducerSettings {
  /** Largest record batch of one partition; the topic's `max.message.bytes` holds in any case. */
  readonly batchSizeBytes: number
  /** How long dead letters wait for company. */
  readonly lingerMs: number
  /** null: the pipeline's `log.compression`. */
  readonly compression: KafkaCompression | null
  readonly retryBackoffMs: number
  readonly requestTimeoutMs: number
  /** K1: after it the broker ends a transaction whose owner is gone, and readers go on. */
  readonly transactionTimeoutMs: number
}

export interface KafkaConsumerSettings {
  readonly maxPollRecords: number
  readonly maxPollIntervalMs: number
  readonly fetchMaxWaitMs: number
  readonly fetchMaxBytes: number
  readonly maxPartitionFetchBytes: number
}

export interface KafkaSettings {
  /** Starts transactional ids and groups; a topic of another hub is refused. */
  readonly hub: string
  /** host:port */
  readonly brokers: readonly string[]
  /** In front of every topic's name. */
  readonly topicPrefix: string
  readonly tls: KafkaTls | null
  readonly sasl: KafkaSasl | null
  readonly producer: KafkaProducerSettings
  readonly consumer: KafkaConsumerSettings
  /** -1: the broker's default. */
  readonly replicationFactor: number
  /** Of topics that are made, by Kafka's names. */
  readonly topicConfig: Readonly<Record<string, string>>
}

/** The names a hub uses on a cluster: all of them begin with its own, so that one prefixed ACL allows them. */
export const transactionalId = ({ hub }: KafkaSettings, task: string): string => `${hub}.${task}`
export const groupOf = ({ hub }: KafkaSettings, pipeline: string, sink: string): string =>
  `${hub}.${pipeline}.${sink}`
export const offsetsTopic = ({ topicPrefix }: KafkaSettings, pipeline: string): string =>
  `${topicPrefix}${pipeline}.offsets`
export const deadLetterTopic = ({ topicPrefix }: KafkaSettings, pipeline: string): string =>
  `${topicPrefix}${pipeline}.dead`
