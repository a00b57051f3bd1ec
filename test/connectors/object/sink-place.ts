/** Where the cases of object sinks write to, by a clock that is moved by hand; the records and options that they have in common. */
import type { Batch, Clock, Context, Writer } from '../../../core/connector.ts'
import type { LogRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { linesOf, type ObjectTarget } from './objects.ts'

const START_MS = Date.UTC(2026, 2, 28, 23, 30)
export const MINUTE_MS = 60_000

export interface Place {
  readonly target: ObjectTarget
  readonly clock: { now: number }
  readonly context: Context
  open(options?: object, over?: Partial<Context>): Promise<Writer>
  /** Names, in order. */
  names(): Promise<string[]>
  /** Ids of each object, in the order of the names. */
  ids(): Promise<(number | undefined)[][]>
}

const handClock = (at: { now: number }): Clock => ({
  nowUs: () => (START_MS + at.now) * 1_000,
  monotonicMs: () => at.now,
  sleep: async () => {},
})

async function within(target: ObjectTarget, run: (place: Place) => Promise<void>): Promise<void> {
  await using _ = target
  const writers: Writer[] = []
  const clock = { now: 0 }
  const context = testContext({ clock: handClock(clock) })
  const place: Place = {
    target,
    clock,
    context,
    async open(options = {}, over = {}) {
      const writer = await target.open(options, { ...context, ...over })
      writers.push(writer)
      return writer
    },
    names: async () => [...(await target.objects()).keys()],
    ids: async () => [...(await target.objects())].map(one => linesOf(new Map([one])).map(({ id }) => id)),
  }
  try {
    await run(place)
  } finally {
    for (const writer of writers) await writer[Symbol.asyncDispose]()
  }
}

/** Offsets from `first` on; a record a minute. */
export const some = (
  count: number,
  first = 0,
  more: (i: number) => Partial<LogRecord> = () => ({}),
): LogRecord[] =>
  Array.from({ length: count }, (_, i) => {
    const at = first + i
    const record = { ...recordOf({ id: at, name: `n${at % 2}`, version: at + 1 }), offset: at }
    return { ...record, commitMs: START_MS + at * MINUTE_MS, ...more(at) }
  })

export const named = (count: number, nameOf: (i: number) => string | null): LogRecord[] =>
  some(count, 0, i => ({ after: `{"id":${i},"name":${JSON.stringify(nameOf(i))},"price":"1.50"}` }))

export const silence = (next: number): Batch => batchOf([], next)
export const NOW = { rotate: { idle_ms: 0 } }
export const fileOf = (offset: number, extension = 'jsonl') =>
  `kit.test.kit-0-${String(offset).padStart(20, '0')}.${extension}`

/** A case, on a place of its own. */
export type On = (run: (place: Place) => Promise<void>) => () => Promise<void>

export const placesOf =
  (makeTarget: () => ObjectTarget): On =>
  run =>
  () =>
    within(makeTarget(), run)
