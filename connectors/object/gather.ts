/**
 * Lines of objects that are not complete yet, in memory and on disk. The open objects of a topic are a group: they are completed
 * together, and share one file for what did not fit into memory.
 */
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ConnectorError } from '../../core/errors.ts'
import type { Column, LogRecord } from '../../core/record.ts'
import { objectName } from './layout.ts'
import type { AnnouncedObject } from './manifests.ts'

/** One object to be. */
export interface Part {
  readonly name: string
  readonly topic: string
  readonly partition: number
  /** Of the table, for formats that want a name. */
  readonly table: string
  readonly columns: readonly Column[]
  readonly first: number
  last: number
  records: number
  /** Characters of text. */
  size: number
  /** Not yet made bytes. */
  lines: string[]
  readonly chunks: Buffer[]
  /** Behind `chunks`: bytes up to `used`, room for more behind them. */
  tail: Buffer
  used: number
  /** Bytes that `chunks` and `tail` take. */
  held: number
  /** Places in the group's file of what was before `chunks`. */
  readonly spilled: { readonly at: number; readonly length: number }[]
}

export interface Group {
  readonly topic: string
  /** Offset of the first record. */
  readonly from: number
  readonly firstMs: number
  readonly openedMs: number
  /** By path: those that take further records. */
  readonly open: Map<string, Part>
  /** All, in the order in which they began. */
  readonly parts: Part[]
  spill: { readonly file: FileHandle; size: number } | null
}

/** Of all gathers of this process: bytes in memory. */
let heldByAll = 0

/** Less than this is gathered in `tail`, which grows in place: a thousand open objects get a few lines each of every batch. */
const CHUNK_BYTES = 16 * 1024
const NOTHING = Buffer.alloc(0)
const READ_BYTES = 1 << 20

export const groupOf = (record: LogRecord, openedMs: number): Group => ({
  topic: record.topic,
  from: record.offset,
  firstMs: record.commitMs,
  openedMs,
  open: new Map(),
  parts: [],
  spill: null,
})

export interface Placed {
  readonly record: LogRecord
  readonly path: string
  readonly columns: readonly Column[]
  readonly line: string
}

/** The part it went into. Another shape of the table begins another object. */
export function addTo(group: Group, { record, path, columns, line }: Placed, extension: string): Part {
  let part = group.open.get(path)
  if (!part || part.columns !== columns) {
    part = {
      name: objectName(path, record, extension),
      topic: record.topic,
      partition: record.partition,
      table: record.table.name,
      columns,
      first: record.offset,
      last: record.offset,
      records: 0,
      size: 0,
      lines: [],
      chunks: [],
      tail: NOTHING,
      used: 0,
      held: 0,
      spilled: [],
    }
    group.open.set(path, part)
    group.parts.push(part)
  }
  part.last = record.offset
  part.records++
  part.size += line.length
  part.lines.push(line)
  return part
}

export const announcedOf = ({ name, topic, partition, first, last, records }: Part): AnnouncedObject => ({
  name,
  topic,
  partition,
  first,
  last,
  records,
})

/** Lines become bytes: as strings they would hold the batches they were cut from. */
export function settle(group: Group): void {
  for (const part of group.parts) {
    if (part.lines.length === 0) continue
    const text = part.lines.join('')
    part.lines = []
    const size = Buffer.byteLength(text)
    if (part.used + size > CHUNK_BYTES) closeTail(part)
    if (size > CHUNK_BYTES) {
      part.chunks.push(Buffer.from(text))
      hold(part, size)
      continue
    }
    if (part.used + size > part.tail.length) growTail(part, part.used + size)
    part.used += part.tail.write(text, part.used)
  }
}

function hold(part: Part, bytes: number): void {
  part.held += bytes
  heldByAll += bytes
}

function closeTail(part: Part): void {
  if (part.used > 0) part.chunks.push(part.tail.subarray(0, part.used))
  part.tail = NOTHING
  part.used = 0
}

function growTail(part: Part, least: number): void {
  let size = Math.max(512, part.tail.length)
  while (size < least) size *= 2
  const grown = Buffer.allocUnsafeSlow(size)
  part.tail.copy(grown, 0, 0, part.used)
  hold(part, size - part.tail.length)
  part.tail = grown
}

/** The largest go to disk until half of what is held here has gone, while all of the process hold more than `most`. */
export async function spillAbove(most: number, groups: Iterable<Group>, folder = tmpdir()): Promise<void> {
  if (heldByAll <= most) return
  const all = [...groups].flatMap(group => group.parts.map(part => ({ group, part })))
  all.sort((a, b) => b.part.held - a.part.held)
  let left = all.reduce((sum, { part }) => sum + part.held, 0) / 2
  for (const { group, part } of all) {
    if (left <= 0) return
    left -= part.held
    await spill(group, part, folder)
  }
}

let spills = 0

async function spill(group: Group, part: Part, folder: string): Promise<void> {
  try {
    group.spill ??= { file: await openNameless(folder), size: 0 }
    const { file, size } = group.spill
    closeTail(part)
    const bytes = Buffer.concat(part.chunks)
    for (let at = 0; at < bytes.length; )
      at += (await file.write(bytes, at, bytes.length - at, size + at)).bytesWritten
    group.spill.size += bytes.length
    part.spilled.push({ at: size, length: bytes.length })
    release(part)
  } catch (cause) {
    throw new ConnectorError(
      'unavailable',
      `what is gathered cannot be written to ${folder}: ${(cause as Error).message}`,
      {
        cause,
        hint: 'Make room there, or name another folder with `spill`.',
      },
    )
  }
}

/** Gone with the process, however that ends. */
async function openNameless(folder: string): Promise<FileHandle> {
  const path = join(folder, `millrace-spill-${process.pid}-${++spills}`)
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  return file
}

function release(part: Part): void {
  heldByAll -= part.held
  part.held = 0
  part.chunks.length = 0
  part.tail = NOTHING
  part.used = 0
}

export async function* linesOf({ spill }: Group, part: Part): AsyncGenerator<Buffer> {
  for (const { at, length } of part.spilled)
    for (let from = 0; from < length; from += READ_BYTES) {
      const bytes = Buffer.allocUnsafe(Math.min(READ_BYTES, length - from))
      const { bytesRead } = await spill!.file.read(bytes, 0, bytes.length, at + from)
      if (bytesRead !== bytes.length)
        throw new ConnectorError('bug', `${bytesRead} bytes of ${bytes.length} were read of what was spilled`)
      yield bytes
    }
  yield* part.chunks
  if (part.used > 0) yield part.tail.subarray(0, part.used)
}

export async function dropGroup(group: Group): Promise<void> {
  for (const part of group.parts) release(part)
  await group.spill?.file.close()
  group.spill = null
}
