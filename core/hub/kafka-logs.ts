/** The logs of a hub on Kafka, as `log` of hub.yaml says. */
import type { Clock, Log } from '../connector.ts'
import type { KafkaTls } from '../kafka/settings.ts'
import { openKafkaEntryLog, openKafkaLog } from '../log/kafka/log.ts'
import { removeKafkaLog } from '../log/kafka/remove.ts'
import type { KafkaSettings } from '../log/kafka/settings.ts'
import type { HubConfig } from '../pipeline/hub-schema.ts'
import { type Logs, openBoth } from './logs.ts'
import { readPem } from './pem.ts'

export interface KafkaLogsOptions {
  readonly config: HubConfig
  readonly clock: Clock
  readonly log: Log
}

export function kafkaLogs({ config, clock, log }: KafkaLogsOptions): Logs {
  const settings = settingsOf(config)
  return {
    open({ name, log: { partitions, compression, retention: declared } }, retention = null) {
      const shared = { settings, clock, log, compression }
      return openBoth(
        openKafkaLog({ ...shared, name, partitions, retentionHours: declared.hours, retention }),
        () => openKafkaEntryLog({ ...shared, pipeline: name }),
        changes => changes.progress,
        true,
      )
    },
    openDead: pipeline => openKafkaEntryLog({ settings, clock, log, pipeline, compression: 'lz4' }),
    remove: ({ name, sinks }) =>
      removeKafkaLog({ settings, clock, log, pipeline: name, sinks: sinks.map(sink => sink.name) }),
  }
}

function settingsOf({ name, log: { kafka, lingerMs } }: HubConfig): KafkaSettings {
  const { brokers, topic_prefix: topicPrefix, tls, sasl, producer, consumer, topic } = kafka!
  const { 'replication.factor': replicationFactor = -1, ...topicConfig } = topic
  return {
    hub: name,
    brokers: brokers!,
    topicPrefix: topicPrefix ?? '',
    tls: tls ? certificates(tls) : null,
    sasl: sasl ?? null,
    producer: {
      batchSizeBytes: producer['batch.size'],
      lingerMs: producer['linger.ms'] ?? lingerMs,
      compression: producer['compression.type'] ?? null,
      retryBackoffMs: producer['retry.backoff.ms'],
      requestTimeoutMs: producer['request.timeout.ms'],
      transactionTimeoutMs: producer['transaction.timeout.ms'],
    },
    consumer: {
      maxPollRecords: consumer['max.poll.records'],
      maxPollIntervalMs: consumer['max.poll.interval.ms'],
      fetchMaxWaitMs: consumer['fetch.max.wait.ms'],
      fetchMaxBytes: consumer['fetch.max.bytes'],
      maxPartitionFetchBytes: consumer['max.partition.fetch.bytes'],
    },
    replicationFactor,
    topicConfig: Object.fromEntries(Object.entries(topicConfig).map(([key, value]) => [key, String(value)])),
  }
}

type TlsKeys = NonNullable<NonNullable<HubConfig['log']['kafka']>['tls']>

const certificates = ({ ca, cert, key, verify }: TlsKeys): KafkaTls => ({
  ca: readPem('log.tls.ca', ca),
  cert: readPem('log.tls.cert', cert),
  key: readPem('log.tls.key', key),
  rejectUnauthorized: verify,
})
