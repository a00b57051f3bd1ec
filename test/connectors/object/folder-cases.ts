/** Object sinks: the folder of a record, by its fields and by times. */
import { expect, it } from 'vitest'
import type { LogRecord } from '../../../core/record.ts'
import { batchOf } from '../../conform/kit-table.ts'
import { fileOf, NOW, named, type On, some } from './sink-place.ts'

const BY_NAME = { ...NOW, path: '${partition}', partition: { by: 'field', fields: ['name'] } }

export function folderCases(on: On): void {
  it(
    'of a field: its value',
    on(async ({ open, names, ids }) => {
      const writer = await open({ ...NOW, partition: { by: 'field', fields: ['name'] } })
      await writer.write(batchOf(some(5)))
      expect(await names()).toEqual([
        `kit.test.kit/name=n0/${fileOf(0)}`,
        `kit.test.kit/name=n1/${fileOf(1)}`,
      ])
      expect(await ids()).toEqual([
        [0, 2, 4],
        [1, 3],
      ])
    }),
  )

  it(
    'of two fields, one in the other; numbers as they are written',
    on(async ({ open, names }) => {
      const writer = await open({
        ...NOW,
        path: '${partition}',
        partition: { by: 'field', fields: ['name', 'price'] },
      })
      await writer.write(batchOf(some(1)))
      expect(await names()).toEqual([`name=n0/price=1.50/${fileOf(0)}`])
    }),
  )

  it(
    'of nasty values: escaped, so that none leaves its folder',
    on(async ({ open, names }) => {
      const values = ['../../x', 'a/b', 'a=b', '', '.', '..', '%2F', 'ü', null]
      const writer = await open(BY_NAME)
      await writer.write(batchOf(named(values.length, i => values[i]!)))
      const found = await names()
      expect(found.map(name => name.slice(0, name.indexOf('/'))).sort()).toEqual(
        [
          'name=..%2F..%2Fx',
          'name=a%2Fb',
          'name=a%3Db',
          'name=%20',
          'name=%2E',
          'name=%2E%2E',
          'name=%252F',
          'name=%C3%BC',
          'name=__HIVE_DEFAULT_PARTITION__',
        ].sort(),
      )
    }),
  )

  it(
    'of a delete: by what the source still knew of the row',
    on(async ({ open, names }) => {
      const writer = await open(BY_NAME)
      const gone = (i: number): Partial<LogRecord> =>
        i === 0 ? { op: 'd', after: null, before: '{"id":0,"name":"old"}' } : { op: 'd', after: null }
      await writer.write(batchOf(some(2, 0, gone)))
      expect(await names()).toEqual([`name=__HIVE_DEFAULT_PARTITION__/${fileOf(1)}`, `name=old/${fileOf(0)}`])
    }),
  )

  it(
    'of the time of the commit: by hour in UTC',
    on(async ({ open, names }) => {
      const writer = await open({ ...NOW, path: '${partition}', partition: { by: 'time' } })
      await writer.write(batchOf(some(32, 0)))
      expect(await names()).toEqual([
        `year=2026/month=03/day=28/hour=23/${fileOf(0)}`,
        `year=2026/month=03/day=29/hour=00/${fileOf(30)}`,
      ])
    }),
  )

  it(
    'of the time in a zone, over the hour that summer time leaves out',
    on(async ({ open, names, ids }) => {
      const partition = { by: 'time', pattern: 'YYYY-MM-DD/HHmm', zone: 'Europe/Berlin' }
      const writer = await open({ ...NOW, path: '${partition}', partition })
      const at = [
        Date.UTC(2026, 2, 29, 0, 59),
        Date.UTC(2026, 2, 29, 1, 0),
        Date.UTC(2026, 9, 25, 0, 30),
        Date.UTC(2026, 9, 25, 1, 30),
      ]
      await writer.write(batchOf(some(4, 0, i => ({ commitMs: at[i]! }))))
      expect(await names()).toEqual([
        `2026-03-29/0159/${fileOf(0)}`,
        `2026-03-29/0300/${fileOf(1)}`,
        `2026-10-25/0230/${fileOf(2)}`,
      ])
      expect((await ids()).at(-1)).toEqual([2, 3])
    }),
  )

  it(
    'of a zone with half an hour',
    on(async ({ open, names }) => {
      const partition = { by: 'time', pattern: 'HH-mm', zone: 'Asia/Kolkata' }
      const writer = await open({ ...NOW, path: '${partition}', partition })
      await writer.write(batchOf(some(1)))
      expect(await names()).toEqual([`05-00/${fileOf(0)}`])
    }),
  )

  it(
    'of a time in a column; null has a folder, and what is no time is a dead letter',
    on(async ({ open, names }) => {
      const partition = { by: 'time', pattern: 'day=YYYY-MM-DD', time_field: 'name' }
      const writer = await open({ ...NOW, path: '${partition}', partition })
      const values = [
        '2025-12-31T23:59:59.123456',
        '2026-01-01T00:30:00+01:00',
        '2024-02-29',
        null,
        'yesterday',
      ]
      const all = named(5, i => values[i]!)
      expect((await writer.write(batchOf(all))).map(({ record }) => record.offset)).toEqual([4])
      await writer.write(batchOf(all.slice(0, 4)))
      expect(await names()).toEqual([
        `__HIVE_DEFAULT_PARTITION__/${fileOf(3)}`,
        `day=2024-02-29/${fileOf(2)}`,
        `day=2025-12-31/${fileOf(0)}`,
      ])
    }),
  )

  it(
    'of a value that makes no name: a dead letter, and the others go on',
    on(async ({ open, names }) => {
      const options = { ...NOW, path: '${partition}', partition: { by: 'field', fields: ['name'] } }
      const writer = await open(options)
      const all = named(3, i => (i === 1 ? 'x'.repeat(2_000) : 'y'))
      const rejected = await writer.write(batchOf(all))
      expect(rejected.map(({ record, error }) => [record.offset, error.kind])).toEqual([[1, 'data']])
      expect(rejected[0]!.error.message).toMatch(/name=xxx.* bytes/)
      expect(rejected[0]!.error.message.length).toBeLessThan(400)
      await writer.write(batchOf([all[0]!, all[2]!], 3))
      expect(await names()).toEqual([`name=y/${fileOf(0)}`])
    }),
  )

  it(
    'of a time in a column without a zone: as UTC, whatever the machine’s zone, also with a space; years as the log has them',
    on(async ({ open, names }) => {
      const partition = { by: 'time', pattern: 'YYYY-MM-DD-HH', time_field: 'name' }
      const before = process.env.TZ
      process.env.TZ = 'America/New_York'
      try {
        const writer = await open({ ...NOW, path: '${partition}', partition })
        const values = ['2026-01-31 22:30:00', '+012345-01-01T00:00:00', '-000043-03-15', '12', 'infinity']
        const all = named(5, i => values[i]!)
        expect((await writer.write(batchOf(all))).map(({ record }) => record.offset)).toEqual([3, 4])
        await writer.write(batchOf(all.slice(0, 3)))
      } finally {
        process.env.TZ = before
        if (before === undefined) delete process.env.TZ
      }
      expect(await names()).toEqual([
        `+012345-01-01-00/${fileOf(1)}`,
        `-000043-03-15-00/${fileOf(2)}`,
        `2026-01-31-22/${fileOf(0)}`,
      ])
    }),
  )

  it(
    'takes times out of order: each record in its folder, in the order of the log',
    on(async ({ open, ids }) => {
      const writer = await open({ ...NOW, partition: { by: 'time', pattern: 'HH' } })
      const hours = [3, 1, 2, 1, 3, 2]
      await writer.write(batchOf(some(6, 0, i => ({ commitMs: Date.UTC(2026, 0, 1, hours[i]) }))))
      expect(await ids()).toEqual([
        [1, 3],
        [2, 5],
        [0, 4],
      ])
    }),
  )
}
