/** Objects of a bucket as a source reads them: listed by pages, read by ranges of the object that was listed and of no other. */
import {
  GetObjectCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  type S3Client,
} from '@aws-sdk/client-s3'
import { ConnectorError } from '../../core/errors.ts'
import type { Found, ReadableStore } from '../object/store.ts'
import { nameOf, prefixOf, type S3SourceConfig } from './config.ts'
import { s3Error, statusOf } from './error.ts'
import { connect } from './store.ts'

interface State {
  readonly client: S3Client
  readonly config: S3SourceConfig
  readonly name: string
  readonly signal: AbortSignal
}

/** Ranges and a listing at the same time. */
const PARALLEL = 4

export function s3Reading(config: S3SourceConfig, signal: AbortSignal): ReadableStore {
  const client = connect({ ...config, parallel: PARALLEL })
  const state: State = { client, config, name: nameOf(config), signal }
  return {
    name: state.name,
    list: () => list(state),
    look: name => look(state, name),
    range: (object, from, length) => range(state, object, from, length),
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}

async function* list({ client, config, name, signal }: State): AsyncGenerator<readonly Found[]> {
  const prefix = prefixOf(config)
  let token: string | undefined
  do {
    const page = await client
      .send(
        new ListObjectsV2Command({
          Bucket: config.bucket,
          Prefix: prefix,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        { abortSignal: signal },
      )
      .catch(error => {
        throw s3Error(error, `listing ${name}`)
      })
    yield (page.Contents ?? []).flatMap(({ Key, Size, LastModified, ETag }) =>
      Key === undefined || Key.endsWith('/') // a folder, as some tools make them
        ? []
        : [
            {
              name: Key.slice(prefix.length),
              size: Size ?? 0,
              modifiedMs: secondsOf(LastModified),
              version: ETag ?? '',
            },
          ],
    )
    token = page.NextContinuationToken
  } while (token !== undefined)
}

/** In ms: a listing of some stores has more than the header of an object, and both must agree. */
const secondsOf = (time: Date | undefined): number => Math.floor((time?.getTime() ?? 0) / 1_000) * 1_000

const at = ({ config }: State, name: string) => ({ Bucket: config.bucket, Key: prefixOf(config) + name })

async function look(state: State, name: string): Promise<Found | null> {
  let head: HeadObjectCommandOutput
  try {
    head = await state.client.send(new HeadObjectCommand(at(state, name)), { abortSignal: state.signal })
  } catch (error) {
    if (statusOf(error) === 404) return null
    throw s3Error(error, `looking at ${name} of ${state.name}`)
  }
  const { ContentLength, LastModified, ETag } = head
  return { name, size: ContentLength ?? 0, modifiedMs: secondsOf(LastModified), version: ETag ?? '' }
}

async function range(
  state: State,
  { name, version }: Found,
  from: number,
  length: number,
): Promise<Buffer | null> {
  const { client, config, signal } = state
  const what = `reading ${name} of ${state.name}`
  const silence = startSilence(config.timeout_ms, signal)
  try {
    const { Body, ETag } = await client.send(
      new GetObjectCommand({
        ...at(state, name),
        Range: `bytes=${from}-${from + length - 1}`,
        ...(version === '' ? {} : { IfMatch: version }),
      }),
      { abortSignal: silence.signal },
    )
    const chunks: Buffer[] = []
    for await (const chunk of Body as AsyncIterable<Buffer>) {
      silence.heard()
      chunks.push(chunk)
    }
    if (version !== '' && ETag !== undefined && ETag !== version) return null
    const bytes = Buffer.concat(chunks)
    if (bytes.length === length) return bytes
    throw new ConnectorError('unavailable', `${what}: ${bytes.length} bytes came instead of ${length}`)
  } catch (error) {
    if (statusOf(error) === 412 || (error as Error).name === 'NoSuchKey') return null
    if (silence.isOver() && !signal.aborted)
      throw new ConnectorError('unavailable', `${what}: nothing came for ${config.timeout_ms} ms`, {
        cause: error,
      })
    throw s3Error(error, what)
  } finally {
    silence.end()
  }
}

/** Aborts when nothing was heard for so long: the client's own timeout ends with the answer's head. */
function startSilence(ms: number, outer: AbortSignal) {
  const controller = new AbortController()
  const stop = () => controller.abort()
  let isOver = false
  const timer = setTimeout(() => {
    isOver = true
    stop()
  }, ms)
  outer.addEventListener('abort', stop, { once: true })
  if (outer.aborted) stop()
  return {
    signal: controller.signal,
    heard: () => void timer.refresh(),
    isOver: () => isOver,
    end() {
      clearTimeout(timer)
      outer.removeEventListener('abort', stop)
    },
  }
}
