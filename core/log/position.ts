/** Whether a stored position belongs to a log as it stands, and where reading goes on: no reader ever jumps (V5). */
import type { Offset } from '../connector.ts'
import { type LogOffset, lostPosition, type TopicEnds } from './log.ts'

/** The next offset of every topic of `partition`. Throws `offset_lost` for what the log does not hold. `from` null: from its start. */
export function resumeFrom(
  id: string,
  ends: readonly TopicEnds[],
  partition: number,
  from: Offset | null,
): Map<string, number> {
  const held = new Map(ends.filter(one => one.partition === partition).map(one => [one.topic, one]))
  if (from === null) return new Map([...held].map(([topic, { start }]) => [topic, start]))
  const position = from as unknown as LogOffset
  if (position.log !== id) throw lostPosition(`it is of log ${position.log}, this one is ${id}`)
  const next = new Map<string, number>()
  for (const topic of new Set([...Object.keys(position.next), ...held.keys()])) {
    // A position names every topic there was: one that it does not name has come since, and is unread from its first record on.
    const offset = position.next[topic] ?? 0
    const { start = 0, end = 0 } = held.get(topic) ?? {}
    if (offset > end) throw lostPosition(`${topic}/${partition} ends at ${end}, the position is ${offset}`)
    if (offset < start)
      throw lostPosition(`${topic}/${partition} begins at ${start}, the position is ${offset}`)
    next.set(topic, offset)
  }
  return next
}
