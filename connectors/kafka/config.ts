/** Options of the connection to a cluster, of source and sink, and what the client makes of them. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { ConnectorError } from '../../core/errors.ts'
import { registrySchema } from '../../core/format/registry.ts'
import { serializeOptions } from '../../core/format/serialize.ts'
import { badTableTemplate } from '../../core/format/template.ts'
import { type ClusterSettings, KAFKA_COMPRESSIONS, SASL_MECHANISMS } from '../../core/kafka/settings.ts'

const pem = (title: string, description: string) =>
  z
    .string()
    .min(1)
    .optional()
    .meta({ title, description: `${description} A PEM file.` })

export const connection = {
  brokers: z
    .array(z.string().min(1))
    .min(1)
    .meta({ title: 'Brokers', description: 'host:port of some brokers of the cluster.' }),
  tls: z
    .strictObject({
      ca: pem('Authority', 'Who signed the certificates of the brokers.'),
      cert: pem('Certificate', 'Our own, where the brokers ask for one.'),
      key: pem('Key', 'Of our certificate.'),
      verify: z.boolean().default(true).meta({
        title: 'Verify',
        description: 'false takes any certificate: for a try only.',
      }),
    })
    .optional()
    .meta({ title: 'TLS', description: '`{}` for TLS with what Node.js trusts.' }),
  sasl: z
    .strictObject({
      mechanism: z
        .enum(SASL_MECHANISMS)
        .meta({ title: 'Mechanism', description: 'How the password is shown.' }),
      username: z.string().min(1).meta({ title: 'User', description: 'Name of the user.' }),
      password: z.string().min(1).meta({ title: 'Password', description: 'Of the user.', secret: true }),
    })
    .optional()
    .meta({ title: 'SASL', description: 'How to log in.' }),
} as const
const connectionSchema = z.strictObject(connection)
export type ConnectionConfig = z.output<typeof connectionSchema>

export const sinkConfig = z
  .strictObject({
    ...connection,
    topic: z
      .string()
      .min(1)
      .superRefine((text, context) => {
        const bad = badTableTemplate(text)
        if (bad) context.addIssue({ code: 'custom', message: bad })
      })
      .default('${schema}.${table}')
      .meta({
        title: 'Topic',
        description:
          'Where changes go; `${table}`, `${schema}` and `${topic}` are filled. Made when missing.',
      }),
    ...serializeOptions,
    key_field: z.string().min(1).optional().meta({
      title: 'Key field',
      description: 'A column whose text is the key as it is, instead of the key columns: for mirrors.',
    }),
    value_field: z.string().min(1).optional().meta({
      title: 'Value field',
      description: 'A column whose text is the value as it is, null for none: for mirrors.',
    }),
    headers: z.record(z.string().min(1), z.string()).default({}).meta({
      title: 'Headers',
      description: 'Of each record, beside millrace.version and millrace.op; `${…}` is filled as in `topic`.',
    }),
    partitions: z.int().min(1).max(10_000).default(1).meta({
      title: 'Partitions',
      description: 'Of topics that are made. Keys are placed as Kafka’s own clients do.',
    }),
    replication_factor: z.int().min(1).max(100).optional().meta({
      title: 'Replicas',
      description: 'Of topics that are made. Default: the brokers’.',
    }),
    topic_config: z.record(z.string().min(1), z.string()).default({}).meta({
      title: 'Topic settings',
      description: 'Of topics that are made, by Kafka’s names: `cleanup.policy: compact` for the row view.',
    }),
    compression: z.enum(KAFKA_COMPRESSIONS).default('lz4').meta({
      title: 'Compression',
      description: 'Of record batches.',
    }),
    batch_bytes: z.int().min(1_000).max(100_000_000).default(900_000).meta({
      title: 'Batch',
      description: 'Bytes of a record batch at most; `max.message.bytes` of the topic holds in any case.',
    }),
    transactional_id: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,100}$/, 'must be of letters, digits, `.`, `_` and `-`')
      .default('millrace')
      .meta({
        title: 'Transactional id',
        description:
          'What transactional ids begin with; `.sink.<task>` follows. Another for each hub that writes to the cluster.',
      }),
    position_topic: z.string().min(1).default('millrace.positions').meta({
      title: 'Position topic',
      description:
        'A compacted topic of the cluster that holds where each task stands; it moves with the records.',
    }),
  })
  .superRefine(({ format, registry, value_field }, context) => {
    if (format !== 'json' && !registry)
      context.addIssue({ code: 'custom', path: ['registry'], message: `is needed for format ${format}` })
    if (value_field !== undefined && format !== 'json')
      context.addIssue({ code: 'custom', path: ['value_field'], message: 'is for format json only' })
  })
export type KafkaSinkConfig = z.output<typeof sinkConfig>

export const sourceConfig = z
  .strictObject({
    ...connection,
    topics: z.array(z.string().min(1)).min(1).meta({
      title: 'Topics',
      description: 'By name. Each is a table of the schema `kafka`. All partitions are read.',
    }),
    format: z.enum(['json', 'avro', 'protobuf', 'text']).default('json').meta({
      title: 'Format',
      description:
        'json: values are JSON objects, whose members are the columns; no value deletes the key, and at one that is no object the source halts. avro, protobuf: values in the wire format of a schema registry, each read by the schema it was written with; keys in it, or text. text: the columns are key, value, headers, partition and offset, as they stand.',
    }),
    registry: registrySchema
      .pick({ url: true, username: true, password: true })
      .optional()
      .meta({ title: 'Schema registry', description: 'For avro and protobuf, and needed there.' }),
    key: z.array(z.string().min(1)).min(1).optional().meta({
      title: 'Key',
      description:
        'Members of the value that make the key of a row. Default: the members of a key that is an object, the key as text under `key`, or partition and offset where there is none.',
    }),
  })
  .superRefine(({ format, registry }, context) => {
    if ((format === 'avro' || format === 'protobuf') && !registry)
      context.addIssue({ code: 'custom', path: ['registry'], message: `is needed for format ${format}` })
  })
export type KafkaSourceConfig = z.output<typeof sourceConfig>

const CLIENT_ID = 'millrace'

/** What the client is told of a connection, with what it needs beside. */
export function settingsOf(
  { brokers, tls, sasl }: ConnectionConfig,
  over: Partial<Pick<KafkaSinkConfig, 'batch_bytes' | 'replication_factor'>> = {},
): ClusterSettings {
  return {
    hub: CLIENT_ID,
    brokers,
    tls: tls
      ? {
          ca: readPem('tls.ca', tls.ca),
          cert: readPem('tls.cert', tls.cert),
          key: readPem('tls.key', tls.key),
          rejectUnauthorized: tls.verify,
        }
      : null,
    sasl: sasl ?? null,
    producer: {
      batchSizeBytes: over.batch_bytes ?? 900_000,
      lingerMs: 0,
      compression: null,
      retryBackoffMs: 100,
      requestTimeoutMs: 10_000,
      transactionTimeoutMs: 10_000,
    },
    consumer: {
      maxPollRecords: 5_000,
      maxPollIntervalMs: 300_000,
      fetchMaxWaitMs: 200,
      fetchMaxBytes: 16 << 20,
      maxPartitionFetchBytes: 2 << 20,
    },
    replicationFactor: over.replication_factor ?? -1,
  }
}

function readPem(name: string, path: string | undefined): string | null {
  if (path === undefined) return null
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConnectorError('config', `${name}: ${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
      hint: 'It is the path of a PEM file.',
    })
  }
}
