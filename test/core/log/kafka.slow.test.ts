/** A log on a real Kafka: the kits of logs. */
import { randomUUID } from 'node:crypto'
import { openKafkaEntryLog, openKafkaLog } from '../../../core/log/kafka/log.ts'
import type { KafkaSettings } from '../../../core/log/kafka/settings.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { changeLogConformance, entryLogConformance } from '../../conform/log.ts'

const log = { debug() {}, info() {}, warn() {}, error() {} }
export const settingsOf = (brokers: readonly string[], topicPrefix: string): KafkaSettings => ({
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
  topicConfig: { 'max.message.bytes': String(32 << 20) },
})
const brokers = [process.env.KAFKA ?? '127.0.0.1:19092']
const prefix = () => `t${randomUUID().slice(0, 8)}.`

for (const compression of ['lz4', 'gzip', 'none'] as const) {
  changeLogConformance({
    name: `kafka, ${compression}`,
    hasMarkers: true,
    settleMs: 5_000,
    async target(partitions) {
      const topicPrefix = prefix()
      const settings = settingsOf(brokers, topicPrefix)
      return {
        topicPrefix,
        open: () =>
          openKafkaLog({
            settings,
            clock: realClock,
            log,
            name: 'kit',
            partitions,
            compression,
            retentionHours: 1_000_000,
          }),
        async [Symbol.asyncDispose]() {},
      }
    },
  })
  entryLogConformance({
    name: `kafka, ${compression}`,
    hasMarkers: true,
    settleMs: 5_000,
    async target() {
      const topicPrefix = prefix()
      const settings = settingsOf(brokers, topicPrefix)
      return {
        topicPrefix,
        open: () => openKafkaEntryLog({ settings, clock: realClock, log, pipeline: 'kit', compression }),
        async [Symbol.asyncDispose]() {},
      }
    },
  })
}
