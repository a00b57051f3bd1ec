/** `log` of hub.yaml: the embedded log, or Kafka with its own settings under its own names. */
import { z } from 'zod'
import { sizeSchema } from './schema.ts'

const path = (title: string, description: string) =>
  z
    .string()
    .min(1)
    .optional()
    .meta({ title, description: `${description} A PEM file; the path is from the current directory.` })

const tls = z
  .strictObject({
    ca: path('Authority', 'Who signed the certificates of the brokers. Default: those that Node.js trusts.'),
    cert: path('Certificate', 'Our own, where the brokers ask for one.'),
    key: path('Key', 'Of our certificate.'),
    verify: z
      .boolean()
      .default(true)
      .meta({ title: 'Verify', description: 'false takes any certificate: for a try only.' }),
  })
  .optional()
  .meta({ title: 'TLS', description: 'Kafka only. `{}` for TLS with what Node.js trusts.' })

const sasl = z
  .strictObject({
    mechanism: z
      .enum(['plain', 'scram-sha-256', 'scram-sha-512'])
      .meta({ title: 'Mechanism', description: 'How the password is shown.' }),
    username: z.string().min(1).meta({ title: 'User', description: 'Name of the user.' }),
    password: z.string().min(1).meta({ title: 'Password', description: 'Of the user.', secret: true }),
  })
  .optional()
  .meta({ title: 'SASL', description: 'Kafka only. How to log in.' })

const whole = (least: number, most: number, standard: number, title: string, description: string) =>
  z.int().min(least).max(most).default(standard).meta({ title, description })

const producer = z
  .strictObject({
    acks: z.enum(['all']).default('all').meta({
      title: 'Acks',
      description: 'Everything is written in transactions, which need all replicas in step to have it.',
    }),
    'batch.size': whole(
      1_000,
      100_000_000,
      900_000,
      'Batch',
      'Bytes of a record batch of one partition at most; `max.message.bytes` of the topic holds in any case.',
    ),
    'linger.ms': z.int().min(0).max(10_000).optional().meta({
      title: 'Linger',
      description:
        'How long a dead letter waits for others to share a transaction. Default: `log.linger_ms`.',
    }),
    'compression.type': z.enum(['none', 'gzip', 'snappy', 'lz4', 'zstd']).optional().meta({
      title: 'Compression',
      description: 'Of record batches. Default: `log.compression` of the pipeline.',
    }),
    'retry.backoff.ms': whole(1, 60_000, 100, 'Retry', 'The first wait before a request is sent again.'),
    'request.timeout.ms': whole(100, 600_000, 10_000, 'Timeout', 'How long an answer is waited for.'),
    'transaction.timeout.ms': whole(
      1_000,
      900_000,
      10_000,
      'Transactions',
      'After it the brokers end the transaction of a source task that is gone, and readers go on.',
    ),
  })
  .prefault({})
  .meta({ title: 'Producer', description: "Kafka only; under Kafka's own names." })

const consumer = z
  .strictObject({
    'max.poll.records': whole(
      1,
      1_000_000,
      20_000,
      'Records',
      'In one batch for a sink at most; a sink that wants fewer gets fewer.',
    ),
    'max.poll.interval.ms': whole(
      1_000,
      86_400_000,
      300_000,
      'Interval',
      'How long a reader is given to come back to its group.',
    ),
    'fetch.max.wait.ms': whole(
      1,
      60_000,
      200,
      'Wait',
      'How long the brokers keep a fetch that finds nothing new.',
    ),
    'fetch.max.bytes': whole(1_000, 1_000_000_000, 16 << 20, 'Fetch', 'Bytes of one fetch at most.'),
    'max.partition.fetch.bytes': whole(
      1_000,
      1_000_000_000,
      2 << 20,
      'Partition',
      'Bytes of one partition in one fetch at most.',
    ),
  })
  .prefault({})
  .meta({ title: 'Consumer', description: "Kafka only; under Kafka's own names." })

const count = (title: string, description: string) => z.int().min(1).optional().meta({ title, description })

const topic = z
  .strictObject({
    'replication.factor': count('Replicas', "Of each topic. Default: the brokers'."),
    'min.insync.replicas': count(
      'In step',
      "How many replicas must have a record before it counts. Default: the brokers'.",
    ),
    'max.message.bytes': count('Message', 'The largest record batch, and so the largest record.'),
    'segment.bytes': count('Segment', 'Bytes of a segment, the unit in which old records go.'),
    'segment.ms': count('Segment age', 'After it a segment is closed.'),
    'retention.bytes': count('Size', 'Of a partition at most, whatever its age.'),
  })
  .prefault({})
  .meta({
    title: 'Topic',
    description:
      "Kafka only; settings of topics that are made, under Kafka's own names. Their retention is the pipeline's.",
  })

/** Keys that do nothing where the log is not on Kafka. */
export const KAFKA_ONLY = ['brokers', 'tls', 'sasl', 'topic_prefix', 'producer', 'consumer', 'topic'] as const

export const hubLogSchema = z
  .strictObject({
    type: z.enum(['embedded', 'kafka']).default('embedded').meta({
      title: 'Type',
      description: 'embedded: files in the data directory. kafka: topics of a cluster.',
    }),
    linger_ms: z.int().min(0).max(10_000).default(2).meta({
      title: 'Linger',
      description: 'How long a write waits for others to share one sync to disk.',
    }),
    batch_bytes: sizeSchema.prefault('1MB').meta({
      title: 'Batch',
      description: 'A write that has grown to this size waits no longer.',
    }),
    brokers: z
      .array(z.string().regex(/^[^\s:/]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$/, 'must be host:port'))
      .min(1)
      .optional()
      .meta({ title: 'Brokers', description: 'Kafka only, and then needed: host:port of some brokers.' }),
    topic_prefix: z
      .string()
      .regex(/^[A-Za-z0-9._-]{0,60}$/, 'must be of letters, digits, `.`, `_` and `-`, and at most 60 long')
      .optional()
      .meta({ title: 'Prefix', description: 'Kafka only. In front of the name of every topic.' }),
    tls,
    sasl,
    producer,
    consumer,
    topic,
  })
  .superRefine((log, context) => {
    if (log.type === 'kafka' && !log.brokers)
      context.addIssue({ code: 'custom', path: ['brokers'], message: 'is needed' })
  })
  .prefault({})
  .meta({ title: 'Log', description: 'Where changes are kept between source and sinks.' })

export type HubLog = z.output<typeof hubLogSchema>
