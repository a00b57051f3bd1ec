/**
 * Reads one partition over all topics of a log, from a position on, behind the writer for ever. Reads heads and metas of frames,
 * and of the blocks only those of its partition, one at a time: a reader holds one block and one batch.
 *
 * Never jumps: a position of another log, beyond the end or below the start is `offset_lost` (V5).
 */
import type { Batch, Offset, Reader } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { Json, LogRecord, Table } from '../record.ts'
import type { Disk, DiskFile } from './disk.ts'
import { type BlockMeta, openBlock, type RawRecord, recordAt, recordEnd } from './journal.ts'
import type { LogOffset, LogReaderOptions } from './log.ts'
import { indexSegment, readAt, readMeta, type Segment } from './segment.ts'
import type { Segments } from './segments.ts'
import { decodeValue } from './value.ts'

const MAX_RECORDS = 5_000
const MAX_BYTES = 4 << 20

interface Cursor {
  readonly segments: Segments
  readonly disk: Disk
  readonly partition: number
  readonly next: Map<string, number>
  segment: Segment
  file: DiskFile | null
  at: number
}

/** Refuses what this log does not hold; answers with the next offset of every topic. */
export function checkOffset(segments: Segments, partition: number, from: Offset | null): Map<string, number> {
  const next = new Map<string, number>()
  const starts = segments.starts()
  for (const [topic] of segments.ends) next.set(topic, starts.get(topic)?.[partition] ?? 0)
  if (from === null) return next
  const position = from as unknown as LogOffset
  const lost = (what: string) =>
    new ConnectorError('offset_lost', `the position does not belong to this log: ${what}`, {
      hint: 'The log was made anew, cut or restored. Start the sink anew, or the pipeline: millrace delete NAME --yes.',
    })
  if (position.log !== segments.id) throw lost(`it is of log ${position.log}, this one is ${segments.id}`)
  for (const [topic, offset] of Object.entries(position.next)) {
    const end = segments.ends.get(topic)?.[partition] ?? 0
    const start = starts.get(topic)?.[partition] ?? 0
    if (offset > end) throw lost(`${topic}/${partition} ends at ${end}, the position is ${offset}`)
    if (offset < start) throw lost(`${topic}/${partition} begins at ${start}, the position is ${offset}`)
    next.set(topic, offset)
  }
  return next
}

export interface ReaderParts {
  readonly segments: Segments
  readonly disk: Disk
  /** Next offset by topic of what was let go, for retention. */
  readonly committed: (next: ReadonlyMap<string, number>) => void
}

export async function openReader(
  { segments, disk, committed }: ReaderParts,
  options: LogReaderOptions,
): Promise<Reader> {
  const { partition, from, signal } = options
  const next = checkOffset(segments, partition, from)
  committed(new Map(next))
  const cursor: Cursor = { segments, disk, partition, next, segment: segments.list[0]!, file: null, at: 0 }
  await seek(cursor)
  return {
    [Symbol.asyncIterator]: () => batches(cursor, options),
    async commit(offset) {
      committed(new Map(Object.entries((offset as unknown as LogOffset).next)))
    },
    async [Symbol.asyncDispose]() {
      await cursor.file?.close()
      cursor.file = null
    },
  } satisfies Reader & { signal?: typeof signal }
}

/** The latest place before which nothing is left to read. */
async function seek(cursor: Cursor): Promise<void> {
  const { segments, next, partition, disk } = cursor
  const isBefore = (ends: ReadonlyMap<string, readonly number[]>) =>
    [...ends].every(([topic, list]) => (list[partition] ?? 0) <= (next.get(topic) ?? 0))
  cursor.segment =
    segments.list.findLast(one => isBefore(new Map(Object.entries(one.header.ends)))) ?? segments.list[0]!
  const index = await indexSegment(disk, cursor.segment)
  cursor.at = index.findLast(entry => isBefore(entry.ends))?.at ?? cursor.segment.headerSize
}

/** Collects until a batch is full or nothing more is visible; waits only with an empty one. */
async function* batches(
  cursor: Cursor,
  { signal, untilEnd, maxRecords = MAX_RECORDS, maxBytes = MAX_BYTES }: LogReaderOptions,
): AsyncGenerator<Batch> {
  let records: LogRecord[] = []
  let bytes = 0
  const take = (): Batch => {
    const batch = {
      records,
      offset: { log: cursor.segments.id, next: Object.fromEntries(cursor.next) } as unknown as Json,
    }
    records = []
    bytes = 0
    return batch
  }
  while (!signal.aborted) {
    const seen = cursor.segments.generation() // before the look: what comes between it and the wait must wake us
    const frame = await nextFrame(cursor)
    if (!frame) {
      if (records.length > 0) yield take()
      else if (untilEnd) return
      else await cursor.segments.changed(seen, signal)
      continue
    }
    let blockAt = frame.blocksAt
    for (const meta of frame.meta.blocks) {
      const at = blockAt
      blockAt += meta[6]
      if (!isWanted(cursor, meta)) continue
      for (const record of recordsOf(cursor, meta, await readBlock(cursor, meta, at))) {
        records.push(record)
        bytes += record.key.length + (record.after?.length ?? 0) + (record.before?.length ?? 0)
        cursor.next.set(record.topic, record.offset + 1)
        if (records.length < maxRecords && bytes < maxBytes) continue
        yield take()
        if (signal.aborted) return
      }
    }
    cursor.at += frame.length
  }
}

const isWanted = ({ partition, next }: Cursor, [topic, of, , first, count]: BlockMeta): boolean =>
  of === partition && first + count > (next.get(topic) ?? 0)

/** The frame at the cursor, if it is visible; goes to the next segment at the end of one. */
async function nextFrame(cursor: Cursor) {
  for (;;) {
    const { segment, segments } = cursor
    if (cursor.at < segment.size) {
      cursor.file ??= await openFile(cursor)
      return readMeta(cursor.file, segment.path, cursor.at)
    }
    const following = segments.list.find(one => one.header.number > segment.header.number)
    if (!following) return null
    if (cursor.at < segment.size) continue // it grew before the next one was made
    await cursor.file?.close()
    cursor.file = null
    cursor.segment = following
    cursor.at = following.headerSize
  }
}

/** A reader that was left behind may find its segment gone: it begins anew, and is then told whether its position is lost. */
async function openFile({ disk, segment, segments }: Cursor): Promise<DiskFile> {
  try {
    return await disk.open(segment.path, 'read')
  } catch (error) {
    if (segments.list.includes(segment)) throw error
    throw new ConnectorError('unavailable', `${segment.path} was deleted by retention while it was read`, {
      cause: error,
    })
  }
}

async function readBlock(cursor: Cursor, meta: BlockMeta, at: number): Promise<Buffer> {
  return openBlock(await readAt(cursor.file!, at, meta[6]), meta)
}

function* recordsOf(
  { next, segments }: Cursor,
  [topic, partition, schema, first, count]: BlockMeta,
  raw: Buffer,
): Generator<LogRecord> {
  const table = segments.schemas.get(schema)
  if (!table)
    throw new ConnectorError(
      'config',
      `the log is damaged: ${topic}/${partition} names schema ${schema}, which it does not hold`,
    )
  const skip = (next.get(topic) ?? 0) - first
  let at = 0
  for (let i = 0; i < count; i++) {
    if (i < skip) {
      at = recordEnd(raw, at)
      continue
    }
    const record = recordAt(raw, at)
    at = record.end
    yield change(record, table, topic, partition, first + i)
  }
}

function change(
  { key, value, version, timestampMs }: RawRecord,
  table: Table,
  topic: string,
  partition: number,
  offset: number,
): LogRecord {
  try {
    return decodeValue(key, value, table, { topic, partition, offset, version, timestampMs })
  } catch (error) {
    throw new ConnectorError(
      'config',
      `the log is damaged: ${topic}/${partition} offset ${offset}: ${(error as Error).message}`,
      { cause: error },
    )
  }
}
