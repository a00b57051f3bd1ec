/** What a client of Kafka is told: where the cluster is, how to log in, and Kafka's own settings under Kafka's own names. */
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

export const KAFKA_COMPRESSIONS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
export type KafkaCompression = (typeof KAFKA_COMPRESSIONS)[number]

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

export interface ClusterSettings {
  /** Our name there, and what names of groups begin with. */
  readonly hub: string
  /** host:port */
  readonly brokers: readonly string[]
  readonly tls: KafkaTls | null
  readonly sasl: KafkaSasl | null
  readonly producer: KafkaProducerSettings
  readonly consumer: KafkaConsumerSettings
  /** Of topics that are made; -1: the broker's default. */
  readonly replicationFactor: number
}
