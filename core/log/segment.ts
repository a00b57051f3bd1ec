/**
 * One segment file: opening, recovery of the last one, reading of frames and blocks, and a sparse index of where a reader may
 * begin. Knows nothing of other segments; does not write frames.
 *
 * Torn tail or altered middle? At most one frame is ever being written, and the next one only after its sync: bytes that are no
 * frame, with a whole frame anywhere behind them, were whole once and have been altered. Bytes with no frame behind them are what
 * was being written when the process died, and nobody has seen them. (That the very last frame was altered later cannot be told
 * from this; readers that have passed it then find their position beyond the end.)
 */
import type { Log } from '../connector.ts'
import { ConnectorError, Fenced } from '../errors.ts'
import { opening } from './codec.ts'
import type { Disk, DiskFile } from './disk.ts'
import {
  type BlockMeta,
  decodeFrame,
  decodeHeader,
  decodeMeta,
  FRAME_HEAD,
  type FrameMeta,
  findFrame,
  frameSize,
  HEADER_SIZE,
  type Header,
  metaSize,
  openBlock,
  type SegmentState,
} from './journal.ts'
import { type Window, windowOf } from './window.ts'

/** The next offset of a topic-partition. */
export type End = readonly [topic: string, partition: number, end: number]

/** A frame begins at `at`; what stands between the entry before (or the header) and here has moved these ends. */
export interface IndexEntry {
  readonly at: number
  readonly moved: readonly End[]
}

export interface Segment {
  readonly path: string
  readonly format: number
  readonly header: SegmentState
  readonly headerSize: number
  /** Visible bytes: header and synced frames. */
  size: number
  /** When the newest frame was written, ms since 1970. */
  lastMs: number
  /** Sparse, rising; null: not made yet (a segment of an earlier process). */
  index: Index | null
  grew(bytes: number, meta: FrameMeta): void
}

export interface SegmentOptions {
  readonly directory: string
  readonly disk: Disk
  readonly log: Log
  readonly segmentBytes: number
}

/** An entry about each so-many-th of a segment: every MB of one of 128 MiB. */
const INDEX_ENTRIES = 128

export const segmentName = (number: number): string => `${String(number).padStart(20, '0')}.seg`

/** A failed file operation as people should read it; what is classified already stays. */
export function diskError(error: unknown, directory: string): unknown {
  if (error instanceof ConnectorError || error instanceof Fenced) return error
  const code = (error as NodeJS.ErrnoException).code ?? ''
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) {
    return new ConnectorError('unavailable', `the disk of the log ${directory} is full (${code})`, {
      cause: error,
      hint: 'Make room; writing goes on by itself, and nothing that was written is lost.',
    })
  }
  if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR'].includes(code))
    return new ConnectorError(
      'config',
      `the log ${directory} cannot be written: ${(error as Error).message}`,
      { cause: error, hint: 'Check the rights of the data directory.' },
    )
  return code === ''
    ? error
    : new ConnectorError('unavailable', `the disk of the log ${directory}: ${(error as Error).message}`, {
        cause: error,
      })
}

export async function readAt(file: DiskFile, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  const got = await file.read(bytes, length, position)
  return got === length ? bytes : bytes.subarray(0, got)
}

async function readHeader(file: DiskFile, path: string): Promise<Header | null> {
  const head = await readAt(file, 0, HEADER_SIZE)
  if (head.length < HEADER_SIZE) return null
  return decodeHeader(
    await readAt(file, 0, Math.min(HEADER_SIZE + head.readUInt32LE(12), await file.size())),
    path,
  )
}

export const damaged = (path: string, at: number, what: string): ConnectorError =>
  new ConnectorError('config', `the log is damaged: ${path}, byte ${at}: ${what}`, {
    hint: 'Nothing was skipped. Restore the file from a backup, or start the pipeline anew: millrace delete NAME --yes.',
  })

export interface Index {
  readonly entries: readonly IndexEntry[]
  /** A frame ended at `end`. */
  add(meta: FrameMeta, end: number): void
}

function indexOf(from: number, everyBytes: number): Index {
  const entries: IndexEntry[] = []
  const moved = new Map<string, End>()
  let last = from
  return {
    entries,
    add({ blocks }, end) {
      for (const [topic, partition, , first, count] of blocks)
        moved.set(`${partition} ${topic}`, [topic, partition, first + count])
      if (end - last < everyBytes) return
      last = end
      entries.push({ at: end, moved: [...moved.values()] })
      moved.clear()
    },
  }
}

const newIndex = (segment: Segment, { segmentBytes }: SegmentOptions): Index =>
  indexOf(segment.headerSize, segmentBytes / INDEX_ENTRIES)

function segmentOf(path: string, header: Header, size: number): Segment {
  const segment: Segment = {
    path,
    format: header.format,
    header: header.state,
    headerSize: header.size,
    size,
    lastMs: header.state.made_ms,
    index: null,
    grew(bytes, meta) {
      segment.size += bytes
      segment.lastMs = Math.max(segment.lastMs, meta.at_ms)
      segment.index?.add(meta, segment.size)
    },
  }
  return segment
}

/** A segment that was just made, of a header and nothing else. */
export function newSegment(options: SegmentOptions, path: string, header: Header): Segment {
  const segment = segmentOf(path, header, header.size)
  segment.index = newIndex(segment, options)
  return segment
}

/** A closed segment. */
export async function openSegment({ disk, directory }: SegmentOptions, name: string): Promise<Segment> {
  const path = `${directory}/${name}`
  const file = await disk.open(path, 'read')
  try {
    const header = await readHeader(file, path)
    if (!header) throw damaged(path, 0, 'its header is not whole')
    return segmentOf(path, header, await file.size())
  } finally {
    await file.close()
  }
}

/** Who takes up what recovery finds: the header, then every frame. */
export interface Finder {
  header(state: SegmentState): void
  frame(meta: FrameMeta): void
}

/** The last segment: what was not whole when the process died is cut. null: its making was cut short, and it is gone. */
export async function recoverSegment(
  options: SegmentOptions,
  name: string,
  finder: Finder,
): Promise<Segment | null> {
  const { disk, directory, log } = options
  const path = `${directory}/${name}`
  const file = await disk.open(path, 'write')
  try {
    const header = await readHeader(file, path)
    const size = await file.size()
    if (!header) {
      if (await hasFrame(file, 0, size)) throw damaged(path, 0, 'its header is altered')
      await disk.remove(path)
      await disk.syncDirectory(directory)
      log.warn({ path }, 'a segment whose making was cut short was removed')
      return null
    }
    const segment = newSegment(options, path, header)
    finder.header(header.state)
    const lastFrameAt = await scan(file, segment, size, finder)
    if (segment.size < size) {
      if (await hasFrame(file, segment.size + 1, size))
        throw damaged(path, segment.size, 'a frame is altered, and whole frames stand behind it')
      log.warn({ path, bytes: size - segment.size }, 'the tail of the log was not whole and was cut')
      await file.truncate(segment.size)
    }
    // A sync that failed leaves pages that count as clean though they never reached the disk: a second sync would say "done" and
    // do nothing. Only the last frame (or the header) can be such; written again it is dirty, and the sync means it.
    await file.write(await readAt(file, lastFrameAt, segment.size - lastFrameAt), lastFrameAt)
    await file.sync() // what is whole but was not synced must not be lost after somebody read it (J2)
    await disk.syncDirectory(directory)
    return segment
  } finally {
    await file.close()
  }
}

/** Takes up every whole frame; answers where the last of them begins, 0 when there is none. */
async function scan(file: DiskFile, segment: Segment, size: number, finder: Finder): Promise<number> {
  const window = windowOf(file, SEARCH_BYTES)
  let lastFrameAt = 0
  while (segment.size < size) {
    const length = frameSize(await window.look(segment.size, FRAME_HEAD, size))
    if (length === null || segment.size + length > size) break
    const meta = decodeFrame(await window.look(segment.size, length, size))
    if (!meta) break
    finder.frame(meta)
    lastFrameAt = segment.size
    segment.grew(length, meta)
  }
  return lastFrameAt
}

const SEARCH_BYTES = 1 << 20

/** Whether a whole frame stands anywhere in [from, size). */
async function hasFrame(file: DiskFile, from: number, size: number): Promise<boolean> {
  for (let base = from; base < size; base += SEARCH_BYTES) {
    const window = await readAt(file, base, Math.min(SEARCH_BYTES + FRAME_HEAD, size - base))
    for (let at = findFrame(window, 0); at >= 0; at = findFrame(window, at + 1)) {
      const length = frameSize(await readAt(file, base + at, FRAME_HEAD))
      if (length !== null && base + at + length <= size && decodeFrame(await readAt(file, base + at, length)))
        return true
    }
  }
  return false
}

/** Of a segment of an earlier process made at the first look: reads all of it, forwards, and takes heads and metas. */
export async function indexSegment(options: SegmentOptions, segment: Segment): Promise<Index> {
  if (segment.index) return segment.index
  const file = await options.disk.open(segment.path, 'read')
  const index = newIndex(segment, options)
  try {
    const window = windowOf(file, SEARCH_BYTES)
    for (let at = segment.headerSize; at < segment.size; ) {
      const { meta, length } = await readMeta(window, segment, at)
      at += length
      segment.lastMs = Math.max(segment.lastMs, meta.at_ms)
      index.add(meta, at)
    }
  } finally {
    await file.close()
  }
  segment.index = index
  return index
}

/** What of a segment is needed to read it. */
export type Readable = Pick<Segment, 'path' | 'headerSize' | 'size'>

/** A small frame's meta fits. */
const META_BYTES = 512

/** The frame that begins at `at`, without its blocks. Throws `config` when none does. */
export async function readMeta(
  window: Window,
  { path, size }: Readable,
  at: number,
): Promise<{ meta: FrameMeta; length: number; blocksAt: number }> {
  let bytes = await window.look(at, META_BYTES, size)
  const length = frameSize(bytes)
  if (length === null) throw damaged(path, at, 'no frame begins here')
  if (at + length > size) throw damaged(path, at, `a frame of ${length} bytes begins here, and the file ends`)
  const wanted = FRAME_HEAD + metaSize(bytes)
  if (wanted > bytes.length) bytes = await window.look(at, wanted, size)
  const meta = decodeMeta(bytes)
  if (!meta) throw damaged(path, at, "the frame's description is altered")
  return { meta, length, blocksAt: at + wanted }
}

/** The records of the block that is stored at `at`; valid until the window's next look. */
export async function readBlock(
  window: Window,
  { path, size }: Readable,
  at: number,
  block: BlockMeta,
): Promise<Buffer> {
  const open = opening(block[7], path) // not in the `try`: that this program cannot open it is no damage
  const stored = await window.look(at, block[6], size)
  try {
    return openBlock(stored, block, open)
  } catch (error) {
    throw damaged(path, at, (error as Error).message)
  }
}
