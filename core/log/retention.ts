/**
 * What a log lets go of (J4): closed segments, oldest first, that every consumer has passed,
 *
 *   now and then    while they are older than `hours`, or the log is larger than `bytes`
 *   at the limit    as many as make room, however young: what has been delivered must not stop the source. Then whoever holds the
 *                   oldest segment may be detached, if the pipeline's policy says so, and the segment goes
 *
 * A consumer that has not said where it stands may need everything. One that is detached is waited for no more, and refused from
 * then on, also while nothing of its is gone yet, and when it has no position: it would begin behind what it has lost.
 */
import type { Clock } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { Retention } from './log.ts'
import type { Segment } from './segment.ts'
import type { Segments } from './segments.ts'

const HOUR_MS = 3_600_000

/** Who was detached hears it from here, whatever it asks for. */
export const detachedError = (consumer: string): ConnectorError =>
  new ConnectorError(
    'offset_lost',
    `${consumer} is detached: it held the log at its limit (limits.log_bytes), and what it had not read was let go`,
    {
      hint: 'The others go on. To have it back, mend the sink and start the pipeline anew, with a new snapshot: millrace delete NAME --yes.',
    },
  )

interface Position {
  readonly partition: number
  /** Next offset by topic. */
  readonly next: ReadonlyMap<string, number>
}

export interface RetentionParts {
  readonly segments: () => Segments
  readonly limitBytes: number
  readonly clock: Clock
  readonly retention: Retention
}

export interface Retaining {
  /** Throws `offset_lost` when the consumer was detached. */
  readonly refuseDetached: (consumer: string) => void
  /** Says where a consumer stands; throws as `refuseDetached`. */
  readonly passed: (consumer: string, partition: number, next: ReadonlyMap<string, number>) => void
  readonly retain: () => Promise<void>
  /** Throws `throttled` when there is none. */
  readonly makeRoom: () => Promise<void>
}

export function retaining({ segments, limitBytes, clock, retention }: RetentionParts): Retaining {
  const { hours, bytes = Number.POSITIVE_INFINITY, consumers, isDetached, atLimit } = retention
  const positions = new Map<string, Position>()
  /** Whose first unread record stands in front of `next`. */
  const holding = (next: Segment): readonly string[] =>
    consumers.filter(consumer => !isDetached(consumer) && !hasPassed(positions.get(consumer), next))
  const isFull = () => segments().sizeBytes() >= limitBytes
  const refuseDetached = (consumer: string) => {
    if (isDetached(consumer)) throw detachedError(consumer)
  }
  return {
    refuseDetached,
    passed(consumer, partition, next) {
      refuseDetached(consumer)
      positions.set(consumer, { partition, next })
    },
    async retain() {
      const oldestMs = clock.nowUs() / 1000 - hours * HOUR_MS
      await segments().removeWhile((_, next) => {
        const isDue = next.header.made_ms < oldestMs || segments().sizeBytes() > bytes
        return isDue && holding(next).length === 0
      })
    },
    async makeRoom() {
      // Without a consumer the topics are the result, and nobody has had what is in them.
      while (isFull() && consumers.length > 0) {
        await segments().removeWhile((_, next) => isFull() && holding(next).length === 0)
        const [, next] = segments().list
        if (!next || !isFull() || !atLimit(holding(next))) break
      }
      if (isFull()) throw full(segments().sizeBytes(), limitBytes)
    },
  }
}

const full = (size: number, limit: number): ConnectorError =>
  new ConnectorError(
    'throttled',
    `the log holds ${size} bytes and its limit is ${limit} (limits.log_bytes): the source waits`,
    {
      hint: 'A sink that is behind keeps the log: see `millrace status`. Raise limits.log_bytes, or mend or remove that sink.',
    },
  )

/** The consumer's first unread record stands in `segment` or behind it. */
function hasPassed(position: Position | undefined, segment: Segment): boolean {
  if (!position) return false
  const { partition, next } = position
  return Object.entries(segment.header.ends).every(
    ([topic, ends]) => (next.get(topic) ?? 0) >= (ends[partition] ?? 0),
  )
}
