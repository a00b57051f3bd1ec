/** Object sinks: when an object is complete, and what is held until then. */
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { batchOf, KIT_TABLE, WIDER_TABLE } from '../../conform/kit-table.ts'
import { linesOf } from './objects.ts'
import { MINUTE_MS, NOW, named, type On, silence, some } from './sink-place.ts'

export function rotationCases(on: On): void {
  it(
    'by records, exactly, in the midst of a batch',
    on(async ({ open, ids }) => {
      const writer = await open({ rotate: { records: 4 } })
      await writer.write(batchOf(some(10)))
      expect(await ids()).toEqual([
        [0, 1, 2, 3],
        [4, 5, 6, 7],
      ])
    }),
  )

  it(
    'by bytes',
    on(async ({ open, ids }) => {
      const writer = await open({ rotate: { bytes: 1_000 } })
      await writer.write(batchOf(named(6, () => 'x'.repeat(400))))
      expect((await ids()).map(one => one.length)).toEqual([2, 2, 2])
    }),
  )

  it(
    'completes the open objects of a topic together, and those of another topic not',
    on(async ({ open, ids, names }) => {
      const writer = await open({ rotate: { records: 3 }, partition: { by: 'field', fields: ['name'] } })
      const other = some(1, 0, () => ({ topic: 'kit.test.other' }))
      const offset = { log: 'kit', next: { 'kit.test.kit': 5, 'kit.test.other': 1 } }
      await writer.write({ records: [...other, ...some(5)], offset })
      expect(await ids()).toEqual([
        [0, 2, 4],
        [1, 3],
      ])
      expect((await names()).every(name => name.startsWith('kit.test.kit/'))).toBe(true)
      expect(writer.durable!()).toEqual({ log: 'kit', next: { 'kit.test.other': 0, 'kit.test.kit': 5 } })
    }),
  )

  it(
    'by the span of the records’ own times',
    on(async ({ open, ids }) => {
      const writer = await open({ rotate: { span_ms: 3 * MINUTE_MS } })
      await writer.write(batchOf(some(7)))
      expect(await ids()).toEqual([
        [0, 1, 2],
        [3, 4, 5],
      ])
    }),
  )

  it(
    'by the time that a record waits, though others come',
    on(async ({ open, ids, clock }) => {
      const writer = await open({ rotate: { open_ms: 1_000 } })
      for (let i = 0; i < 4; i++) {
        await writer.write(batchOf(some(1, i)))
        clock.now += 400
      }
      expect(await ids()).toEqual([[0, 1, 2, 3]])
    }),
  )

  it(
    'by idle time, when the log is silent: the late tail',
    on(async ({ open, ids, clock }) => {
      const writer = await open({ rotate: { idle_ms: 1_000 } })
      await writer.write(batchOf(some(2)))
      clock.now += 999
      await writer.write(silence(2))
      expect(await ids()).toEqual([])
      expect(writer.durable!()).toBeNull()
      clock.now += 1
      await writer.write(silence(2))
      expect(await ids()).toEqual([[0, 1]])
      expect(writer.durable!()).toEqual(silence(2).offset)
    }),
  )

  it(
    'by another shape of the table, in the midst of a file, once and not for each record',
    on(async ({ open, ids }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(6, 0, i => ({ table: i < 3 ? { ...KIT_TABLE } : { ...WIDER_TABLE } }))))
      expect(await ids()).toEqual([
        [0, 1, 2],
        [3, 4, 5],
      ])
    }),
  )

  it(
    'makes no object of nothing; but says how far it is',
    on(async ({ open, names, target, clock }) => {
      const writer = await open({ rotate: { idle_ms: 1_000 } })
      clock.now += 2_000
      await writer.write(silence(5))
      expect(await names()).toEqual([])
      expect(writer.durable!()).toEqual(silence(5).offset)
      const before = await target.manifests()
      clock.now += 2_000
      await writer.write(silence(5))
      expect(await target.manifests(), 'not again').toEqual(before)
    }),
  )

  it(
    'keeps what does not fit into memory on disk, and writes it as if it had',
    on(async ({ open, target, clock }) => {
      const partition = { by: 'field', fields: ['name'] }
      const spill = mkdtempSync(join(tmpdir(), 'millrace-spill-'))
      const writer = await open({ memory_bytes: 1_000_000, spill, partition, rotate: { idle_ms: 1_000 } })
      const long = 'x'.repeat(1_000)
      const row = (i: number) => ({ after: `{"id":${i},"name":"n${i % 50}","price":"${long}"}` })
      for (let batch = 0; batch < 40; batch++) await writer.write(batchOf(some(500, batch * 500, row)))
      expect(openFilesIn(spill), 'nameless, and gone with the process').toBe(1)
      expect(readdirSync(spill)).toEqual([])
      clock.now += 1_000
      await writer.write(silence(20_000))
      expect(openFilesIn(spill)).toBe(0)
      const lines = linesOf(await target.objects())
      expect(lines.map(({ id }) => id).sort((a, b) => a! - b!)).toEqual(
        Array.from({ length: 20_000 }, (_, i) => i),
      )
      expect(new Set(lines.map(({ price }) => price))).toEqual(new Set([long]))
      rmSync(spill, { recursive: true })
    }),
  )
}

/** Also those without a name any more. */
const openFilesIn = (folder: string): number =>
  readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder)
    } catch {
      return false
    }
  }).length
