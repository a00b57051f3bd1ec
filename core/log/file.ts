/** The embedded log: a directory of segments as a `ChangeLog`, or as an `EntryLog` for dead letters. Contract: log.ts. */
import type { Clock, Log, Reader } from '../connector.ts'
import { openChanges } from './changes.ts'
import type { Disk } from './disk.ts'
import { blockBuilder, openBlock, putRecord, recordAt, storedBlock } from './journal.ts'
import type { ChangeLog, Entry, EntryLog, PlacedEntry, TopicEnds } from './log.ts'
import { openReader } from './reader.ts'
import { readAt, readMeta, type Segment } from './segment.ts'
import { openSegments, type Segments } from './segments.ts'

export interface FileLogOptions {
  readonly directory: string
  readonly disk: Disk
  readonly clock: Clock
  readonly log: Log
  /** The pipeline's name: topics are `<name>.<schema>.<table>`. */
  readonly name: string
  readonly compression: 'lz4' | 'none'
  readonly segmentBytes?: number
  readonly limitBytes: number
  /** As Kafka's producer: how long a group waits for company, and from what size it does not. */
  readonly lingerMs: number
  readonly batchBytes: number
}

const SEGMENT_BYTES = 128 << 20
const HOUR_MS = 3_600_000

export async function openFileLog(
  options: FileLogOptions & { readonly partitions: number },
): Promise<ChangeLog> {
  const { disk, name, partitions, compression, clock } = options
  const segments = await openSegments({ ...options, segmentBytes: options.segmentBytes ?? SEGMENT_BYTES })
  const owners = new Map<string, number>()
  /** Consumer → partition and next offset by topic of what it let go. */
  const consumers = new Map<string, { partition: number; next: ReadonlyMap<string, number> }>()
  return {
    id: segments.id,
    partitions,
    writer: (context, floor) =>
      openChanges({ segments, name, partitions, compression, owners }, context, floor),
    reader: (reading): Promise<Reader> =>
      openReader(
        {
          segments,
          disk,
          committed: next => void consumers.set(reading.consumer, { partition: reading.partition, next }),
        },
        reading,
      ),
    ends: () => endsOf(segments),
    sizeBytes: segments.sizeBytes,
    async retain(hours, expected) {
      if (expected.some(consumer => !consumers.has(consumer))) return // who has not said where it stands may need everything
      const floors = expected.map(consumer => consumers.get(consumer)!)
      const oldestMs = clock.nowUs() / 1000 - hours * HOUR_MS
      await segments.removeWhile(
        (_, next) => next.header.made_ms < oldestMs && floors.every(floor => hasPassed(floor, next)),
      )
    },
    [Symbol.asyncDispose]: segments.close,
  }
}

/** The consumer's first unread record stands in `segment` or behind it (J4). */
function hasPassed(
  { partition, next }: { partition: number; next: ReadonlyMap<string, number> },
  segment: Segment,
): boolean {
  return Object.entries(segment.header.ends).every(
    ([topic, ends]) => (next.get(topic) ?? 0) >= (ends[partition] ?? 0),
  )
}

function endsOf(segments: Segments): readonly TopicEnds[] {
  const starts = segments.starts()
  return [...segments.ends].flatMap(([topic, ends]) =>
    ends.map((end, partition) => ({ topic, partition, start: starts.get(topic)?.[partition] ?? 0, end })),
  )
}

export async function openEntryLog(options: FileLogOptions): Promise<EntryLog> {
  const { disk, compression } = options
  const segments = await openSegments({ ...options, segmentBytes: options.segmentBytes ?? SEGMENT_BYTES })
  return {
    id: segments.id,
    append: entries =>
      segments.append(
        entries.reduce((sum, entry) => sum + entry.key.length + entry.value.length, 0),
        () => ({ blocks: blocksOf(segments, entries, compression) }),
      ),
    entries: () => entriesOf(segments, disk),
    [Symbol.asyncDispose]: segments.close,
  }
}

/** Entries have no schema (0) and no version. */
function blocksOf(segments: Segments, entries: readonly Entry[], compression: 'lz4' | 'none') {
  const groups = new Map<string, Entry[]>()
  for (const entry of entries) {
    const place = `${entry.topic}/${entry.partition}`
    groups.set(place, [...(groups.get(place) ?? []), entry])
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

async function* entriesOf({ list }: Segments, disk: Disk): AsyncGenerator<PlacedEntry> {
  for (const { path, headerSize, size } of [...list]) {
    const file = await disk.open(path, 'read')
    try {
      for (let at = headerSize; at < size; ) {
        const { meta, length, blocksAt } = await readMeta(file, path, at)
        let blockAt = blocksAt
        for (const block of meta.blocks) {
          const [topic, partition, , first, count, , stored] = block
          const raw = openBlock(await readAt(file, blockAt, stored), block)
          blockAt += stored
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
