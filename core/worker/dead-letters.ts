/**
 * Dead letters: records a task could not deliver, in a log of their own, `<pipeline>.dead` (P3). Keyed by (sink, topic,
 * partition, offset), so that a repeat overwrites on reading. The letter holds the record as it was read from the log.
 *
 *   key    {"sink":"search","topic":"shop.shop.products","partition":0,"offset":17}
 *   value  {"at_ms":…,"stage":"sqlite","kind":"data","error":"…","version":…,"op":…,"key":{…},"before":…,"after":…,"source":{…}}
 */
import type { Rejected } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { EntryLog, PlacedEntry } from '../log/log.ts'
import type { DeadLetters } from '../pump.ts'
import type { ChangeRecord, LogRecord } from '../record.ts'

export interface DeadLetterOptions {
  readonly log: EntryLog
  readonly pipeline: string
  /** The sink's name; of a source's transforms "source". */
  readonly sink: string
  readonly nowMs: () => number
  /** Errors may quote what they met; nothing secret goes to disk. */
  readonly redact: (text: string) => string
}

export const deadTopic = (pipeline: string): string => `${pipeline}.dead`

const isPlaced = (record: ChangeRecord): record is LogRecord => 'offset' in record

/** A record of a source has no place in the log yet: its position at the source stands for it. */
function keyOf<R extends ChangeRecord>(sink: string, record: R): string {
  if (isPlaced(record))
    return JSON.stringify({ sink, topic: record.topic, partition: record.partition, offset: record.offset })
  const { schema, name } = record.table
  return `{"sink":${JSON.stringify(sink)},"table":${JSON.stringify(`${schema}.${name}`)},"key":${JSON.stringify(record.key)},"source":${record.source}}`
}

function letterOf<R extends ChangeRecord>(
  { record, stage, error }: Rejected<R>,
  { redact, nowMs }: DeadLetterOptions,
): string {
  // A source's record has not passed its transforms (mask!): what they keep from the disk must not come here by another door.
  const isSafe = isPlaced(record)
  return JSON.stringify({
    at_ms: Math.floor(nowMs()),
    stage,
    kind: error.kind,
    error: redact(error.message),
    version: isPlaced(record) ? record.version : null,
    op: record.op,
    // As text: what could not be delivered may not even be JSON.
    key: record.key,
    before: isSafe ? record.before : null,
    after: isSafe ? record.after : null,
    source: record.source,
  })
}

export function deadLetters<R extends ChangeRecord = LogRecord>(options: DeadLetterOptions): DeadLetters<R> {
  const { log, pipeline, sink, nowMs } = options
  return {
    async add(rejected) {
      const timestampMs = Math.floor(nowMs())
      await log.append(
        rejected.map(one => ({
          topic: deadTopic(pipeline),
          partition: 0,
          key: keyOf(sink, one.record),
          value: letterOf(one, options),
          timestampMs,
        })),
      )
    },
  }
}

/** `on_reject: halt`: the first bad record stops the task, and says which it was. */
export const haltOnReject = <R extends ChangeRecord = LogRecord>(): DeadLetters<R> => ({
  async add([first]) {
    throw new ConnectorError('data', first!.error.message, {
      cause: first!.error,
      hint: 'Mend the row at the source or drop its field with a transform; or set errors.on_reject: dead_letter.',
    })
  },
})

/** One dead letter as people read it. */
export interface DeadLetter {
  readonly sink: string
  readonly topic: string | null
  readonly partition: number | null
  readonly offset: number | null
  readonly at_ms: number
  readonly stage: string
  readonly kind: string
  readonly error: string
  readonly version: number | null
  readonly op: string
  readonly key: string
  readonly before: string | null
  readonly after: string | null
  readonly source: string
}

/** Of each key the last (a repeat overwrites), in the order they first came. */
export async function readDeadLetters(log: {
  entries(): AsyncIterable<PlacedEntry>
}): Promise<readonly DeadLetter[]> {
  const byKey = new Map<string, DeadLetter>()
  for await (const entry of log.entries()) {
    const place = JSON.parse(entry.key) as {
      sink: string
      topic?: string
      partition?: number
      offset?: number
    }
    const value = JSON.parse(entry.value) as Omit<DeadLetter, 'sink' | 'topic' | 'partition' | 'offset'>
    byKey.set(entry.key, {
      sink: place.sink,
      topic: place.topic ?? null,
      partition: place.partition ?? null,
      offset: place.offset ?? null,
      ...value,
    })
  }
  return [...byKey.values()]
}
