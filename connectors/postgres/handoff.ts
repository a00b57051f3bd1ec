/**
 * From snapshot to stream without a gap, a double or a step back in time (rules H1 to H5; the idea is DBLog's, by visibility
 * instead of watermarks in a table: Andreakis and Papapanagiotou, "DBLog: A Watermark Based Change-Data-Capture Framework",
 * 2020). One stream decodes changes; chunks of rows are read beside it, each in a snapshot S of its own:
 *
 *     stream    ──u(K)──┬──────────u(K)────W──────u(K)──┬──▶            (what is decoded, in commit order)
 *                       P: keys of the table            append: the chunk's rows less every key
 *                       are remembered from here        the stream brought since P, as one batch
 *     chunk             └─ lock ─ S ─ W ─ COPY ─ rows ──┘
 *
 *   1. at P: note the transactions delivered or being delivered that no snapshot has seen (`unseen`); S must see each of them,
 *      for a commit is decoded before it is visible; else take S again
 *   2. S is taken under a lock of the table; its file node and columns must be those of the plan, else its fill starts again
 *   3. W, a transactional message sent after S: when the stream has decoded it, everything that S sees was decoded
 *   4. keys are remembered until the append, not only until W; once the rows are in memory, a key strikes its row out
 *   5. the append is one batch with the "done" mark in the offset; a chunk that is cut short is read again
 *
 * A TRUNCATE or another shape in the stream throws the table's open chunks away. Knows nothing of sockets: `ChunkServer` is
 * PostgreSQL or the simulation's model of it. Does not put batches in order: reader.ts does.
 */
import type { Chunk, ChunkRows, ChunkServer, ChunkSession } from './chunk.ts'
import type { Fill, TidRange } from './position.ts'
import { blockStart, blocksOf } from './position.ts'

export interface HandoffOptions {
  readonly chunkRows: number
  readonly maxBytes: number
  readonly parallel: number
  /** First guess of a chunk's size; each chunk corrects it by the rows it found. */
  readonly firstBlocks: number
  /** Makes the tokens of this reader differ from those of one before. */
  readonly session: string
  /** A further chunk begins only when the stream took less than this from a message to its decoding. */
  readonly nearMs: number
  /** The stream stands still above this many remembered keys. */
  readonly maxRemembered: number
}

export interface Handoff {
  /** Tables not yet filled, for the offset. */
  fills(): { readonly [table: string]: Fill }
  /** For the offset: transactions that no snapshot has seen yet, while there is a table to fill. */
  unseen(): readonly bigint[]
  rowsDone(): number

  // Called by the stream as it decodes, in order.
  begun(xid: bigint): void
  changed(table: string, key: string): void
  /** TRUNCATE, or a Relation of another shape. */
  disturbed(table: string): void
  message(token: string): void
  /** True: too many keys remembered; decode no further until a chunk's rows are in memory. */
  mustWait(): boolean

  /** A chunk that may be appended now, after all that was decoded: its rows less what was struck. */
  ready(): Chunk | null
  /** The batch with these rows and this mark was handed over. */
  appended(chunk: Chunk): void
  /** Runs until every table is filled. Rejects with what ended it. `wake` is called when `ready` or `mustWait` may have changed. */
  run(server: ChunkServer, wake: () => void, stopped: () => boolean): Promise<void>
}

interface TableFill {
  fill: Fill
  left: TidRange[]
  /** Being read. */
  busy: TidRange[]
  /** Size of the next chunk. */
  blocks: number
  /** The plan no longer holds: it is made again before the next chunk. */
  stale: boolean
  replanning: Promise<void> | null
}

interface State {
  readonly options: HandoffOptions
  readonly fills: Map<string, TableFill>
  readonly unseen: Set<bigint>
  readonly chunks: Set<Chunk>
  readonly waiting: Map<string, () => void>
  tokens: number
  rowsDone: number
}

export function handoffOf(
  fills: { readonly [table: string]: Fill },
  unseen: readonly bigint[],
  options: HandoffOptions,
): Handoff {
  const state: State = {
    options,
    fills: new Map(
      Object.entries(fills).map(([table, fill]) => [
        table,
        { fill, left: [...fill.left], busy: [], blocks: options.firstBlocks, stale: false, replanning: null },
      ]),
    ),
    unseen: new Set(unseen),
    chunks: new Set(),
    waiting: new Map(),
    tokens: 0,
    rowsDone: 0,
  }
  return {
    fills: () =>
      Object.fromEntries(
        [...state.fills].map(([table, { fill, left, busy }]) => [
          table,
          { ...fill, left: [...busy, ...left] },
        ]),
      ),
    unseen: () => [...state.unseen],
    rowsDone: () => state.rowsDone,
    begun(xid) {
      if (state.fills.size > 0) state.unseen.add(xid)
    },
    changed: (table, key) => changed(state, table, key),
    disturbed: table => disturbed(state, table),
    message(token) {
      for (const chunk of state.chunks) if (chunk.token === token) chunk.passed = true
      state.waiting.get(token)?.()
      state.waiting.delete(token)
    },
    mustWait: () => remembered(state) > options.maxRemembered,
    ready: () => [...state.chunks].find(chunk => chunk.passed && chunk.rows !== null) ?? null,
    appended: chunk => appended(state, chunk),
    run: (server, wake, stopped) => run(state, server, wake, stopped),
  }
}

function remembered(state: State): number {
  let count = 0
  for (const chunk of state.chunks) count += chunk.remembered?.size ?? 0
  return count
}

function changed(state: State, table: string, key: string): void {
  for (const chunk of state.chunks) {
    if (chunk.table !== table) continue
    if (chunk.remembered) chunk.remembered.add(key)
    else if (chunk.rows) strike(chunk, key)
  }
}

function strike(chunk: Chunk, key: string): void {
  chunk.index ??= new Map(chunk.rows!.keys.map((one, i) => [one, i]))
  const at = chunk.index.get(key)
  if (at !== undefined) chunk.rows!.rows[at] = ''
}

function disturbed(state: State, table: string): void {
  const fill = state.fills.get(table)
  if (!fill) return
  // What was read under the old shape, or before the truncate, must not come behind it; the plan is looked at anew.
  fill.stale = true
  for (const chunk of [...state.chunks]) if (chunk.table === table) drop(state, chunk)
}

async function run(
  state: State,
  server: ChunkServer,
  wake: () => void,
  stopped: () => boolean,
): Promise<void> {
  const worker = async () => {
    while (!stopped()) {
      const chunk = cut(state)
      if (chunk) await fillOne(state, server, chunk, wake, stopped)
      else if (state.fills.size === 0) return
      else await Promise.race([server.sleep(20), ...[...state.chunks].map(one => one.over)])
    }
  }
  await Promise.all(Array.from({ length: state.options.parallel }, worker))
}

/** Cuts the next chunk off a table's ranges; null: everything that is left is being read. */
function cut(state: State): Chunk | null {
  for (const [table, fill] of state.fills) {
    const range = fill.left.shift()
    if (!range) continue
    const [relation, from, to] = range
    const middle = Math.min(to, from + blockStart(fill.blocks))
    if (middle < to) fill.left.unshift([relation, middle, to])
    const taken: TidRange = [relation, from, middle]
    fill.busy.push(taken)
    return chunkOf(table, taken)
  }
  return null
}

function chunkOf(table: string, range: TidRange): Chunk {
  let settle = () => {}
  const over = new Promise<void>(resolve => {
    settle = resolve
  })
  return {
    table,
    range,
    mustSee: [],
    token: '',
    passed: false,
    remembered: null,
    rows: null,
    index: null,
    dropped: false,
    over,
    settle,
  }
}

async function fillOne(
  state: State,
  server: ChunkServer,
  chunk: Chunk,
  wake: () => void,
  stopped: () => boolean,
): Promise<void> {
  state.chunks.add(chunk)
  await nearTheEnd(state, server, stopped)
  await replan(state, server, chunk.table)
  if (chunk.dropped || stopped()) return drop(state, chunk)
  // P: from here the keys are remembered, and S must see what was decoded before.
  chunk.mustSee = [...state.unseen]
  chunk.remembered = new Set()
  const session = await seeing(state, server, chunk, stopped)
  if (!session) return drop(state, chunk)
  let rows: ChunkRows | null
  try {
    const { chunkRows, maxBytes } = state.options
    chunk.token = nextToken(state)
    const single = chunk.range[2] - chunk.range[1] <= 1 // one row may be larger than a chunk
    const limits = single
      ? ([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY] as const)
      : ([chunkRows, maxBytes] as const)
    ;[rows] = await Promise.all([session.copy(chunk.range, ...limits), server.emit(chunk.token)])
  } finally {
    await session.end()
  }
  if (chunk.dropped) return
  if (!rows) return halve(state, chunk)
  resize(state, chunk, rows)
  chunk.rows = rows
  for (const key of chunk.remembered) strike(chunk, key)
  chunk.remembered = null
  wake()
  await chunk.over
}

const nextToken = (state: State): string => `${state.options.session}/${++state.tokens}`

/** Waits until a message takes the stream less than `nearMs` from commit to decoding: else the window P..append is the lag (H5). */
async function nearTheEnd(state: State, server: ChunkServer, stopped: () => boolean): Promise<void> {
  for (;;) {
    const token = nextToken(state)
    const from = server.nowMs()
    const passed = new Promise<void>(resolve => {
      state.waiting.set(token, resolve)
    })
    await server.emit(token)
    while (state.waiting.has(token) && !stopped()) await Promise.race([passed, server.sleep(1_000)])
    if (stopped() || server.nowMs() - from <= state.options.nearMs) return
  }
}

/** After a rewrite, another shape or a truncate: what is to be read is found anew. */
async function replan(state: State, server: ChunkServer, table: string): Promise<void> {
  const fill = state.fills.get(table)
  if (!fill?.stale) return
  fill.replanning ??= (async () => {
    const found = await server.plan(table)
    for (const chunk of [...state.chunks]) if (chunk.table === table) drop(state, chunk)
    if (found) Object.assign(fill, { fill: found, left: [...found.left], busy: [], stale: false })
    else state.fills.delete(table)
    fill.replanning = null
    settleFill(state, table)
  })()
  await fill.replanning
}

/** A session whose S sees every transaction of `mustSee`, on the table as it was planned. null: dropped or stopped. */
async function seeing(
  state: State,
  server: ChunkServer,
  chunk: Chunk,
  stopped: () => boolean,
): Promise<ChunkSession | null> {
  for (let waitMs = 5; ; waitMs = Math.min(waitMs * 2, 200)) {
    const session = await server.begin(chunk.table, chunk.range)
    const fill = state.fills.get(chunk.table)
    if (!chunk.dropped && fill && !isPlanned(session, fill.fill)) disturbed(state, chunk.table)
    const isGood = !chunk.dropped && chunk.mustSee.every(xid => session.snapshot.sees(xid))
    // Of a table that is gone no snapshot was taken: other tables still wait for what it would seem to have seen.
    if (session.found)
      for (const xid of state.unseen) if (session.snapshot.sees(xid)) state.unseen.delete(xid)
    if (isGood) return session
    await session.end()
    if (chunk.dropped || stopped()) return null
    await server.sleep(waitMs)
  }
}

const isPlanned = ({ found }: ChunkSession, plan: Fill): boolean =>
  found !== null && found.shape === plan.shape && JSON.stringify(found.nodes) === JSON.stringify(plan.nodes)

function release(state: State, chunk: Chunk): TableFill | undefined {
  state.chunks.delete(chunk)
  const fill = state.fills.get(chunk.table)
  if (fill) fill.busy = fill.busy.filter(range => range !== chunk.range)
  return fill
}

function drop(state: State, chunk: Chunk): void {
  if (chunk.dropped) return
  chunk.dropped = true
  chunk.rows = null
  release(state, chunk)?.left.unshift(chunk.range)
  chunk.settle()
}

function halve(state: State, chunk: Chunk): void {
  const [relation, from, to] = chunk.range
  const fill = release(state, chunk)
  if (fill) {
    const middle = from + Math.max(1, Math.floor((to - from) / 2))
    fill.left.unshift([relation, from, middle], [relation, middle, to])
    fill.blocks = Math.max(1, Math.floor(fill.blocks / 2))
  }
  chunk.dropped = true
  chunk.settle()
}

function appended(state: State, chunk: Chunk): void {
  state.rowsDone += chunk.rows!.rows.length
  chunk.rows = null
  release(state, chunk)
  settleFill(state, chunk.table)
  chunk.settle()
}

/** A table with nothing left is filled; with the last one the list of unseen transactions has done its work. */
function settleFill(state: State, table: string): void {
  const fill = state.fills.get(table)
  if (fill && !fill.stale && fill.left.length === 0 && fill.busy.length === 0) state.fills.delete(table)
  if (state.fills.size === 0) state.unseen.clear()
}

/** The next chunk: as many blocks as would have filled this one to four fifths, at most four times as many as before. */
function resize(state: State, chunk: Chunk, rows: ChunkRows): void {
  const fill = state.fills.get(chunk.table)
  if (!fill || rows.keys.length === 0) return
  const { chunkRows, maxBytes } = state.options
  const blocks = Math.max(1, blocksOf(chunk.range))
  const room = 0.8 * Math.min(chunkRows / rows.keys.length, maxBytes / Math.max(1, rows.bytes))
  fill.blocks = Math.max(1, Math.min(Math.floor(blocks * room), blocks * 4))
}
