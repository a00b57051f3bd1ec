/**
 * Reads one partition over all topics of a log, from a position on, behind the writer for ever. Reads heads and metas of frames,
 * and of the blocks only those of its partition, one at a time: a reader holds one block and one batch.
 *
 * Never jumps: a position of another log, beyond the end or below the start is `offset_lost` (V5), and an offset that does not
 * follow the one before it is damage.
 */
import type { Batch, Reader } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { Json, LogRecord, Table } from '../record.ts'
import type { DiskFile } from './disk.ts'
import { type BlockMeta, type RawRecord, recordAt, recordEnd } from './journal.ts'
import type { LogOffset, LogReaderOptions, TopicEnds } from './log.ts'
import { resumeFrom } from './position.ts'
import { damaged, diskError, indexSegment, readBlock, readMeta, type Segment } from './segment.ts'
import type { Segments } from './segments.ts'
import { decodeValue } from './value.ts'
import { type Window, windowOf } from './window.ts'

const MAX_RECORDS = 5_000
const MAX_BYTES = 4 << 20

interface Cursor {
  readonly segments: Segments
  readonly partition: number
  /** Next offset by topic; of a topic that is not here: 0. */
  readonly next: Map<string, number>
  segment: Segment
  file: DiskFile | null
  /** Of the file. */
  window: Window | null
  at: number
}

export function endsOf(segments: Segments): readonly TopicEnds[] {
  const starts = segments.starts()
  return [...segments.ends].flatMap(([topic, ends]) =>
    ends.map((end, partition) => ({ topic, partition, start: starts.get(topic)?.[partition] ?? 0, end })),
  )
}

export interface ReaderParts {
  readonly segments: Segments
  /** Next offset by topic of what was let go, for retention. */
  readonly committed: (next: ReadonlyMap<string, number>) => void
}

export async function openReader(
  { segments, committed }: ReaderParts,
  options: LogReaderOptions,
): Promise<Reader> {
  const { partition, from } = options
  const next = resumeFrom(segments.id, endsOf(segments), partition, from)
  committed(new Map(next))
  const cursor: Cursor = {
    segments,
    partition,
    next,
    segment: segments.list[0]!,
    file: null,
    window: null,
    at: 0,
  }
  try {
    await seek(cursor)
  } catch (error) {
    throw readError(cursor, error)
  }
  return {
    [Symbol.asyncIterator]: () => batches(cursor, options),
    async commit(offset) {
      committed(new Map(Object.entries((offset as unknown as LogOffset).next)))
    },
    [Symbol.asyncDispose]: () => closeFile(cursor),
  }
}

async function closeFile(cursor: Cursor): Promise<void> {
  const { file } = cursor
  cursor.file = null
  cursor.window = null
  await file?.close()
}

/** A reader that was left behind may find its segment gone: it begins anew, and is then told whether its position is lost. */
function readError({ segments, segment }: Cursor, error: unknown): unknown {
  const isGone = (error as NodeJS.ErrnoException).code === 'ENOENT' && !segments.list.includes(segment)
  return isGone ? leftBehind(segment.path, error) : diskError(error, segments.options.directory)
}

const leftBehind = (path: string, cause?: unknown): ConnectorError =>
  new ConnectorError('unavailable', `${path} was deleted by retention before it was read`, { cause })

/** The latest place before which nothing is left to read. */
async function seek(cursor: Cursor): Promise<void> {
  const { segments, next, partition } = cursor
  const isRead = (topic: string, end: number) => end <= (next.get(topic) ?? 0)
  const segment =
    segments.list.findLast(({ header }) =>
      Object.entries(header.ends).every(([topic, ends]) => isRead(topic, ends[partition] ?? 0)),
    ) ?? segments.list[0]!
  cursor.segment = segment
  cursor.at = segment.headerSize
  const { entries } = await indexSegment(segments.options, segment)
  for (const { at, moved } of entries) {
    if (!moved.every(([topic, of, end]) => of !== partition || isRead(topic, end))) return
    cursor.at = at
  }
}

async function* batches(cursor: Cursor, options: LogReaderOptions): AsyncGenerator<Batch> {
  try {
    yield* unguarded(cursor, options)
  } catch (error) {
    throw readError(cursor, error)
  }
}

/** Collects until a batch is full or nothing more is visible; waits only with an empty one. */
async function* unguarded(
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
      const raw = await readBlock(cursor.window!, cursor.segment, at, meta)
      for (const record of recordsOf(cursor, meta, raw, at)) {
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
      cursor.file ??= await segments.options.disk.open(segment.path, 'read')
      cursor.window ??= windowOf(cursor.file)
      return readMeta(cursor.window, segment, cursor.at)
    }
    const following = segments.list.find(one => one.header.number > segment.header.number)
    if (!following) return null
    if (cursor.at < segment.size) continue // it grew before the next one was made
    await closeFile(cursor)
    if (following.header.number !== segment.header.number + 1) throw leftBehind(segment.path)
    cursor.segment = following
    cursor.at = following.headerSize
    refuseJump(cursor)
  }
}

/** Whatever stands in front of the segment has been read: else frames are missing at the end of the one before. */
function refuseJump({ segment, partition, next }: Cursor): void {
  for (const [topic, ends] of Object.entries(segment.header.ends))
    if ((ends[partition] ?? 0) > (next.get(topic) ?? 0))
      throw damaged(
        segment.path,
        0,
        `${topic}/${partition} goes on here at ${ends[partition]}, and ends at ${next.get(topic) ?? 0} in the files before`,
      )
}

function* recordsOf(
  { next, segments, segment }: Cursor,
  [topic, partition, schema, first, count]: BlockMeta,
  raw: Buffer,
  blockAt: number,
): Generator<LogRecord> {
  const table = segments.schemas.byId.get(schema)
  if (!table)
    throw damaged(
      segment.path,
      blockAt,
      `${topic}/${partition} names schema ${schema}, which the log does not hold`,
    )
  const skip = (next.get(topic) ?? 0) - first
  if (skip < 0)
    throw damaged(
      segment.path,
      blockAt,
      `${topic}/${partition} goes on at ${first}, ${next.get(topic) ?? 0} was due`,
    )
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
