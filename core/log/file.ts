/** The embedded log: a directory of segments as a `ChangeLog`, or as an `EntryLog` for dead letters. Contract: log.ts. */
import type { Clock, Log, Reader } from '../connector.ts'
import { openChanges } from './changes.ts'
import type { Compression } from './codec.ts'
import type { Disk } from './disk.ts'
import { blockBuilder, putRecord, recordAt, storedBlock } from './journal.ts'
import type { ChangeLog, Entry, EntryLog, PlacedEntry, Retention, TopicEnds } from './log.ts'
import { endsOf, openReader } from './reader.ts'
import { retaining } from './retention.ts'
import { type Readable, readBlock, readMeta } from './segment.ts'
import { openSegments, type Segments } from './segments.ts'
import { windowOf } from './window.ts'

export interface FileLogOptions {
  readonly directory: string
  readonly disk: Disk
  readonly clock: Clock
  readonly log: Log
  /** The pipeline's name: topics are `<name>.<schema>.<table>`. */
  readonly name: string
  readonly compression: Compression
  readonly segmentBytes?: number
  readonly limitBytes: number
  /** As Kafka's producer: how long a group waits for company, and from what size it does not. */
  readonly lingerMs: number
  readonly batchBytes: number
}

const SEGMENT_BYTES = 128 << 20
/** For who only looks at a log. */
const KEEP_ALL: Retention = {
  hours: Number.POSITIVE_INFINITY,
  consumers: [],
  isDetached: () => false,
  atLimit: () => false,
}

/** Retention deletes closed segments only: a log that fills its limit with one active segment could never make room again. */
const segmentBytesOf = ({ segmentBytes = SEGMENT_BYTES, limitBytes }: FileLogOptions): number =>
  Math.min(segmentBytes, limitBytes / 4)

/** What a log in our own files can tell at once. */
export interface FileLog extends ChangeLog {
  endsNow(): readonly TopicEnds[]
  sizeBytes(): number
}

export async function openFileLog(
  options: FileLogOptions & { readonly partitions: number; readonly retention?: Retention },
): Promise<FileLog> {
  const { name, partitions, compression, limitBytes, clock, retention = KEEP_ALL } = options
  const parts = { segments: () => segments, limitBytes, clock, retention }
  const { refuseDetached, passed, retain, makeRoom } = retaining(parts)
  // No linger: the one writer awaits each write before the next, so nobody could join its group, and every batch would pay.
  const segments: Segments = await openSegments({
    ...options,
    segmentBytes: segmentBytesOf(options),
    lingerMs: 0,
    makeRoom,
  })
  const owners = new Map<string, number>()
  return {
    id: segments.id,
    partitions,
    writer: (context, floor) =>
      openChanges({ segments, name, partitions, compression, owners }, context, floor),
    async reader(reading): Promise<Reader> {
      const { consumer, partition } = reading
      refuseDetached(consumer)
      return openReader({ segments, committed: next => passed(consumer, partition, next) }, reading)
    },
    endsNow: () => endsOf(segments),
    ends: async () => endsOf(segments),
    sizeBytes: segments.sizeBytes,
    retain,
    [Symbol.asyncDispose]: segments.close,
  }
}

export async function openEntryLog(options: FileLogOptions): Promise<EntryLog> {
  const { disk, compression } = options
  const segments = await openSegments({ ...options, segmentBytes: segmentBytesOf(options) })
  return {
    id: segments.id,
    append: entries =>
      segments.append(
        entries.reduce((sum, entry) => sum + entry.key.length + entry.value.length, 0),
        () => ({ blocks: blocksOf(segments, entries, compression) }),
      ),
    entries: () =>
      entriesOf(
        segments.list.map(({ path, headerSize, size }) => ({ path, headerSize, size })),
        disk,
      ),
    [Symbol.asyncDispose]: segments.close,
  }
}

/** Entries have no schema (0) and no version. */
function blocksOf(segments: Segments, entries: readonly Entry[], compression: Compression) {
  const groups = new Map<string, Entry[]>()
  for (const entry of entries) {
    const place = `${entry.topic}/${entry.partition}`
    const group = groups.get(place)
    if (group) group.push(entry)
    else groups.set(place, [entry])
  }
  return [...groups.values()].map(group => {
    const { topic, partition } = group[0]!
    const builder = blockBuilder()
    for (const { timestampMs, key, value } of group) putRecord(builder, 0, timestampMs, key, value)
    const { bytes, codec, crc } = storedBlock(builder, compression)
    const first = segments.allocate(topic, partition, group.length)
    return {
      meta: [topic, partition, 0, first, group.length, builder.used, bytes.length, codec, crc] as const,
      bytes,
    }
  })
}

async function* entriesOf(list: readonly Readable[], disk: Disk): AsyncGenerator<PlacedEntry> {
  for (const segment of list) {
    const file = await disk.open(segment.path, 'read')
    try {
      const window = windowOf(file)
      for (let at = segment.headerSize; at < segment.size; ) {
        const { meta, length, blocksAt } = await readMeta(window, segment, at)
        let blockAt = blocksAt
        for (const block of meta.blocks) {
          const [topic, partition, , first, count] = block
          const raw = await readBlock(window, segment, blockAt, block)
          blockAt += block[6]
          let position = 0
          for (let i = 0; i < count; i++) {
            const { key, value, timestampMs, end } = recordAt(raw, position)
            position = end
            yield { topic, partition, key, value, timestampMs, offset: first + i }
          }
        }
        at += length
      }
    } finally {
      await file.close()
    }
  }
}
