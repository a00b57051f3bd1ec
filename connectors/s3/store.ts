/** Objects in a bucket. What is larger than one part goes in parts, each sent again by itself when it fails. */
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { ConnectorError } from '../../core/errors.ts'
import type { Body, Mark, ObjectStore } from '../object/store.ts'
import { nameOf, prefixOf, type S3Config, type S3SourceConfig } from './config.ts'
import { s3Error, statusOf } from './error.ts'

const MARK = 'millrace'
const markText = (mark: Mark): string => JSON.stringify(mark)

interface State {
  readonly client: S3Client
  readonly config: S3Config
  readonly name: string
  readonly signal: AbortSignal
}

export function refuseHalfKeys({ access_key_id: id, secret_access_key: secret }: S3SourceConfig): void {
  if ((id === undefined) === (secret === undefined)) return
  throw new ConnectorError('config', 'access_key_id and secret_access_key go together', {
    hint: "Give both, or none for what AWS's tools find in the environment.",
  })
}

export function connect(config: S3SourceConfig & { readonly parallel: number }): S3Client {
  const { region, endpoint, path_style, access_key_id, secret_access_key, session_token } = config
  return new S3Client({
    region: region ?? (endpoint === undefined ? undefined : 'us-east-1'),
    ...(endpoint === undefined ? {} : { endpoint }),
    forcePathStyle: path_style ?? endpoint !== undefined,
    ...(access_key_id === undefined
      ? {}
      : {
          credentials: {
            accessKeyId: access_key_id,
            secretAccessKey: secret_access_key ?? '',
            ...(session_token === undefined ? {} : { sessionToken: session_token }),
          },
        }),
    maxAttempts: config.attempts,
    requestChecksumCalculation: config.checksums ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED',
    responseChecksumValidation: config.checksums ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: Math.min(5_000, config.timeout_ms),
      requestTimeout: config.timeout_ms,
      throwOnRequestTimeout: true,
      httpAgent: { maxSockets: 2 * config.parallel },
      httpsAgent: { maxSockets: 2 * config.parallel },
    },
  } as S3ClientConfig)
}

export function s3Store(client: S3Client, config: S3Config, signal: AbortSignal): ObjectStore {
  const state: State = { client, config, name: nameOf(config), signal }
  return {
    name: state.name,
    parallel: config.parallel,
    unfit: name => unfit(prefixOf(config) + name),
    create: (name, bytes) => createOnly(state, name, bytes, {}),
    read: name => read(state, name),
    put: (name, body, mark) => put(state, name, body, mark),
    isSame: (name, _, mark) => isSame(state, name, mark),
    list: (folder, after, most) => list(state, folder, after, most),
    remove: name => remove(state, name),
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}

const at = ({ config }: State, name: string) => ({ Bucket: config.bucket, Key: prefixOf(config) + name })

const MOST_KEY_BYTES = 1_024

function unfit(key: string): string | null {
  const bytes = Buffer.byteLength(key)
  return bytes <= MOST_KEY_BYTES
    ? null
    : `${key.slice(0, 60)}… has ${bytes} bytes, and a key of S3 ${MOST_KEY_BYTES} at most`
}

/** Of objects that hold records. */
const settings = ({ config }: State, mark: Mark) => ({
  Metadata: { [MARK]: markText(mark) },
  ...(config.storage_class === undefined ? {} : { StorageClass: config.storage_class as 'STANDARD' }),
  ...(Object.keys(config.tags).length === 0
    ? {}
    : { Tagging: new URLSearchParams(config.tags as Record<string, string>).toString() }),
})

const encryption = ({ config: { encryption: by, kms_key } }: State) =>
  by === undefined
    ? {}
    : { ServerSideEncryption: by, ...(kms_key === undefined ? {} : { SSEKMSKeyId: kms_key }) }

async function createOnly(state: State, name: string, bytes: Buffer, more: object): Promise<boolean> {
  const { client, signal } = state
  try {
    await client.send(
      new PutObjectCommand({
        ...at(state, name),
        ...encryption(state),
        ...more,
        Body: bytes,
        IfNoneMatch: '*',
      }),
      { abortSignal: signal },
    )
    return true
  } catch (error) {
    if (statusOf(error) === 412) return false
    throw s3Error(error, `writing ${name} to ${state.name}`)
  }
}

async function read(state: State, name: string): Promise<Buffer | null> {
  try {
    const { Body } = await state.client.send(new GetObjectCommand(at(state, name)), {
      abortSignal: state.signal,
    })
    return Buffer.from(await Body!.transformToByteArray())
  } catch (error) {
    if ((error as Error).name === 'NoSuchKey') return null
    throw s3Error(error, `reading ${name} of ${state.name}`)
  }
}

async function isSame(state: State, name: string, mark: Mark): Promise<boolean | null> {
  try {
    const { Metadata } = await state.client.send(new HeadObjectCommand(at(state, name)), {
      abortSignal: state.signal,
    })
    return Metadata?.[MARK] === markText(mark)
  } catch (error) {
    if (statusOf(error) === 404) return null
    throw s3Error(error, `looking at ${name} of ${state.name}`)
  }
}

async function list(state: State, folder: string, after?: string, most?: number): Promise<string[]> {
  const { client, config, signal } = state
  const prefix = prefixOf(config)
  const names: string[] = []
  let token: string | undefined
  try {
    do {
      const page = await client.send(
        new ListObjectsV2Command({
          Bucket: config.bucket,
          Prefix: prefix + folder,
          ...(after === undefined ? {} : { StartAfter: prefix + after }),
          ...(most === undefined ? {} : { MaxKeys: most }),
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        { abortSignal: signal },
      )
      for (const { Key } of page.Contents ?? []) if (Key) names.push(Key.slice(prefix.length))
      token = most === undefined ? page.NextContinuationToken : undefined
    } while (token !== undefined)
  } catch (error) {
    throw s3Error(error, `listing ${state.name}`)
  }
  return names
}

async function remove(state: State, name: string): Promise<void> {
  try {
    await state.client.send(new DeleteObjectCommand(at(state, name)), { abortSignal: state.signal })
  } catch (error) {
    if (statusOf(error) !== 404) throw s3Error(error, `removing ${name} from ${state.name}`)
  }
}

/** A body in parts of one size, the last one smaller. */
async function* partsOf(body: Body, size: number): AsyncGenerator<Buffer> {
  let gathered: Buffer[] = []
  let bytes = 0
  for await (let chunk of body()) {
    while (bytes + chunk.length >= size) {
      gathered.push(chunk.subarray(0, size - bytes))
      chunk = chunk.subarray(size - bytes)
      yield Buffer.concat(gathered)
      gathered = []
      bytes = 0
    }
    if (chunk.length === 0) continue
    gathered.push(chunk)
    bytes += chunk.length
  }
  if (bytes > 0) yield Buffer.concat(gathered)
}

async function put(state: State, name: string, body: Body, mark: Mark): Promise<'made' | 'exists'> {
  const parts = partsOf(body, state.config.part_bytes)
  const first = await parts.next()
  const second = first.done ? first : await parts.next()
  if (second.done) {
    const whole = first.done ? Buffer.alloc(0) : first.value
    return (await createOnly(state, name, whole, settings(state, mark))) ? 'made' : 'exists'
  }
  async function* all() {
    yield first.value as Buffer
    yield second.value as Buffer
    yield* parts
  }
  return putInParts(state, name, all(), mark)
}

async function putInParts(
  state: State,
  name: string,
  parts: AsyncIterable<Buffer>,
  mark: Mark,
): Promise<'made' | 'exists'> {
  const { client, signal } = state
  const place = at(state, name)
  let UploadId: string | undefined
  try {
    const made = await client.send(
      new CreateMultipartUploadCommand({ ...place, ...encryption(state), ...settings(state, mark) }),
      { abortSignal: signal },
    )
    UploadId = made.UploadId!
    const done: CompletedPart[] = []
    for await (const Body of parts) {
      const PartNumber = done.length + 1
      const { ETag, ChecksumCRC32 } = await client.send(
        new UploadPartCommand({ ...place, UploadId, PartNumber, Body }),
        { abortSignal: signal },
      )
      done.push({ ETag, PartNumber, ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }) })
    }
    await client.send(
      new CompleteMultipartUploadCommand({
        ...place,
        UploadId,
        IfNoneMatch: '*',
        MultipartUpload: { Parts: done },
      }),
      { abortSignal: signal },
    )
    return 'made'
  } catch (error) {
    if (UploadId !== undefined) await abandon(state, name, UploadId)
    if (statusOf(error) === 412) return 'exists'
    throw s3Error(error, `writing ${name} to ${state.name}`)
  }
}

/** What stays of it costs money until the bucket's rules take it away, and no more: what failed before is what is told. */
async function abandon(state: State, name: string, UploadId: string): Promise<void> {
  await state.client.send(new AbortMultipartUploadCommand({ ...at(state, name), UploadId })).catch(() => {})
}
