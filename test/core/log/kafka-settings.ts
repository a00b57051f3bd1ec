/** Settings of a log on a test's Kafka, and a short way to open one. */
import type { Clock, Log } from '../../../core/connector.ts'
import { type KafkaLog, openKafkaLog } from '../../../core/log/kafka/log.ts'
import type { KafkaSettings } from '../../../core/log/kafka/settings.ts'
import type { Compression, Retention } from '../../../core/log/log.ts'
import { realClock } from '../../../core/worker/clock.ts'

export const silentLog = { debug() {}, info() {}, warn() {}, error() {} }

export const settingsOf = (
  brokers: readonly string[],
  topicPrefix: string,
  over: Partial<KafkaSettings> = {},
): KafkaSettings => ({
  hub: 'test',
  brokers,
  topicPrefix,
  tls: null,
  sasl: null,
  producer: {
    batchSizeBytes: 900_000,
    lingerMs: 2,
    compression: null,
    retryBackoffMs: 100,
    requestTimeoutMs: 10_000,
    transactionTimeoutMs: 10_000,
  },
  consumer: {
    maxPollRecords: 5_000,
    maxPollIntervalMs: 60_000,
    fetchMaxWaitMs: 200,
    fetchMaxBytes: 16 << 20,
    maxPartitionFetchBytes: 4 << 20,
  },
  replicationFactor: -1,
  topicConfig: {},
  ...over,
})

export const openLog = (
  settings: KafkaSettings,
  {
    name = 'kit',
    partitions = 1,
    compression = 'lz4',
    retention = null,
    clock = realClock,
    log = silentLog,
  }: {
    name?: string
    partitions?: number
    compression?: Compression
    retention?: Retention | null
    clock?: Clock
    log?: Log
  } = {},
): Promise<KafkaLog> =>
  openKafkaLog({
    settings,
    clock,
    log,
    name,
    partitions,
    compression,
    retention,
    retentionHours: 1_000_000, // the kit's records are of 2023
  })
