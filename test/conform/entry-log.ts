/** The kit every log of plain entries passes. */
import { describe, expect, it } from 'vitest'
import type { Entry, EntryLog, PlacedEntry } from '../../core/log/log.ts'
import { expectOffsets, type LogKit, opening } from './log.ts'

export function entryLogConformance(kit: LogKit<EntryLog>): void {
  describe(`${kit.name}: log of entries`, () => {
    const opened = opening(kit)
    const { open } = opened
    const entry = (n: number): Entry => ({
      topic: 'kit.dead',
      partition: 0,
      key: `{"n":${n}}`,
      value: JSON.stringify({ n, text: `"\\\u0000😀${'x'.repeat(n * 100)}` }),
      timestampMs: 1_700_000_000_000 + n,
    })
    const at = (n: number): Entry => ({ ...entry(n), topic: opened.deadTopic() })
    const read = async (log: EntryLog): Promise<PlacedEntry[]> => {
      const found: PlacedEntry[] = []
      for await (const one of log.entries()) found.push(one)
      return found
    }

    it('keeps entries in order, over a restart too', async () => {
      let log = await open()
      expect(await read(log)).toEqual([])
      await log.append([entry(1), entry(2)])
      await log.append([entry(3)])
      log = await open()
      await log.append([entry(4)])
      const found = await read(log)
      expect(found.map(({ offset, ...one }) => one)).toEqual([1, 2, 3, 4].map(at))
      expectOffsets(found, kit)
    })

    it('stores each of 50 concurrent appends once', async () => {
      const log = await open()
      await Promise.all([...Array(50).keys()].map(n => log.append([entry(n)])))
      const found = await read(log)
      expectOffsets(found, kit)
      const byKey = (a: { key: string }, b: { key: string }) => (a.key < b.key ? -1 : 1)
      expect(found.map(({ offset, ...one }) => one).sort(byKey)).toEqual(
        [...Array(50).keys()].map(at).sort(byKey),
      )
    })
  })
}
