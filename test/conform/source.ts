/**
 * The kit every source passes: whatever offset a reader handed out, another one opened there (after JSON and back) brings the
 * records behind it, each once and in the same order. Records whose number or order is free (rows of a snapshot) are left out by
 * `isFixed`.
 */
import { describe, expect, it } from 'vitest'
import type { Context, Offset, Reader } from '../../core/connector.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { testContext } from './context.ts'

export interface SourceUnderTest extends AsyncDisposable {
  open(from: Offset | null, context: Context): Promise<Reader<ChangeRecord>>
  /** Called when the first reader has caught up: makes the changes that are then resumed in. */
  change(): Promise<void>
}

export interface SourceKit {
  readonly name: string
  setUp(): Promise<SourceUnderTest>
  readonly isFixed: (record: ChangeRecord) => boolean
  /** False: whoever is killed here begins anew, and owes nothing. */
  readonly isResumable: (offset: Offset) => boolean
  /** Nothing for this long, and nothing more is expected. */
  readonly quietMs: number
  /** Resuming is tried at this many offsets, spread evenly. */
  readonly resumes: number
}

interface Seen {
  readonly records: string[]
  /** Records read before the offset was handed out. */
  readonly cuts: { readonly offset: Offset; readonly at: number }[]
}

const textOf = ({ op, table, key, before, after }: ChangeRecord): string =>
  JSON.stringify([op, table.schema, table.name, key, before, after])

async function read(
  under: SourceUnderTest,
  { isFixed, quietMs }: SourceKit,
  from: Offset | null,
  epoch: number,
  onCaughtUp?: () => Promise<void>,
): Promise<Seen> {
  const stop = new AbortController()
  const seen: Seen = { records: [], cuts: [] }
  const reader = await under.open(
    from,
    testContext({ pipeline: 'kit', task: 'kit/source', epoch, signal: stop.signal }),
  )
  const iterator = reader[Symbol.asyncIterator]()
  try {
    for (;;) {
      let timer: NodeJS.Timeout | undefined
      const quiet = new Promise<null>(resolve => {
        timer = setTimeout(() => resolve(null), quietMs)
      })
      const next = iterator.next()
      const result = await Promise.race([next, quiet])
      clearTimeout(timer)
      if (result === null || result.done) {
        stop.abort()
        await next // an aborted reader ends
        return seen
      }
      seen.records.push(...result.value.records.filter(isFixed).map(textOf))
      seen.cuts.push({
        offset: JSON.parse(JSON.stringify(result.value.offset)) as Offset,
        at: seen.records.length,
      })
      if (result.value.caughtUp) {
        await onCaughtUp?.()
        onCaughtUp = undefined
      }
    }
  } finally {
    stop.abort()
    await reader[Symbol.asyncDispose]()
  }
}

export function sourceConformance(kit: SourceKit): void {
  describe(`${kit.name}: source`, () => {
    it('brings the same records behind every offset it handed out, and ends when it is told to', async () => {
      await using under = await kit.setUp()
      const handles = process.getActiveResourcesInfo().length
      const whole = await read(under, kit, null, 1, () => under.change())
      expect(whole.records.length).toBeGreaterThan(0)
      const cuts = whole.cuts.filter(cut => kit.isResumable(cut.offset))
      const step = Math.max(1, Math.floor(cuts.length / kit.resumes))
      for (let i = 0; i < cuts.length; i += step) {
        const { offset, at } = cuts[i]!
        const rest = await read(under, kit, offset, 2 + i)
        expect(rest.records.length, `resumed at ${JSON.stringify(offset)}`).toBe(whole.records.length - at)
        expect(rest.records).toEqual(whole.records.slice(at))
      }
      await new Promise(resolve => setTimeout(resolve, 50))
      expect(process.getActiveResourcesInfo().length, 'no handle is left open').toBeLessThanOrEqual(
        handles + 1,
      )
    })
  })
}
