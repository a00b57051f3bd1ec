/**
 * The client (kafkajs), made as the settings say: TLS, login, codecs, its log lines as ours. Its retries are short, since the task
 * that fails is opened anew anyway, and then knows what became of its last transaction.
 */
import { gzipSync } from 'node:zlib'
import kafkajs, { type Kafka, type KafkaConfig, type RetryOptions, type SASLOptions } from 'kafkajs'
import { compressFrameSync, decompressFrameSync } from 'lz4-napi'
import snappy from 'snappy'
import type { Log } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import { missingZstd, zstd } from '../zstd.ts'
import type { BatchCodec } from './record-batch.ts'
import type { ClusterSettings, KafkaCompression } from './settings.ts'

export type { Admin, Kafka, KafkaMessage } from 'kafkajs'

const { CompressionCodecs, CompressionTypes, Kafka: Client, logLevel } = kafkajs

const RETRIES: RetryOptions = { initialRetryTime: 100, multiplier: 2, maxRetryTime: 1_000, retries: 4 }

type Pack = (raw: Buffer) => Buffer
const lz4: Pack = raw => compressFrameSync(raw) as Buffer
const snappyBlock: Pack = raw => snappy.compressSync(raw) // without the frames of the Java client, which reads either
/** Level 3 as in log/codec.ts: one thread reads the source and packs. */
const gzip: Pack = raw => gzipSync(raw, { level: 3 })

/** What the client hands to a codec: its encoder of the records. */
interface Encoded {
  readonly buffer: Buffer
}
const codec = (pack: Pack, open: Pack) => () => ({
  compress: async ({ buffer }: Encoded) => pack(buffer),
  decompress: async (packed: Buffer) => open(packed),
})

// The client's registry is one for the process; its consumers open by it.
CompressionCodecs[CompressionTypes.LZ4] = codec(lz4, packed => decompressFrameSync(packed) as Buffer)
CompressionCodecs[CompressionTypes.Snappy] = codec(
  snappyBlock,
  packed => snappy.uncompressSync(packed) as Buffer,
)
if (zstd) CompressionCodecs[CompressionTypes.ZSTD] = codec(zstd.pack, zstd.open)

const CODECS: Readonly<Record<KafkaCompression, BatchCodec>> = {
  none: { type: CompressionTypes.None, pack: null },
  gzip: { type: CompressionTypes.GZIP, pack: gzip },
  snappy: { type: CompressionTypes.Snappy, pack: snappyBlock },
  lz4: { type: CompressionTypes.LZ4, pack: lz4 },
  zstd: { type: CompressionTypes.ZSTD, pack: zstd?.pack ?? null },
}

/** How record batches are packed. Throws `config` for a compression that this machine has no codec for. */
export function batchCodec(compression: KafkaCompression): BatchCodec {
  if (compression !== 'zstd' || zstd) return CODECS[compression]
  throw new ConnectorError('config', `compression.type zstd ${missingZstd}`, {
    hint: 'Use lz4, gzip, snappy or none.',
  })
}

export function kafkaClient(settings: ClusterSettings, log: Log): Kafka {
  const { brokers, sasl, producer, hub } = settings
  const config: KafkaConfig = {
    clientId: hub,
    brokers: [...brokers],
    connectionTimeout: 3_000,
    authenticationTimeout: 5_000,
    requestTimeout: producer.requestTimeoutMs,
    enforceRequestTimeout: true,
    retry: { ...RETRIES, initialRetryTime: producer.retryBackoffMs },
    logLevel: logLevel.WARN,
    // Each of its warnings is followed by an error of ours, or by success: people need not read both.
    logCreator: () => entry => log.debug({ kafka: entry.namespace }, entry.log.message),
  }
  const tls = tlsOf(settings)
  if (tls) config.ssl = tls
  if (sasl) config.sasl = { ...sasl } as SASLOptions
  return new Client(config)
}

function tlsOf({ tls }: ClusterSettings): NonNullable<KafkaConfig['ssl']> | null {
  if (!tls) return null
  const { ca, cert, key, rejectUnauthorized } = tls
  return {
    rejectUnauthorized,
    ...(ca === null ? {} : { ca: [ca] }),
    ...(cert === null ? {} : { cert }),
    ...(key === null ? {} : { key }),
  }
}
