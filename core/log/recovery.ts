/**
 * What a directory of segments holds when a process opens it: mends the last segment, looks at the headers of the others, and
 * refuses a row with a gap. Takes nothing up itself: `finder` is told what the last segment says.
 */
import {
  damaged,
  type Finder,
  openSegment,
  recoverSegment,
  type Segment,
  type SegmentOptions,
  segmentName,
} from './segment.ts'

/** Oldest first; none: a new log. */
export async function recoverLog(options: SegmentOptions, finder: Finder): Promise<Segment[]> {
  const { disk, directory } = options
  await disk.mkdir(directory)
  const names = (await disk.list(directory)).filter(name => name.endsWith('.seg')).sort()
  // A last segment whose making was cut short goes; the one before it is then the last, and its tail is what must be taken up.
  let last: Segment | null = null
  while (!last && names.length > 0) last = await recoverSegment(options, names.pop()!, finder)
  if (!last) return []
  const list: Segment[] = []
  for (const name of names) list.push(await openSegment(options, name))
  list.push(last)
  refuseGaps(list, last.header.id)
  return list
}

/** Retention syncs each removal before the next one, so that what a crash leaves is always a row without a gap. */
function refuseGaps(list: readonly Segment[], id: string): void {
  for (const [i, { path, header }] of list.entries()) {
    const expected = list[0]!.header.number + i
    if (header.id !== id) throw damaged(path, 0, `it is of log ${header.id}, the last segment of ${id}`)
    if (header.number !== expected)
      throw damaged(path, 0, `${segmentName(expected)} should stand in front of it, and is missing`)
  }
}
