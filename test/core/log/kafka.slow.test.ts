/** A log on a real Kafka of one broker, of three, and of one that asks who we are: the kits of logs. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe } from 'vitest'
import type { KafkaCompression } from '../../../core/kafka/settings.ts'
import { openKafkaEntryLog } from '../../../core/log/kafka/log.ts'
import type { KafkaSettings } from '../../../core/log/kafka/settings.ts'
import { missingCompression } from '../../../core/log/log.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { entryLogConformance } from '../../conform/entry-log.ts'
import { changeLogConformance } from '../../conform/log.ts'
import { type KafkaCluster, type KafkaOptions, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { openLog, settingsOf, silentLog } from './kafka-settings.ts'

const missing = missingForKafka()
/** The kit has a row of 10 MB. */
const BIG = { topicConfig: { 'max.message.bytes': String(32 << 20) } }

interface Case {
  readonly name: string
  readonly cluster: KafkaOptions
  readonly compressions: readonly KafkaCompression[]
  settings(cluster: KafkaCluster, prefix: string): KafkaSettings
}

const CASES: readonly Case[] = [
  {
    name: 'Kafka, one broker',
    cluster: {},
    compressions: [
      'lz4',
      'gzip',
      'none',
      'snappy',
      ...(missingCompression('zstd') ? [] : (['zstd'] as const)),
    ],
    settings: ({ bootstrap }, prefix) => settingsOf(bootstrap, prefix, BIG),
  },
  {
    name: 'Kafka, three brokers',
    cluster: { brokers: 3 },
    compressions: ['lz4'],
    settings: ({ bootstrap }, prefix) =>
      settingsOf(bootstrap, prefix, {
        replicationFactor: 3,
        topicConfig: { ...BIG.topicConfig, 'min.insync.replicas': '2' },
      }),
  },
  {
    name: 'Kafka, TLS and SCRAM',
    cluster: { secure: true },
    compressions: ['lz4'],
    settings: ({ bootstrap, ca, users }, prefix) => {
      const { username, password } = users!.admin
      return settingsOf(bootstrap, prefix, {
        ...BIG,
        tls: { ca: readFileSync(ca!, 'utf8'), cert: null, key: null, rejectUnauthorized: true },
        sasl: { mechanism: 'scram-sha-512', username, password },
      })
    },
  },
]

for (const { name, cluster: options, compressions, settings } of CASES)
  describe.skipIf(missing !== null)(missing === null ? name : `${name}: ${missing}`, () => {
    let cluster: KafkaCluster
    beforeAll(async () => {
      cluster = await startKafka(options)
    })
    afterAll(() => cluster?.[Symbol.asyncDispose]())

    for (const compression of compressions) {
      const target = <L>(open: (settings: KafkaSettings) => Promise<L>) => {
        const topicPrefix = `t${randomUUID().slice(0, 8)}.`
        const { producer, ...rest } = settings(cluster, topicPrefix)
        const own = { ...rest, producer: { ...producer, compression } }
        return { topicPrefix, open: () => open(own), async [Symbol.asyncDispose]() {} }
      }
      const shared = { name: `${name}, ${compression}`, hasMarkers: true, settleMs: 5_000 }
      changeLogConformance({
        ...shared,
        target: async partitions => target(own => openLog(own, { partitions })),
      })
      entryLogConformance({
        ...shared,
        target: async () =>
          target(own =>
            openKafkaEntryLog({
              settings: own,
              clock: realClock,
              log: silentLog,
              pipeline: 'kit',
              compression: 'lz4',
            }),
          ),
      })
    }
  })
