/**
 * The files of one log: opens and mends them, appends frames in groups with one sync, rolls, deletes. Knows frames, not changes:
 * writers and readers of changes are built on it (changes.ts, reader.ts).
 *
 *   closed segments (read only) … │ active segment: [ synced = visible │ being written ]
 *
 *   append ─▶ queue ─▶ build one frame of all that waits ─▶ write ─▶ fdatasync ─▶ visible, resolved
 *                                                             └─ fails: cut to the last synced frame, reopen, reject (J3)
 *
 * Recovery (J2): the tail of the last segment is cut at the first frame that is not whole, and synced before anyone reads it;
 * damage anywhere else, a file that is missing between two others too, is reported with file and offset, and nothing is skipped.
 */
import { randomUUID } from 'node:crypto'
import type { Clock, Log } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { Disk, DiskFile } from './disk.ts'
import { encodeFrame, encodeHeader, FORMAT, type FrameMeta, type TaskState } from './journal.ts'
import { recoverLog } from './recovery.ts'
import { type Schemas, schemaBook } from './schemas.ts'
import { diskError, newSegment, type Segment, segmentName } from './segment.ts'

export interface SegmentsOptions {
  readonly directory: string
  readonly disk: Disk
  readonly clock: Clock
  readonly log: Log
  readonly segmentBytes: number
  readonly lingerMs: number
  readonly batchBytes: number
  /** Before each append. Throws when there is none. */
  readonly makeRoom?: () => Promise<void>
}

/** What an append wants written. Built when its turn has come, so that offsets and numbers are those of its place. */
export interface Build {
  readonly task?: TaskState & { readonly task: string }
  readonly blocks: readonly { readonly meta: FrameMeta['blocks'][number]; readonly bytes: Buffer }[]
}

export interface Segments {
  readonly id: string
  readonly options: SegmentsOptions
  /** Visible: synced. Oldest first; the last one is active. */
  readonly list: readonly Segment[]
  readonly tasks: ReadonlyMap<string, TaskState>
  readonly ends: ReadonlyMap<string, readonly number[]>
  starts(): ReadonlyMap<string, readonly number[]>
  readonly schemas: Schemas
  /** First offset of `count` new records. Only inside `build`. */
  allocate(topic: string, partition: number, count: number): number
  /** `bytes`: about how much it will be, for the group. Resolves when synced. */
  append(bytes: number, build: () => Build): Promise<void>
  /** Rises with everything that becomes visible. */
  generation(): number
  /** Resolves when the generation is another than `seen`, at once if it is; or when the signal aborts. Throws when the log closes. */
  changed(seen: number, signal: AbortSignal): Promise<void>
  sizeBytes(): number
  /** Deletes the oldest segments while `mayGo` says so. */
  removeWhile(mayGo: (segment: Segment, next: Segment) => boolean): Promise<void>
  close(): Promise<void>
}

interface Waiting {
  readonly bytes: number
  readonly build: () => Build
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface State {
  readonly options: SegmentsOptions
  id: string
  readonly list: Segment[]
  file: DiskFile | null
  readonly tasks: Map<string, TaskState>
  readonly ends: Map<string, number[]>
  readonly schemas: Schemas
  /** Takes back what the group being built has changed here, last first. */
  undo: (() => void)[]
  queue: Waiting[]
  /** Of the queue. */
  waitingBytes: number
  /** Ends the wait for company. */
  hurry: AbortController
  working: Promise<void> | null
  removing: Promise<void>
  removalUnsynced: boolean
  watchers: Set<() => void>
  generation: number
  closed: boolean
}

/** One log a directory in one process: two would write over each other. Of each disk, so that a simulation may have many. */
const opened = new WeakMap<object, Set<string>>()

export async function openSegments(options: SegmentsOptions): Promise<Segments> {
  const { disk, directory } = options
  const here = opened.get(disk) ?? new Set<string>()
  opened.set(disk, here)
  if (here.has(directory))
    throw new ConnectorError('bug', `the log ${directory} is open already in this process`)
  here.add(directory)
  const state: State = {
    options,
    id: '',
    list: [],
    file: null,
    tasks: new Map(),
    ends: new Map(),
    schemas: schemaBook(),
    undo: [],
    queue: [],
    waitingBytes: 0,
    hurry: new AbortController(),
    working: null,
    removing: Promise.resolve(),
    removalUnsynced: false,
    watchers: new Set(),
    generation: 0,
    closed: false,
  }
  try {
    await recover(state)
  } catch (error) {
    here.delete(directory)
    throw diskError(error, directory)
  }
  return segmentsOf(state, () => here.delete(directory))
}

function segmentsOf(state: State, forget: () => void): Segments {
  return {
    id: state.id,
    options: state.options,
    list: state.list,
    tasks: state.tasks,
    ends: state.ends,
    starts: () => startsOf(state),
    schemas: state.schemas,
    allocate(topic, partition, count) {
      const ends = state.ends.get(topic) ?? []
      state.ends.set(topic, ends)
      while (ends.length <= partition) ends.push(0)
      const first = ends[partition]!
      ends[partition] = first + count
      state.undo.push(() => {
        ends[partition] = first
      })
      return first
    },
    append(bytes, build) {
      if (state.closed) return Promise.reject(new ConnectorError('unavailable', 'the log is closed'))
      return new Promise((resolve, reject) => {
        state.queue.push({ bytes, build, resolve, reject })
        state.waitingBytes += bytes
        if (state.waitingBytes >= state.options.batchBytes) state.hurry.abort(ENOUGH)
        state.working ??= work(state)
      })
    },
    generation: () => state.generation,
    changed: (seen, signal) => changed(state, seen, signal),
    sizeBytes: () => sizeOf(state),
    removeWhile(mayGo) {
      state.removing = state.removing.catch(() => {}).then(() => removeWhile(state, mayGo)) // one at a time
      return state.removing
    },
    async close() {
      state.closed = true
      state.hurry.abort()
      for (const wake of [...state.watchers]) wake()
      try {
        await Promise.allSettled([state.working, state.removing])
        await state.file?.close()
      } finally {
        forget()
      }
    },
  }
}

async function changed(state: State, seen: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>(resolve => {
    if (signal.aborted || state.closed || state.generation !== seen) return resolve()
    const wake = () => {
      state.watchers.delete(wake)
      signal.removeEventListener('abort', wake)
      resolve()
    }
    state.watchers.add(wake)
    signal.addEventListener('abort', wake, { once: true })
  })
  if (state.closed && !signal.aborted) throw new ConnectorError('unavailable', 'the log was closed')
}

async function recover(state: State): Promise<void> {
  const found = await recoverLog(state.options, {
    header({ tasks, ends, schemas }) {
      for (const [task, value] of Object.entries(tasks)) state.tasks.set(task, value)
      for (const [topic, list] of Object.entries(ends)) state.ends.set(topic, [...list])
      state.schemas.learn(schemas)
    },
    frame: meta => apply(state, meta),
  })
  state.list.push(...found)
  const last = found.at(-1)
  state.id = last?.header.id ?? randomUUID()
  if (last) state.file = await state.options.disk.open(last.path, 'write')
  else await roll(state)
}

/** What a frame that was found on disk says. */
function apply(state: State, { tasks, schemas, blocks }: FrameMeta): void {
  for (const { task, ...value } of tasks) state.tasks.set(task, value)
  state.schemas.learn(schemas ?? {})
  for (const [topic, partition, , first, count] of blocks) {
    const ends = state.ends.get(topic) ?? []
    state.ends.set(topic, ends)
    while (ends.length <= partition) ends.push(0)
    ends[partition] = first + count
  }
}

const startsOf = ({ list }: State): ReadonlyMap<string, readonly number[]> =>
  new Map(Object.entries(list[0]?.header.ends ?? {}))

/** Why a linger ends; without a reason each call would make a DOMException with its stack. */
const ENOUGH = 'enough'

async function work(state: State): Promise<void> {
  const { clock, lingerMs, batchBytes, directory } = state.options
  while (state.queue.length > 0) {
    if (lingerMs > 0 && state.waitingBytes < batchBytes && !state.closed) {
      state.hurry = new AbortController()
      await clock.sleep(lingerMs, state.hurry.signal)
    }
    const group = state.queue
    state.queue = []
    state.waitingBytes = 0
    try {
      await prepare(state)
      await writeGroup(state, group)
    } catch (error) {
      const told = diskError(error, directory)
      for (const one of group) one.reject(told)
    }
  }
  state.working = null
}

/**
 * A file that holds what it should, a new segment when it is time, and room. In this order: only closed segments can be let go, so
 * that a log whose active one fills it alone must close that first.
 */
async function prepare(state: State): Promise<void> {
  const { segmentBytes, makeRoom } = state.options
  await mend(state)
  const active = state.list.at(-1)!
  if (active.size >= segmentBytes || active.format < FORMAT) await roll(state) // an older Millrace must refuse what comes now (J6)
  await makeRoom?.()
}

const sizeOf = ({ list }: State): number => list.reduce((sum, segment) => sum + segment.size, 0)

/** One frame, one sync. Whatever fails leaves everything as it was; what cannot even be built fails alone. */
async function writeGroup(state: State, group: readonly Waiting[]): Promise<void> {
  const built: { readonly one: Waiting; readonly build: Build }[] = []
  state.undo = []
  for (const one of group) {
    const mark = state.undo.length
    try {
      const build = one.build()
      if (build.task) setTask(state, build.task)
      built.push({ one, build })
    } catch (error) {
      takeBack(state, mark)
      one.reject(error)
    }
  }
  if (built.length === 0) return
  try {
    await writeFrame(
      state,
      built.map(({ build }) => build),
    )
  } catch (error) {
    takeBack(state, 0)
    await giveUp(state)
    throw error
  }
  for (const { one } of built) one.resolve()
  state.generation++
  for (const wake of [...state.watchers]) wake()
}

/** At once, so that a claim behind a write of the same group finds that write's position. */
function setTask(state: State, { task, ...value }: NonNullable<Build['task']>): void {
  const before = state.tasks.get(task)
  state.undo.push(() => void (before ? state.tasks.set(task, before) : state.tasks.delete(task)))
  state.tasks.set(task, value)
}

function takeBack(state: State, mark: number): void {
  for (const undo of state.undo.splice(mark).reverse()) undo()
}

async function writeFrame(state: State, builds: readonly Build[]): Promise<void> {
  const active = state.list.at(-1)!
  const blocks = builds.flatMap(build => build.blocks)
  const meta: FrameMeta = {
    at_ms: Math.floor(state.options.clock.nowUs() / 1000),
    tasks: builds.flatMap(build => build.task ?? []),
    ...(state.schemas.unwritten.size > 0 ? { schemas: Object.fromEntries(state.schemas.unwritten) } : {}),
    blocks: blocks.map(block => block.meta),
  }
  const frame = encodeFrame(
    meta,
    blocks.map(block => block.bytes),
  )
  await state.file!.write(frame, active.size)
  await state.file!.sync()
  state.schemas.written()
  active.grew(frame.length, meta)
}

/** After a failed write nobody knows what the file holds behind the last sync: it is closed, and mended before the next write. */
async function giveUp(state: State): Promise<void> {
  const { file } = state
  state.file = null
  await file?.close().catch(() => {}) // nothing in it is counted on any more
}

/** Cuts to the last synced frame and opens again (J3). */
async function mend(state: State): Promise<void> {
  if (state.file) return
  const active = state.list.at(-1)!
  const file = await state.options.disk.open(active.path, 'write')
  try {
    await file.truncate(active.size)
    await file.sync()
  } catch (error) {
    await file.close().catch(() => {})
    throw error
  }
  state.file = file
}

/** A new segment, with the whole state in its header; visible when it and its name are synced. */
async function roll(state: State): Promise<void> {
  const { disk, directory, clock, log } = state.options
  const number = (state.list.at(-1)?.header.number ?? 0) + 1
  const path = `${directory}/${segmentName(number)}`
  const header = {
    id: state.id,
    number,
    made_ms: Math.floor(clock.nowUs() / 1000),
    tasks: Object.fromEntries(state.tasks),
    ends: Object.fromEntries([...state.ends].map(([topic, ends]) => [topic, [...ends]])),
    schemas: Object.fromEntries(state.schemas.byId),
  }
  const bytes = encodeHeader(header)
  if ((await disk.list(directory)).includes(segmentName(number))) await disk.remove(path) // left by an attempt that failed
  const file = await disk.open(path, 'create')
  try {
    await file.write(bytes, 0)
    await file.sync()
    await disk.syncDirectory(directory)
  } catch (error) {
    await file.close().catch(() => {})
    throw error
  }
  const before = state.file
  state.file = file
  state.schemas.written()
  state.list.push(newSegment(state.options, path, { format: FORMAT, state: header, size: bytes.length }))
  await before?.close().catch(() => {}) // all in it is synced
  log.debug({ path }, 'new segment')
}

/** Each removal is synced before the next one: no crash may leave a gap between two that are there. */
async function removeWhile(state: State, mayGo: (segment: Segment, next: Segment) => boolean): Promise<void> {
  const { disk, directory } = state.options
  try {
    for (;;) {
      if (state.removalUnsynced) await disk.syncDirectory(directory)
      state.removalUnsynced = false
      if (state.closed || state.list.length < 2 || !mayGo(state.list[0]!, state.list[1]!)) return
      await disk.remove(state.list[0]!.path)
      state.removalUnsynced = true
      state.list.shift()
    }
  } catch (error) {
    throw diskError(error, directory)
  }
}
