/** One segment file: opening, recovery of the last one, and a sparse index of where a reader may begin. */
import type { Log } from '../connector.ts'
import { ConnectorError, Fenced } from '../errors.ts'
import type { Disk, DiskFile } from './disk.ts'
import {
  decodeFrame,
  decodeHeader,
  decodeMeta,
  FRAME_HEAD,
  type FrameMeta,
  findFrame,
  frameSize,
  HEADER_SIZE,
  metaSize,
  type SegmentState,
} from './journal.ts'

/** A frame begins at `at`, and these are the next offsets there. */
export interface IndexEntry {
  readonly at: number
  readonly ends: ReadonlyMap<string, readonly number[]>
}

export interface Segment {
  readonly path: string
  readonly header: SegmentState
  readonly headerSize: number
  /** Visible bytes: header and synced frames. */
  size: number
  /** When the newest frame was written, ms since 1970. */
  lastMs: number
  /** Sparse, rising; null: not made yet (a segment of an earlier process). */
  index: IndexEntry[] | null
  /** Where the last frame begins that recovery found; 0: there is none, the header is all. */
  lastFrameAt: number
  /** Metas of the frames of a segment that was recovered, for who opens the log. */
  tail: FrameMeta[]
  grew(bytes: number, meta: FrameMeta, ends: ReadonlyMap<string, readonly number[]>): void
}

export interface SegmentOptions {
  readonly directory: string
  readonly disk: Disk
  readonly log: Log
}

const INDEX_EVERY_BYTES = 1 << 20

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

async function readHeader(
  file: DiskFile,
  path: string,
): Promise<{ state: SegmentState; size: number } | null> {
  const head = await readAt(file, 0, HEADER_SIZE)
  if (head.length < HEADER_SIZE) return null
  return decodeHeader(
    await readAt(file, 0, Math.min(HEADER_SIZE + head.readUInt32LE(12), await file.size())),
    path,
  )
}

const damaged = (path: string, at: number, what: string): ConnectorError =>
  new ConnectorError('config', `the log is damaged: ${path}, byte ${at}: ${what}`, {
    hint: 'Nothing was skipped. Restore the file from a backup, or start the pipeline anew: millrace delete NAME --yes.',
  })

function segmentOf(path: string, header: { state: SegmentState; size: number }, size: number): Segment {
  const segment: Segment = {
    path,
    header: header.state,
    headerSize: header.size,
    size,
    lastMs: header.state.made_ms,
    index: null,
    lastFrameAt: 0,
    tail: [],
    grew(bytes, meta, ends) {
      segment.size += bytes
      segment.lastMs = Math.max(segment.lastMs, meta.at_ms)
      const last = segment.index?.at(-1)?.at ?? segment.headerSize
      if (segment.index && segment.size - last >= INDEX_EVERY_BYTES)
        segment.index.push({ at: segment.size, ends: copyOf(ends) })
    },
  }
  return segment
}

const copyOf = (ends: ReadonlyMap<string, readonly number[]>) =>
  new Map([...ends].map(([topic, list]) => [topic, [...list]]))

/** A segment that is whole: closed, or just made. */
export async function openSegment({ disk, directory }: SegmentOptions, name: string): Promise<Segment> {
  const path = `${directory}/${name}`
  const file = await disk.open(path, 'read')
  try {
    const header = await readHeader(file, path)
    if (!header) throw damaged(path, 0, 'its header is not whole')
    const size = await file.size()
    const segment = segmentOf(path, header, size)
    if (size === header.size) segment.index = []
    return segment
  } finally {
    await file.close()
  }
}

/** The last segment: what was not whole when the process died is cut. null: its making was cut short, and it is gone. */
export async function recoverSegment(options: SegmentOptions, name: string): Promise<Segment | null> {
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
    const segment = segmentOf(path, header, header.size)
    segment.index = []
    await scan(file, segment, size)
    if (segment.size < size) {
      if (await hasFrame(file, segment.size + 1, size))
        throw damaged(path, segment.size, 'a frame is altered, and whole frames stand behind it')
      log.warn({ path, bytes: size - segment.size }, 'the tail of the log was not whole and was cut')
      await file.truncate(segment.size)
    }
    await writeLastAgain(file, segment)
    await file.sync() // what is whole but was not synced must not be lost after somebody read it (J2)
    await disk.syncDirectory(directory)
    return segment
  } finally {
    await file.close()
  }
}

/**
 * A sync that failed leaves pages that count as clean though they never reached the disk: a second sync would say "done" and do
 * nothing. Only the last frame (or the header) can be such; written again it is dirty, and the sync means it.
 */
async function writeLastAgain(file: DiskFile, segment: Segment): Promise<void> {
  const last = segment.lastFrameAt
  await file.write(await readAt(file, last, segment.size - last), last)
}

/** Takes up every whole frame. */
async function scan(file: DiskFile, segment: Segment, size: number): Promise<void> {
  const ends = new Map(Object.entries(segment.header.ends).map(([topic, list]) => [topic, [...list]]))
  while (segment.size < size) {
    const head = await readAt(file, segment.size, FRAME_HEAD)
    const length = frameSize(head)
    if (length === null || segment.size + length > size) return
    const meta = decodeFrame(await readAt(file, segment.size, length))
    if (!meta) return
    segment.tail.push(meta)
    segment.lastFrameAt = segment.size
    advance(ends, meta)
    segment.grew(length, meta, ends)
  }
}

export function advance(ends: Map<string, number[]>, { blocks }: FrameMeta): void {
  for (const [topic, partition, , first, count] of blocks) {
    const list = ends.get(topic) ?? []
    ends.set(topic, list)
    while (list.length <= partition) list.push(0)
    list[partition] = first + count
  }
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

/** The index of a segment of an earlier process, made at the first look: reads heads and metas, no blocks. */
export async function indexSegment(disk: Disk, segment: Segment): Promise<IndexEntry[]> {
  if (segment.index) return segment.index
  const file = await disk.open(segment.path, 'read')
  const index: IndexEntry[] = []
  const ends = new Map(Object.entries(segment.header.ends).map(([topic, list]) => [topic, [...list]]))
  try {
    let at = segment.headerSize
    while (at < segment.size) {
      const { meta, length } = await readMeta(file, segment.path, at)
      advance(ends, meta)
      at += length
      segment.lastMs = Math.max(segment.lastMs, meta.at_ms)
      if (at - (index.at(-1)?.at ?? segment.headerSize) >= INDEX_EVERY_BYTES)
        index.push({ at, ends: copyOf(ends) })
    }
  } finally {
    await file.close()
  }
  segment.index = index
  return index
}

/** The frame that begins at `at`, without its blocks. Throws `config` when none does. */
export async function readMeta(
  file: DiskFile,
  path: string,
  at: number,
): Promise<{ meta: FrameMeta; length: number; blocksAt: number }> {
  let window = await readAt(file, at, 4096)
  const length = frameSize(window)
  if (length === null) throw damaged(path, at, 'no frame begins here')
  const wanted = FRAME_HEAD + metaSize(window)
  if (wanted > window.length) window = await readAt(file, at, wanted)
  const meta = decodeMeta(window)
  if (!meta) throw damaged(path, at, "the frame's description is altered")
  return { meta, length, blocksAt: at + wanted }
}

export const damagedFrame = damaged
