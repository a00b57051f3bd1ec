/**
 * Objects of a store as batches of rows, and on, as new ones come.
 *
 *   offset   {…what done.ts says, "open":{"name":…,"version":…,"size":…,"line":17,"byte":4096}}
 *
 * Rows up to `open.line` of `open` are read, and all of those that are done; so reading goes on behind any row. Text that is not compressed is
 * entered at `byte`, and Parquet at its row group; the rest is read from its beginning and left out up to the line.
 *
 * An object is read as it was when it was listed, or not at all: each range is of that version. One that was written anew before a row of it was
 * read is listed again; one that was half read cannot be finished, and halts (or is read again: `on_changed`). Rows that cannot be read halt,
 * too, and those before them are handed on; nothing is left out in silence.
 *
 * A batch spans objects, as small ones would else make small batches: its offset says how far it goes.
 */
import type { Batch, Context, Offset, Reader } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { compressionOfName, kindOfName, type ReadFormat, rowsOf } from '../../core/format/reading.ts'
import type { Bytes } from '../../core/format/row-in.ts'
import type { ChangeRecord, Json } from '../../core/record.ts'
import { type Done, doneByName, doneByTime } from './done.ts'
import { type Look, look, wanted } from './looking.ts'
import { type RowOptions, type RowsOf, rowReader } from './row.ts'
import type { ObjectSourceConfig } from './source-config.ts'
import type { Found, ReadableStore } from './store.ts'

const BATCH_BYTES = 4 << 20
/** What was read of small objects waits no longer than this for more. */
const FLUSH_MS = 1_000

/** Of an object that is half read. */
interface Open {
  readonly name: string
  readonly version: string
  readonly size: number
  readonly line: number
  readonly byte: number
}

export interface ReaderParts extends RowOptions {
  readonly store: ReadableStore
  readonly options: ObjectSourceConfig
}

interface State {
  readonly store: ReadableStore
  readonly options: ObjectSourceConfig
  readonly context: Context
  readonly done: Done
  readonly rowsOf: RowsOf
  open: Open | null
  /** The last offset said that one is half read: when it is not, one must say so, or the object would be needed for ever. */
  isOpenTold: boolean
  /** The last object that could not be read as it was listed. */
  refused: string | null
  records: ChangeRecord[]
  bytes: number
  flushedMs: number
}

export function openReader(parts: ReaderParts, from: Offset | null, context: Context): Reader<ChangeRecord> {
  const { store, options } = parts
  const { order, late_ms: lateMs } = options
  const saved = savedOf(from, order)
  const state: State = {
    store,
    options,
    context,
    done: order === 'name' ? doneByName(saved) : doneByTime(saved, lateMs),
    rowsOf: rowReader(parts),
    open: (saved?.open ?? null) as Open | null,
    isOpenTold: (saved?.open ?? null) !== null,
    refused: null,
    records: [],
    bytes: 0,
    flushedMs: context.clock.monotonicMs(),
  }
  return {
    [Symbol.asyncIterator]: () => untilAborted(batches(state), context.signal),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  }
}

function savedOf(from: Offset | null, order: string): { readonly [name: string]: Json } | null {
  if (from === null) return null
  const saved = from as { readonly [name: string]: Json }
  if (saved.order === order) return saved
  throw new ConnectorError(
    'offset_lost',
    `objects were read by order ${String(saved.order)}, and now by ${order}`,
    {
      hint: 'Set `order` back, or make the pipeline anew: millrace delete NAME --yes.',
    },
  )
}

/** What a request throws when the signal ends it is an end. */
async function* untilAborted<T>(all: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  try {
    yield* all
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

function take(state: State, isLevel: boolean): Batch<ChangeRecord> {
  const { records, done, open, context } = state
  state.records = []
  state.bytes = 0
  state.flushedMs = context.clock.monotonicMs()
  state.isOpenTold = open !== null
  return {
    records,
    offset: { ...done.toJson(), open: open as Json },
    ...(isLevel ? { caughtUp: true as const } : {}),
  }
}

async function* batches(state: State): AsyncGenerator<Batch<ChangeRecord>> {
  const { context, options } = state
  const { clock, signal } = context
  if (state.open) yield* resume(state, state.open)
  let youngestMs: number | null = null
  /** Of those that stood there at the beginning, what has to wait still; null: not all were seen. */
  let awaited: Set<string> | null = null
  let isLevel = false
  while (!signal.aborted) {
    const seen: Look = await lookOnce(state, youngestMs)
    for (const object of seen.ready) {
      yield* readObject(state, object, null)
      if (signal.aborted) return
      if (state.records.length > 0 && clock.monotonicMs() - state.flushedMs > FLUSH_MS)
        yield take(state, false)
    }
    if (!seen.isCut) {
      youngestMs = seen.youngestMs
      const first: Set<string> = awaited ?? new Set(seen.waiting)
      for (const name of first) if (!seen.waiting.has(name)) first.delete(name)
      awaited = first
    }
    const wasLevel = isLevel
    isLevel = awaited?.size === 0 && !seen.isCut
    if (state.records.length > 0 || state.isOpenTold || (isLevel && !wasLevel)) yield take(state, isLevel)
    if (seen.isCut) continue
    const { follow_ms: followMs, settle_ms: settleMs } = options
    await clock.sleep(seen.waiting.size > 0 ? Math.min(followMs, settleMs) : followMs, signal)
  }
}

async function lookOnce(state: State, youngestMs: number | null): Promise<Look> {
  const { store, done, options, context } = state
  const nowMs = context.clock.nowUs() / 1_000
  const seen = await look({ store, done, options, isWanted: wanted(options), nowMs, youngestMs })
  if (seen.late.length > 0)
    context.log.warn(
      { task: context.task, objects: seen.late },
      `${seen.late[0]} in ${store.name} came or was changed when a greater name of its folder had been read: it is not read. See \`order: modified\``,
    )
  return seen
}

async function* resume(state: State, open: Open): AsyncGenerator<Batch<ChangeRecord>> {
  const there = await state.store.look(open.name)
  if (there?.version === open.version && there.size === open.size) yield* readObject(state, there, open)
  else changed(state, open, there === null)
}

/** Throws, or lets the next look find it anew. */
function changed(state: State, { name, line }: Open, isGone: boolean): void {
  const { store, options, context } = state
  const what = `the object ${name} of ${store.name} ${isGone ? 'is gone' : 'was written anew'}, and was read up to line ${line}`
  if (options.on_changed === 'halt')
    throw new ConnectorError('offset_lost', what, {
      hint: 'Put it back as it was, or set `on_changed: again` to read it from its beginning.',
    })
  context.log.warn(
    { task: context.task, object: name },
    `${what}; ${isGone ? 'it is left' : 'it is read again'}`,
  )
  state.open = null
}

/** `from`: what was read of it before. */
async function* readObject(
  state: State,
  object: Found,
  from: Open | null,
): AsyncGenerator<Batch<ChangeRecord>> {
  const { options, context } = state
  const { name, version, size } = object
  const { format, compression } = kindOf(object, state)
  const isText = format === 'csv'
  const toRecord = state.rowsOf(object, isText)
  let last = from ?? { name, version, size, line: 0, byte: 0 }
  const csv = { delimiter: options.delimiter, names: options.header ? null : Object.keys(options.columns) }
  try {
    for await (const rows of rowsOf(bytesOf(state, object), { format, compression, csv }, last)) {
      const nowMs = Math.floor(context.clock.nowUs() / 1_000)
      for (const row of rows) {
        const record = toRecord(row, nowMs)
        state.records.push(record)
        state.bytes += record.key.length + record.after!.length
        last = { name, version, size, line: row.line, byte: row.behind }
        if (state.records.length < options.batch_rows && state.bytes < BATCH_BYTES) continue
        state.open = last
        yield take(state, false)
        if (context.signal.aborted) return
      }
    }
  } catch (error) {
    if (context.signal.aborted) return
    if (last.line > 0) state.open = last
    if (state.records.length > 0) yield take(state, false) // what was before it is handed on
    if (error === CHANGED) return await whenChanged(state, object, last)
    throw named(error, object, state)
  }
  state.open = null
  state.done.add(object)
}

const kindOf = (
  { name }: Found,
  { options, store }: State,
): { format: ReadFormat; compression: 'none' | 'gzip' | 'zstd' } => {
  const byName = kindOfName(name)
  const format = options.format ?? byName?.format
  if (format === undefined)
    throw new ConnectorError('config', `the name of ${name} in ${store.name} does not tell what it is`, {
      hint: 'Set `format`, or let `pattern` leave it out.',
    })
  return { format, compression: format === 'parquet' ? 'none' : compressionOfName(name) }
}

const CHANGED = new Error('the object is no more the one that was listed')

const bytesOf = ({ store }: State, object: Found): Bytes => ({
  size: object.size,
  async range(from, length) {
    const bytes = await store.range(object, from, length)
    if (bytes === null) throw CHANGED
    return bytes
  },
})

async function whenChanged(state: State, object: Found, last: Open): Promise<void> {
  const there = await state.store.look(object.name)
  if (last.line > 0) return changed(state, last, there === null)
  const { log, task } = state.context
  const text = JSON.stringify([object.name, object.version, object.size])
  if (text === state.refused)
    throw new ConnectorError(
      'config',
      `${state.store.name} lists ${object.name} as another than it gives when it is read`,
      {
        hint: 'Is there a cache or a gateway in front of it? Sizes and ETags must agree.',
      },
    )
  state.refused = text
  if (there === null)
    log.warn(
      { task, object: object.name },
      `${object.name} of ${state.store.name} was taken away before it was read`,
    )
}

function named(error: unknown, { name }: Found, { store }: State): unknown {
  if (!(error instanceof ConnectorError) || error.kind !== 'config') return error
  return new ConnectorError('config', `the object ${name} of ${store.name}: ${error.message}`, {
    cause: error,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  })
}
