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
 * damage anywhere else is reported with file and offset, and nothing is skipped.
 */
import { randomUUID } from 'node:crypto'
import type { Clock, Log } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { Table } from '../record.ts'
import type { Disk, DiskFile } from './disk.ts'
import { encodeFrame, encodeHeader, type FrameMeta, type TaskState } from './journal.ts'
import { diskError, openSegment, recoverSegment, type Segment, segmentName } from './segment.ts'

export interface SegmentsOptions {
  readonly directory: string
  readonly disk: Disk
  readonly clock: Clock
  readonly log: Log
  readonly segmentBytes: number
  readonly limitBytes: number
  readonly lingerMs: number
  readonly batchBytes: number
}

/** What an append wants written. Built when its turn has come, so that offsets and numbers are those of its place. */
export interface Build {
  readonly task?: TaskState & { readonly task: string }
  readonly blocks: readonly { readonly meta: FrameMeta['blocks'][number]; readonly bytes: Buffer }[]
}

export interface Segments {
  readonly id: string
  /** Visible: synced. Oldest first; the last one is active. */
  readonly list: readonly Segment[]
  readonly tasks: ReadonlyMap<string, TaskState>
  readonly ends: ReadonlyMap<string, readonly number[]>
  starts(): ReadonlyMap<string, readonly number[]>
  readonly schemas: ReadonlyMap<number, Table>
  schemaId(table: Table): number
  /** First offset of `count` new records. Only inside `build`. */
  allocate(topic: string, partition: number, count: number): number
  /** `bytes`: about how much it will be, for the group. Resolves when synced. */
  append(bytes: number, build: () => Build): Promise<void>
  /** Rises with everything that becomes visible. */
  generation(): number
  /** Resolves when the generation is another than `seen`, at once if it is; or when the signal aborts. */
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
  readonly schemas: Map<number, Table>
  readonly schemaIds: Map<string, number>
  readonly tableIds: WeakMap<Table, number>
  /** Schemas the active segment's header and frames do not hold yet. */
  newSchemas: Map<number, Table>
  /** Takes back what the group being built has changed here, last first. */
  undo: (() => void)[]
  queue: Waiting[]
  working: Promise<void> | null
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
    schemas: new Map(),
    schemaIds: new Map(),
    tableIds: new WeakMap(),
    newSchemas: new Map(),
    undo: [],
    queue: [],
    working: null,
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
    list: state.list,
    tasks: state.tasks,
    ends: state.ends,
    starts: () => startsOf(state),
    schemas: state.schemas,
    schemaId: table => schemaId(state, table),
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
        state.working ??= work(state)
      })
    },
    generation: () => state.generation,
    changed: (seen, signal) =>
      new Promise(resolve => {
        if (signal.aborted || state.closed || state.generation !== seen) return resolve()
        const wake = () => {
          state.watchers.delete(wake)
          signal.removeEventListener('abort', wake)
          resolve()
        }
        state.watchers.add(wake)
        signal.addEventListener('abort', wake, { once: true })
      }),
    sizeBytes: () => sizeOf(state),
    removeWhile: mayGo => removeWhile(state, mayGo),
    async close() {
      state.closed = true
      await state.working
      await state.file?.close()
      for (const wake of [...state.watchers]) wake()
      forget()
    },
  }
}

async function recover(state: State): Promise<void> {
  const { disk, directory } = state.options
  await disk.mkdir(directory)
  const names = (await disk.list(directory)).filter(name => name.endsWith('.seg')).sort()
  // A last segment whose making was cut short goes; the one before it is then the last, and its tail is what must be taken up.
  let last: Segment | null = null
  while (!last && names.length > 0) last = await recoverSegment(state.options, names.pop()!)
  for (const name of names) state.list.push(await openSegment(state.options, name))
  state.id = last?.header.id ?? randomUUID()
  if (!last) return roll(state)
  state.list.push(last)
  for (const [task, value] of Object.entries(last.header.tasks)) state.tasks.set(task, value)
  for (const [topic, ends] of Object.entries(last.header.ends)) state.ends.set(topic, [...ends])
  for (const [id, table] of Object.entries(last.header.schemas)) learn(state, Number(id), table)
  for (const meta of last.tail) apply(state, meta)
  last.tail = []
  state.file = await disk.open(last.path, 'write')
}

/** What a frame that was found on disk says. */
function apply(state: State, { tasks, schemas, blocks }: FrameMeta): void {
  for (const { task, ...value } of tasks) state.tasks.set(task, value)
  for (const [id, table] of Object.entries(schemas ?? {})) learn(state, Number(id), table)
  for (const [topic, partition, , first, count] of blocks) {
    const ends = state.ends.get(topic) ?? []
    state.ends.set(topic, ends)
    while (ends.length <= partition) ends.push(0)
    ends[partition] = first + count
  }
}

function learn(state: State, id: number, table: Table): void {
  state.schemas.set(id, table)
  state.schemaIds.set(JSON.stringify(table), id)
}

function schemaId(state: State, table: Table): number {
  const known = state.tableIds.get(table) ?? state.schemaIds.get(JSON.stringify(table))
  const id = known ?? state.schemas.size + 1
  state.tableIds.set(table, id)
  if (known === undefined) {
    learn(state, id, table)
    state.newSchemas.set(id, table)
  }
  return id
}

const startsOf = ({ list }: State): ReadonlyMap<string, readonly number[]> =>
  new Map(Object.entries(list[0]?.header.ends ?? {}))

async function work(state: State): Promise<void> {
  const { clock, lingerMs, batchBytes, directory } = state.options
  while (state.queue.length > 0) {
    if (lingerMs > 0 && bytesOf(state.queue) < batchBytes) await clock.sleep(lingerMs)
    const group = state.queue
    state.queue = []
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

const bytesOf = (queue: readonly Waiting[]): number => queue.reduce((sum, one) => sum + one.bytes, 0)

/** Room, a file that holds what it should, and a new segment when it is time. */
async function prepare(state: State): Promise<void> {
  const { limitBytes, segmentBytes } = state.options
  const size = sizeOf(state)
  if (size >= limitBytes) throw full(size, limitBytes)
  await mend(state)
  if (state.list.at(-1)!.size >= segmentBytes) await roll(state)
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
    ...(state.newSchemas.size > 0 ? { schemas: Object.fromEntries(state.newSchemas) } : {}),
    blocks: blocks.map(block => block.meta),
  }
  const frame = encodeFrame(
    meta,
    blocks.map(block => block.bytes),
  )
  await state.file!.write(frame, active.size)
  await state.file!.sync()
  state.newSchemas = new Map()
  active.grew(frame.length, meta, state.ends)
}

const full = (size: number, limit: number): ConnectorError =>
  new ConnectorError(
    'throttled',
    `the log holds ${size} bytes and its limit is ${limit} (limits.log_bytes): the source waits`,
    {
      hint: 'A sink that is behind keeps the log: see `millrace status`. Raise limits.log_bytes, or mend or remove that sink.',
    },
  )

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
    schemas: Object.fromEntries(state.schemas),
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
  await state.file?.close()
  state.file = file
  state.newSchemas = new Map()
  state.list.push(await openSegment(state.options, segmentName(number)))
  log.debug({ path }, 'new segment')
}

async function removeWhile(state: State, mayGo: (segment: Segment, next: Segment) => boolean): Promise<void> {
  const { disk, directory } = state.options
  let removed = false
  while (state.list.length > 1 && mayGo(state.list[0]!, state.list[1]!)) {
    await disk.remove(state.list[0]!.path)
    state.list.shift()
    removed = true
  }
  if (removed) await disk.syncDirectory(directory)
}
