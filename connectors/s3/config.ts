/** The options of a bucket. */
import { z } from 'zod'

const access = {
  region: z.string().min(1).optional().meta({
    title: 'Region',
    description: 'As eu-north-1. Default: that of the environment, or us-east-1 with an `endpoint`.',
  }),
  endpoint: z
    .string()
    .refine(text => URL.canParse(text) && /^https?:/.test(text), 'must begin with http:// or https://')
    .optional()
    .meta({
      title: 'Endpoint',
      description: 'Of another store than AWS: MinIO, Ceph, R2, Google Cloud Storage, s3proxy.',
    }),
  path_style: z.boolean().optional().meta({
    title: 'Path style',
    description: 'Whether the bucket stands in the path instead of the host. Default: with an `endpoint`.',
  }),
  access_key_id: z.string().min(1).optional().meta({
    title: 'Access key',
    description: "Default: what AWS's tools find in the environment, files, or the machine's or pod's role.",
  }),
  secret_access_key: z
    .string()
    .min(1)
    .optional()
    .meta({ title: 'Secret key', description: 'Of the access key.', secret: true }),
  session_token: z
    .string()
    .min(1)
    .optional()
    .meta({ title: 'Session token', description: 'Of temporary keys.', secret: true }),
} as const

const requests = {
  timeout_ms: z.int().min(100).max(280_000).default(10_000).meta({
    title: 'Timeout',
    description: 'Of one request that gets no answer.',
  }),
  attempts: z.int().min(1).max(10).default(3).meta({
    title: 'Attempts',
    description: 'Of one request, before the task is begun again.',
  }),
  checksums: z.boolean().default(true).meta({
    title: 'Checksums',
    description: 'CRC32 beside what is sent. Off for stores that do not know it.',
  }),
} as const

export const place = {
  bucket: z.string().min(1).meta({ title: 'Bucket', description: 'Where objects go. It must be there.' }),
  prefix: z
    .string()
    .regex(/^(?!\/)(?!.*\/$).*$/s, 'must not begin or end with /')
    .default('')
    .meta({ title: 'Prefix', description: 'Before the names of all objects, as lake/shop.' }),
  ...access,
  storage_class: z.string().min(1).optional().meta({
    title: 'Storage class',
    description: 'Of the objects, as STANDARD_IA or INTELLIGENT_TIERING.',
  }),
  tags: z
    .record(z.string().min(1).max(128), z.string().max(256))
    .default({})
    .meta({ title: 'Tags', description: 'Of the objects, ten at most.' }),
  encryption: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']).optional().meta({
    title: 'Encryption',
    description: "By the store. Default: the bucket's own rule.",
  }),
  kms_key: z.string().min(1).optional().meta({
    title: 'KMS key',
    description: 'Id or ARN of the key, with `aws:kms`.',
  }),
  part_bytes: z.int().min(5_242_880).max(1_000_000_000).default(5_242_880).meta({
    title: 'Part',
    description: 'A larger object is sent in parts of so many bytes.',
  }),
  parallel: z.int().min(1).max(64).default(4).meta({
    title: 'Requests in flight',
    description: 'Objects that a task writes at the same time.',
  }),
  ...requests,
} as const

const schema = z.strictObject(place)
export type S3Config = z.output<typeof schema>

export const sourcePlace = {
  bucket: z.string().min(1).meta({ title: 'Bucket', description: 'Where objects are.' }),
  prefix: place.prefix.meta({
    title: 'Prefix',
    description: 'A folder, as lake/shop: only what is below it is read. Default: the whole bucket.',
  }),
  ...access,
  timeout_ms: requests.timeout_ms.meta({
    title: 'Timeout',
    description: 'Of one request that gets no answer, or no more of it.',
  }),
  attempts: requests.attempts,
  checksums: requests.checksums.meta({
    title: 'Checksums',
    description: 'Whether what is sent has a CRC32. Off for stores that do not know it.',
  }),
} as const
const sourceSchema = z.strictObject(sourcePlace)
export type S3SourceConfig = z.output<typeof sourceSchema>

interface Place {
  readonly bucket: string
  readonly prefix: string
}

export const prefixOf = ({ prefix }: Place): string => (prefix === '' ? '' : `${prefix}/`)

export const nameOf = ({ bucket, prefix }: Place): string =>
  `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`
