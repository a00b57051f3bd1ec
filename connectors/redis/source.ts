/**
 * Entries of Redis streams as rows. Where we stand is the log's to know (the offset), and entries are read behind it, by nobody's leave: of a
 * group an owner that is none any more could take entries, and the next one would never see them. The consumer group is what Redis
 * and its tools see of us: it is set to what is durable in the log, and hands nothing out.
 *
 *   offset   {"streams":{"orders":{"id":"1700000000000-0","read":17}}}
 *            id: the last entry that stands in the log. read: its number, counted from the stream's first entry ever; null: not known
 *
 * Entries that were trimmed before they were read are seen by their number: a stream says how many were added and how many it
 * holds (Redis 7), and when more are gone than were read, some are lost. Those that somebody deleted by name are gone on purpose.
 */
import { z } from 'zod'
import {
  type Batch,
  type Context,
  defineSource,
  type Offset,
  type Reader,
  type SourcePlan,
} from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { type Client, type Connection, connect, connection, redisError } from './connection.ts'
import { type Entry, rowReader } from './entry.ts'

const config = z.strictObject({
  ...connection,
  streams: z.array(z.string().min(1)).min(1).meta({
    title: 'Streams',
    description:
      'Their keys. Each is a table of the schema `redis`; one that is not there yet is waited for.',
  }),
  key: z.array(z.string().min(1)).min(1).optional().meta({
    title: 'Key',
    description:
      'Fields that make the key of a row, which later entries then overwrite. Default: the entry’s id.',
  }),
  payload: z.string().min(1).optional().meta({
    title: 'Payload',
    description:
      'A field that holds a JSON object, whose members are the columns. Default: the fields, as texts.',
  }),
  group: z.string().min(1).optional().meta({
    title: 'Consumer group',
    description: 'What tools show as the reader. Default: millrace:<pipeline>.',
  }),
  count: z.int().min(1).max(100_000).default(5_000).meta({
    title: 'Count',
    description: 'Entries of one read at most.',
  }),
})
export type RedisSourceConfig = z.output<typeof config>

const BLOCK_MS = 500

interface Place {
  readonly id: string
  readonly read: number | null
}

interface State {
  readonly connection: Connection
  readonly options: RedisSourceConfig
  readonly context: Context
  readonly group: string
  readonly places: Map<string, Place>
  /** Stream → where its group stands. */
  readonly shown: Map<string, string>
  /** Entries have numbers there: from Redis 7 on. null: no stream was seen yet. */
  isNumbered: boolean | null
}

export const redisStreams = defineSource({
  name: 'redis',
  summary: 'Reads entries of Redis streams as rows.',
  config,
  examples: [
    { title: 'Two streams', config: { url: 'redis://localhost:6379', streams: ['orders', 'payments'] } },
    {
      title: 'Events with a JSON payload, the newest of each order',
      config: { url: '${env:REDIS_URL}', streams: ['orders'], payload: 'data', key: ['order_id'] },
    },
  ],
  async check(options, context) {
    await using opened = await connect(options, context.log)
    await lookAt(opened, options)
  },
  async plan(options, context): Promise<SourcePlan> {
    await using opened = await connect(options, context.log)
    const lengths = await lookAt(opened, options)
    const group = groupOf(options, context)
    return {
      tables: options.streams.map((name, i) => ({
        table: { schema: 'redis', name, key: options.key ?? ['id'], columns: [{ name: 'id', type: 'text' }] },
        rows: lengths[i]!,
      })),
      upstream: [{ kind: 'consumer group', name: group, exists: await hasGroup(opened, options, group) }],
    }
  },
  async open(options, from, context): Promise<Reader<ChangeRecord>> {
    const opened = await connect(options, context.log)
    try {
      const state: State = {
        connection: opened,
        options,
        context,
        group: groupOf(options, context),
        places: placesOf(from, options),
        shown: new Map(),
        isNumbered: null,
      }
      for (const stream of options.streams) await join(state, stream)
      return readerOf(state)
    } catch (error) {
      await opened[Symbol.asyncDispose]()
      throw redisError(error, opened.target)
    }
  },
  async drop(options, context) {
    await using opened = await connect(options, context.log)
    const group = groupOf(options, context)
    const dropped: string[] = []
    for (const stream of options.streams)
      try {
        if (Number(await opened.client.xgroup('DESTROY', stream, group)) > 0)
          dropped.push(`consumer group ${group} of ${stream}`)
      } catch (error) {
        if (!/requires the key to exist/.test((error as Error).message))
          throw redisError(error, opened.target)
      }
    return dropped
  },
})

const groupOf = ({ group }: RedisSourceConfig, { pipeline }: Context): string =>
  group ?? `millrace:${pipeline}`

/** Lengths of the streams. Throws `config` for a key that holds something else. */
async function lookAt({ client, target }: Connection, { streams }: RedisSourceConfig): Promise<number[]> {
  try {
    const kinds = await Promise.all(streams.map(stream => client.type(stream)))
    const wrong = streams.find((_, i) => !['stream', 'none'].includes(kinds[i]!))
    if (wrong !== undefined)
      throw new ConnectorError(
        'config',
        `Redis ${target}: ${wrong} is no stream, but a ${kinds[streams.indexOf(wrong)]}`,
      )
    return await Promise.all(streams.map(stream => client.xlen(stream)))
  } catch (error) {
    throw redisError(error, target)
  }
}

async function hasGroup(
  { client }: Connection,
  { streams }: RedisSourceConfig,
  group: string,
): Promise<boolean> {
  for (const stream of streams) {
    const groups = (await client.xinfo('GROUPS', stream).catch(() => [])) as unknown[][]
    if (groups.some(one => one[one.indexOf('name') + 1] === group)) return true
  }
  return false
}

function placesOf(from: Offset | null, { streams }: RedisSourceConfig): Map<string, Place> {
  const known = from === null ? {} : (from as { streams?: Record<string, Place> }).streams
  if (!known)
    throw new ConnectorError('offset_lost', `redis cannot resume at ${JSON.stringify(from)}`, {
      hint: 'It is no offset of this source. Make the pipeline anew: millrace delete NAME --yes.',
    })
  return new Map(streams.flatMap(stream => (known[stream] ? [[stream, known[stream]] as const] : [])))
}

interface StreamInfo {
  readonly last: string
  readonly length: number
  /** Ever; null: an older Redis does not say. */
  readonly added: number | null
  readonly deleted: string
}

/** null: there is no such stream. */
async function infoOf(client: Client, stream: string): Promise<StreamInfo | null> {
  const flat = (await client.xinfo('STREAM', stream).catch((error: Error) => {
    if (/no such key/.test(error.message)) return null
    throw error
  })) as unknown[] | null
  if (!flat) return null
  const of = (name: string) => (flat.includes(name) ? flat[flat.indexOf(name) + 1] : null)
  const added = of('entries-added')
  return {
    last: String(of('last-generated-id')),
    length: Number(of('length')),
    added: added === null ? null : Number(added),
    deleted: String(of('max-deleted-entry-id') ?? '0-0'),
  }
}

const partsOfId = (id: string): [bigint, bigint] => {
  const [ms, sequence = '0'] = id.split('-')
  return [BigInt(ms!), BigInt(sequence)]
}
function isBehind(id: string, other: string): boolean {
  const [a, b] = [partsOfId(id), partsOfId(other)]
  return a[0] === b[0] ? a[1] > b[1] : a[0] > b[0]
}

/** The group stands where we do. */
async function join(state: State, stream: string): Promise<void> {
  const { connection, group, places, shown } = state
  const { client } = connection
  const info = await infoOf(client, stream)
  const place = places.get(stream) ?? { id: '0-0', read: info ? numberBefore(info) : 0 }
  places.set(stream, place)
  refuseLost(state, stream, info)
  try {
    await client.xgroup('CREATE', stream, group, place.id, 'MKSTREAM')
  } catch (error) {
    if (!/BUSYGROUP/.test((error as Error).message)) throw error
    await show(state, stream, place)
  }
  shown.set(stream, place.id)
}

/** Where entries have numbers it is told that, too, and tells how many are behind it. */
async function show(state: State, stream: string, place: Place): Promise<void> {
  const { client } = state.connection
  if (state.isNumbered === null) {
    const info = await infoOf(client, stream)
    if (info) state.isNumbered = info.added !== null
  }
  const number = state.isNumbered && place.read !== null ? ['ENTRIESREAD', place.read] : []
  await called(client, 'XGROUP', 'SETID', stream, state.group, place.id, ...number)
  state.shown.set(stream, place.id)
}

const called = (client: Client, name: string, ...args: unknown[]): Promise<unknown> =>
  (client as unknown as { call(name: string, ...args: unknown[]): Promise<unknown> }).call(name, ...args)

/** Of the entry before the first that is there, when nothing was deleted by name. */
const numberBefore = ({ added, length, deleted }: StreamInfo): number | null =>
  added === null || deleted !== '0-0' ? null : added - length

function refuseLost({ places, connection }: State, stream: string, info: StreamInfo | null): void {
  const place = places.get(stream)!
  const lost = (what: string) =>
    new ConnectorError('offset_lost', `Redis ${connection.target}: ${what}`, {
      hint: 'Keep more of the stream (MAXLEN, MINID). Make the pipeline anew: millrace delete NAME --yes.',
    })
  if (!info) {
    if (place.id !== '0-0') throw lost(`the stream ${stream} is gone, and was read up to ${place.id}`)
    return
  }
  if (isBehind(place.id, info.last))
    throw lost(
      `the stream ${stream} ends at ${info.last}, and was read up to ${place.id}: it was made anew or restored`,
    )
  if (place.read === null || info.added === null || isBehind(info.deleted, place.id)) return
  const gone = info.added - info.length - place.read
  if (gone > 0)
    throw lost(
      `${gone} entries of the stream ${stream} behind ${place.id} were trimmed before they were read`,
    )
}

function readerOf(state: State): Reader<ChangeRecord> {
  const { connection, shown } = state
  return {
    [Symbol.asyncIterator]: () => batches(state),
    async commit(offset) {
      const { streams } = offset as unknown as { streams: Record<string, Place> }
      try {
        for (const [stream, place] of Object.entries(streams))
          if (shown.get(stream) !== place.id) await show(state, stream, place)
      } catch (error) {
        throw redisError(error, connection.target)
      }
    },
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  }
}

type Read = [stream: string, entries: [id: string, fields: string[]][]][] | null

async function* batches(state: State): AsyncGenerator<Batch<ChangeRecord>> {
  const { connection, options, context, group } = state
  const { signal } = context
  const toRecord = rowReader(options)
  const targets = await endsOf(state)
  let isCaughtUp = false
  while (!signal.aborted) {
    let read: Read
    try {
      read = await readMore(state)
      if (read) await checkRead(state, read)
      else await checkQuiet(state)
    } catch (error) {
      if (signal.aborted) return
      throw redisError(error, connection.target)
    }
    const records: ChangeRecord[] = []
    for (const [stream, entries] of read ?? []) {
      const place = state.places.get(stream)!
      for (const [id, fields] of entries)
        records.push(
          toRecord({ stream, id, fields, group, nowMs: context.clock.nowUs() / 1000 } satisfies Entry),
        )
      const [last] = entries.at(-1)!
      state.places.set(stream, { id: last, read: place.read === null ? null : place.read + entries.length })
    }
    const isLevel = [...targets].every(([stream, end]) => !isBehind(end, state.places.get(stream)!.id))
    if (records.length === 0 && (isCaughtUp || !isLevel)) continue
    const offset = { streams: Object.fromEntries(state.places) } as unknown as Offset
    yield { records, offset, ...(isLevel ? { caughtUp: true as const } : {}) }
    isCaughtUp = isLevel
  }
}

async function endsOf({ connection, options }: State): Promise<Map<string, string>> {
  const ends = new Map<string, string>()
  for (const stream of options.streams)
    ends.set(stream, (await infoOf(connection.client, stream))?.last ?? '0-0')
  return ends
}

async function readMore(state: State): Promise<Read> {
  const { connection, options, context } = state
  if (!connection.isCluster) return readOf(state, options.streams, BLOCK_MS)
  // Streams of several slots cannot be read by one command.
  const reads = await Promise.all(options.streams.map(stream => readOf(state, [stream], null)))
  const read = reads.flatMap(one => one ?? [])
  if (read.length > 0) return read
  await context.clock.sleep(BLOCK_MS, context.signal)
  return null
}

async function readOf(
  { connection, options, places }: State,
  streams: readonly string[],
  blockMs: number | null,
): Promise<Read> {
  const block = blockMs === null ? [] : ['BLOCK', blockMs]
  const from = streams.map(stream => places.get(stream)!.id)
  const args = ['COUNT', options.count, ...block, 'STREAMS', ...streams, ...from]
  return (await called(connection.client, 'XREAD', ...args)) as Read
}

/** A stream that is gone, made anew or trimmed brings no entries, and no error. */
async function checkQuiet(state: State): Promise<void> {
  for (const stream of state.options.streams)
    refuseLost(state, stream, await infoOf(state.connection.client, stream))
}

/** Looked at behind each read, before what it brought counts: nothing between it and the place before may have been trimmed. */
async function checkRead(state: State, read: NonNullable<Read>): Promise<void> {
  for (const [stream, entries] of read) {
    const info = await infoOf(state.connection.client, stream)
    const place = state.places.get(stream)!
    if (!info || info.added === null) continue
    // All there is was read: its number is known again, whatever was deleted by name before.
    const isAll = entries.at(-1)![0] === info.last
    if (place.read === null && isAll)
      state.places.set(stream, { id: place.id, read: info.added - entries.length })
    else if (isBehind(info.deleted, place.id)) state.places.set(stream, { id: place.id, read: null })
    else if (place.read !== null && isAll && info.added - place.read > entries.length)
      throw new ConnectorError(
        'offset_lost',
        `Redis ${state.connection.target}: ${info.added - place.read - entries.length} entries of the stream ${stream} behind ${place.id} were trimmed before they were read`,
        {
          hint: 'Keep more of the stream (MAXLEN, MINID). Make the pipeline anew: millrace delete NAME --yes.',
        },
      )
  }
}
