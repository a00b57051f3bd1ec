/**
 * The source task's reader: makes what is needed upstream, then yields what feed.ts puts in order, as long as it is wanted.
 *
 *   creating ──slot made, tables planned──▶ following: stream and chunks ──▶ following: stream
 *      ▲ killed in between: begun anew           ▲ killed: resumes at the offset, chunks not yet appended are read again
 *
 * Publication first, then slot, then the chunk plan: whatever the plan does not see, the stream brings.
 */
import type pg from 'pg'
import type { Batch, Context, Reader } from '../../core/connector.ts'
import type { ChangeRecord, Json } from '../../core/record.ts'
import { type CatalogTable, snapshotOf } from './catalog.ts'
import type { Chunk } from './chunk.ts'
import { type Chunks, chunksOf, tableName } from './chunks.ts'
import type { PostgresConfig } from './config.ts'
import { connect, query } from './connect.ts'
import { type Feed, feedOf } from './feed.ts'
import { type Handoff, handoffOf } from './handoff.ts'
import { CREATING, type Following, lsnOf, type Position } from './position.ts'
import { type Replication, startReplication } from './replication.ts'
import { create, followedTables, refuseForeignSlot, refuseLost, upstreamName } from './setup.ts'
import { headOf, type Stream, streamOf } from './stream.ts'
import { fillGaps } from './toast.ts'
import { freeSlot } from './upstream.ts'

const MAX_PENDING_RECORDS = 10_000
const MAX_PENDING_BYTES = 4 << 20
const CHUNK_BYTES = 16 << 20
const MAX_REMEMBERED = 1_000_000
const NEAR_MS = 5_000
const FIRST_BLOCKS = 256
/** Positions without records are written, and confirmed, this often at most. */
const IDLE_MS = 1_000

interface Live {
  readonly config: PostgresConfig
  readonly context: Context
  readonly name: string
  readonly endToken: string
  readonly control: pg.Client
  /** Of its own, since it reads in snapshots: a look at the catalog beside it must not see an older one. Made when it is needed. */
  bigValues: pg.Client | null
  readonly handoff: Handoff
  readonly feed: Feed
  readonly stream: Stream
  readonly chunks: Chunks
  replication: Replication | null
  error: Error | null
  /** Promises the stream waits for. */
  holds: number
  wake: () => void
  closed: boolean
  confirmedMs: number
}

export function openReader(
  config: PostgresConfig,
  from: Position | null,
  context: Context,
): Reader<ChangeRecord> {
  let live: Live | null = null
  return {
    async *[Symbol.asyncIterator]() {
      let position = from
      if (position === null) {
        await refuseForeignSlot(config, context)
        position = CREATING
        yield { records: [], offset: CREATING as unknown as Json } // written before the slot is made: it is ours to drop
      }
      if (position.state === 'creating') {
        position = await create(config, context)
        yield { records: [], offset: position as unknown as Json }
      }
      live = await goLive(config, context, position)
      yield* batches(live)
    },
    async commit(offset) {
      if (live) confirm(live, offset as unknown as Position)
    },
    async [Symbol.asyncDispose]() {
      if (live) await close(live)
    },
  }
}

async function goLive(config: PostgresConfig, context: Context, position: Following): Promise<Live> {
  const name = upstreamName(context.pipeline)
  const control = await connect(config, { applicationName: `millrace ${context.pipeline}` })
  let live: Live | null = null
  try {
    await refuseLost(config, context, control, name, position)
    await freeSlot(control, name, { sleep: ms => context.clock.sleep(ms, context.signal) })
    const tables = await followedTables(control, config)
    const [row] = await query<{ snapshot: string }>(control, 'SELECT pg_current_snapshot()::text AS snapshot')
    live = assemble(config, context, control, position, tables, snapshotOf(row!.snapshot).xmax)
    context.metrics.set('snapshot_rows_total', rowsLeft(tables, position))
    await startStream(live, position)
    startSnapshot(live)
    startHeartbeat(live)
    return live
  } catch (error) {
    if (live) await close(live)
    else await control.end()
    throw error
  }
}

const rowsLeft = (tables: readonly CatalogTable[], { fill }: Following): number =>
  tables.filter(table => tableName(table) in fill).reduce((sum, table) => sum + table.rows, 0)

function assemble(
  config: PostgresConfig,
  context: Context,
  control: pg.Client,
  position: Following,
  tables: readonly CatalogTable[],
  xid: bigint,
): Live {
  const name = upstreamName(context.pipeline)
  const session = `${context.epoch}.${Math.floor(context.clock.nowUs())}`
  const { chunk_rows: chunkRows, parallel } = config.snapshot
  const handoff = handoffOf(position.fill, position.unseen.map(BigInt), {
    chunkRows,
    parallel,
    maxBytes: CHUNK_BYTES,
    session,
    nearMs: NEAR_MS,
    firstBlocks: FIRST_BLOCKS,
    maxRemembered: MAX_REMEMBERED,
  })
  const chunks = chunksOf(config, context, name, tables, xid)
  const feed = feedOf(position, handoff, {
    recordsOf: chunk => recordsOf(chunk, chunks, context),
    maxRecords: MAX_PENDING_RECORDS,
    maxBytes: MAX_PENDING_BYTES,
  })
  const live: Live = {
    config,
    context,
    name,
    endToken: `${session}/end`,
    control,
    bigValues: null,
    handoff,
    feed,
    chunks,
    stream: streamOf({
      config,
      context,
      prefix: name,
      feed,
      handoff,
      tables,
      client: control,
      xidReference: () => chunks.xidReference,
      endToken: `${session}/end`,
      hold: until => hold(live, until),
    }),
    replication: null,
    error: null,
    holds: 0,
    wake: () => {},
    closed: false,
    confirmedMs: 0,
  }
  return live
}

/** Rows that were not struck out, as records of one place and moment. */
function recordsOf({ rows }: Chunk, chunks: Chunks, { pipeline, clock, metrics }: Context): ChangeRecord[] {
  const { table, takenMs } = chunks.infoOf(rows!)
  const source = `${headOf(pipeline, table)},"txId":null,"lsn":null,"ts_us":${takenMs * 1000},"snapshot":true}`
  const readMs = Math.floor(clock.nowUs() / 1000)
  const { keys, rows: texts } = rows!
  const records: ChangeRecord[] = []
  for (let i = 0; i < keys.length; i++) {
    const after = texts[i]!
    if (after !== '')
      records.push({
        op: 'r',
        table,
        key: keys[i]!,
        before: null,
        after,
        source,
        commitMs: takenMs,
        readMs,
        below: null,
      })
  }
  metrics.add('snapshot_rows', keys.length)
  return records
}

function fail(live: Live, error: unknown): void {
  live.error ??= error instanceof Error ? error : new Error(String(error))
  live.wake()
}

async function startStream(live: Live, position: Following): Promise<void> {
  const { config, context, name, feed, stream } = live
  live.replication = await startReplication(config, {
    slot: name,
    publication: name,
    lsn: position.lsn,
    nowUs: () => context.clock.nowUs(),
    onData(buffer, start, end, lsn) {
      stream.decode(buffer, start, end, lsn)
      if (feed.isFull()) live.replication?.pause()
      live.wake()
    },
    onKeepalive: () => {},
    onClose: error => fail(live, error),
  })
  live.replication.status(lsnOf(position.lsn))
}

/** The stream stands still until the promise settles. */
function hold(live: Live, until: Promise<void>): void {
  live.holds++
  live.replication?.pause()
  until
    .catch(error => fail(live, error))
    .finally(() => {
      live.holds--
      flow(live)
      live.wake()
    })
}

function flow(live: Live): void {
  if (live.replication?.isPaused && live.holds === 0 && !live.feed.isFull()) live.replication.resume()
}

/** Chunks until every table is filled; then a message, behind which everything that stood upstream has been read. */
function startSnapshot(live: Live): void {
  const { handoff, chunks, context } = live
  const running = Object.keys(handoff.fills()).length > 0
  context.metrics.set('snapshot_running', running ? 1 : 0)
  const all = async () => {
    await handoff.run(
      chunks,
      () => live.wake(),
      () => live.closed || context.signal.aborted,
    )
    context.metrics.set('snapshot_running', 0)
    if (!live.closed && !context.signal.aborted) await chunks.emit(live.endToken)
  }
  all().catch(error => {
    if (!live.closed) fail(live, error)
  })
}

function startHeartbeat(live: Live): void {
  const { config, context, chunks } = live
  if (config.heartbeat_ms === 0) return
  const beat = async () => {
    while (!live.closed && !context.signal.aborted) {
      await context.clock.sleep(config.heartbeat_ms, context.signal)
      if (!live.closed && !context.signal.aborted) await chunks.emit('heartbeat')
    }
  }
  beat().catch(error => {
    if (!live.closed) fail(live, error)
  })
}

/** Why a sleep ends before its time. */
const WOKEN = 'woken'

async function* batches(live: Live): AsyncGenerator<Batch<ChangeRecord>> {
  const { context, feed, stream } = live
  const { clock, signal } = context
  let yieldedMs = clock.monotonicMs()
  const stop = () => live.wake()
  signal.addEventListener('abort', stop)
  try {
    while (!signal.aborted) {
      if (live.error) throw live.error
      const woken = new AbortController() // ends the sleep below, timer and all
      // Without a reason each call makes a DOMException with its stack, and this is called for each message: a quarter of all CPU.
      live.wake = () => woken.abort(WOKEN)
      const batch = feed.take(clock.monotonicMs() - yieldedMs >= IDLE_MS)
      flow(live)
      if (!batch) {
        await clock.sleep(IDLE_MS, woken.signal)
        continue
      }
      const records = stream.gaps.size > 0 ? await filled(live, batch.records) : batch.records
      if (signal.aborted) return
      yield { ...batch, records }
      yieldedMs = clock.monotonicMs()
    }
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

async function filled(live: Live, records: readonly ChangeRecord[]): Promise<readonly ChangeRecord[]> {
  const { config, context, stream } = live
  live.bigValues ??= await connect(config, { applicationName: `millrace ${context.pipeline} big values` })
  return fillGaps(records, stream.gaps, live.bigValues, context)
}

/** Only finished commits whose records are durable are confirmed (H10). */
function confirm(live: Live, position: Position): void {
  if (position.state !== 'following' || !live.replication) return
  const nowMs = live.context.clock.monotonicMs()
  const replyNow = nowMs - live.confirmedMs > IDLE_MS
  if (replyNow) live.confirmedMs = nowMs
  live.replication.status(lsnOf(position.lsn), { replyNow })
}

async function close(live: Live): Promise<void> {
  if (live.closed) return
  live.closed = true
  live.context.metrics.set('snapshot_running', 0)
  await live.replication?.close()
  await live.chunks[Symbol.asyncDispose]()
  await live.bigValues?.end().catch(() => {})
  await live.control.end().catch(() => {}) // it may be the connection whose loss brought us here
}
