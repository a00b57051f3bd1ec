/**
 * The client (kafkajs), made as the settings say: TLS, login, codecs, its log lines as ours. Its retries are short, since the task
 * that fails is opened anew anyway, and then knows what became of its last transaction.
 */
import kafkajs, { type Kafka, type KafkaConfig, type RetryOptions, type SASLOptions } from 'kafkajs'
import { compressFrameSync, decompressFrameSync } from 'lz4-napi'
import snappy from 'snappy'
import type { Log } from '../../connector.ts'
import { ConnectorError } from '../../errors.ts'
import { missingCompression, zstd } from '../codec.ts'
import type { KafkaCompression, KafkaSettings } from './settings.ts'

const { CompressionCodecs, CompressionTypes, Kafka: Client, logLevel } = kafkajs

/** Of producers: what to repeat is decided by who knows what the repetition would mean. */
export const NO_RETRIES: RetryOptions = { retries: 0 }
const RETRIES: RetryOptions = { initialRetryTime: 100, multiplier: 2, maxRetryTime: 1_000, retries: 4 }

/** What the client hands to a codec: its encoder of the records. */
interface Encoded {
  readonly buffer: Buffer
}
const codec = (pack: (raw: Buffer) => Buffer, open: (packed: Buffer) => Buffer) => () => ({
  compress: async ({ buffer }: Encoded) => pack(buffer),
  decompress: async (packed: Buffer) => open(packed),
})

// The client's registry is one for the process.
CompressionCodecs[CompressionTypes.LZ4] = codec(
  raw => compressFrameSync(raw) as Buffer,
  packed => decompressFrameSync(packed) as Buffer,
)
// One block without the frames of the Java client, which reads either.
CompressionCodecs[CompressionTypes.Snappy] = codec(
  raw => snappy.compressSync(raw),
  packed => snappy.uncompressSync(packed) as Buffer,
)
if (zstd) CompressionCodecs[CompressionTypes.ZSTD] = codec(zstd.pack, zstd.open)

const TYPES: Readonly<Record<KafkaCompression, number>> = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

/** The number the client knows a compression by. Throws `config` for one that this machine has no codec for. */
export function compressionType(compression: KafkaCompression): number {
  if (compression !== 'zstd' || zstd) return TYPES[compression]
  throw new ConnectorError('config', `compression.type zstd ${missingCompression('zstd')}`, {
    hint: 'Use lz4, gzip, snappy or none.',
  })
}

export function kafkaClient(settings: KafkaSettings, log: Log): Kafka {
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

function tlsOf({ tls }: KafkaSettings): NonNullable<KafkaConfig['ssl']> | null {
  if (!tls) return null
  const { ca, cert, key, rejectUnauthorized } = tls
  return {
    rejectUnauthorized,
    ...(ca === null ? {} : { ca: [ca] }),
    ...(cert === null ? {} : { cert }),
    ...(key === null ? {} : { key }),
  }
}
