/** Object sinks: what of a record is in an object. */
import { expect, it } from 'vitest'
import type { LogRecord } from '../../../core/record.ts'
import { batchOf, NASTY_TEXTS, recordOf } from '../../conform/kit-table.ts'
import { linesOf } from './objects.ts'
import { NOW, named, type On, silence, some } from './sink-place.ts'

export function recordCases(on: On): void {
  it(
    'are rows with op, version and time of the commit',
    on(async ({ open, target }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(1)))
      expect(linesOf(await target.objects())).toEqual([
        {
          _op: 'u',
          _version: 1,
          _committed_at: '2026-03-28T23:30:00.000Z',
          id: 0,
          name: 'n0',
          price: '1.50',
        },
      ])
    }),
  )

  it(
    'are as bare or as told as the metadata say',
    on(async ({ open, target }) => {
      const bare = await open({ ...NOW, metadata: [], path: 'a' })
      await bare.write(batchOf(some(1)))
      const told = await open({ ...NOW, metadata: ['topic', 'partition', 'offset'], path: 'b' }, { epoch: 2 })
      await told.write(batchOf(some(1, 1)))
      expect(linesOf(await target.objects())).toEqual([
        { id: 0, name: 'n0', price: '1.50' },
        { _topic: 'kit.test.kit', _partition: 0, _offset: 1, id: 1, name: 'n1', price: '1.50' },
      ])
    }),
  )

  it(
    'are whole changes with that envelope',
    on(async ({ open, target }) => {
      const writer = await open({ ...NOW, envelope: 'change' })
      const gone = { op: 'd' as const, before: '{"id":0}', after: null }
      await writer.write(batchOf(some(1, 0, () => gone)))
      expect(linesOf(await target.objects())).toMatchObject([
        {
          topic: 'kit.test.kit',
          offset: 0,
          version: 1,
          op: 'd',
          key: { id: 0 },
          before: { id: 0 },
          after: null,
          below: null,
        },
      ])
    }),
  )

  it(
    'of deletes have the columns that were known, or their key; or are skipped',
    on(async ({ open, target }) => {
      const gone = (i: number): Partial<LogRecord> => ({
        op: 'd',
        after: null,
        before: i === 0 ? '{"id":0,"name":"x"}' : null,
      })
      const writer = await open({ ...NOW, metadata: ['op'] })
      await writer.write(batchOf(some(2, 0, gone)))
      expect(linesOf(await target.objects())).toEqual([
        { _op: 'd', id: 0, name: 'x' },
        { _op: 'd', id: 1 },
      ])
      const skipping = await open({ ...NOW, deletes: 'skip' }, { epoch: 2 })
      await skipping.write(batchOf(some(1, 2, gone)))
      expect(linesOf(await target.objects())).toHaveLength(2)
      expect(skipping.durable!()).toEqual(silence(3).offset)
    }),
  )

  it(
    'of sweeps are records, or are skipped; nothing that stands is taken away',
    on(async ({ open, target }) => {
      const sweep = { ...recordOf({ op: 'sweep', version: 9, below: 9 }), offset: 1 }
      const writer = await open({ ...NOW, metadata: ['op'] })
      await writer.write(batchOf([...some(1), sweep]))
      expect(linesOf(await target.objects())).toEqual([
        { _op: 'u', id: 0, name: 'n0', price: '1.50' },
        { _op: 'sweep' },
      ])
      const skipping = await open({ ...NOW, sweeps: 'skip' }, { epoch: 2 })
      await skipping.write(batchOf([{ ...sweep, offset: 2 }]))
      expect(linesOf(await target.objects())).toHaveLength(2)
    }),
  )

  it(
    'with missing columns are left out of rows (H9), and not of changes',
    on(async ({ open, target }) => {
      const cut = { source: '{"connector":"kit","missing":["name"]}' }
      const writer = await open(NOW)
      await writer.write(batchOf(some(1, 0, () => cut)))
      expect(linesOf(await target.objects())).toEqual([])
      const changes = await open({ ...NOW, envelope: 'change' }, { epoch: 2 })
      await changes.write(batchOf(some(1, 1, () => cut)))
      expect(linesOf(await target.objects())).toHaveLength(1)
    }),
  )

  it(
    'keep nasty values and all digits',
    on(async ({ open, target }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(named(NASTY_TEXTS.length, i => NASTY_TEXTS[i]!)))
      expect(linesOf(await target.objects()).map(({ name }) => name)).toEqual(NASTY_TEXTS)
      await writer.write(
        batchOf(some(1, 50, () => ({ after: '{"id":9223372036854775807,"price":"1e400"}' }))),
      )
      expect(String([...(await target.objects()).values()].at(-1))).toContain('"id":9223372036854775807,')
    }),
  )

  it(
    'that their column cannot hold are dead letters in typed formats, alone',
    on(async ({ open, names }) => {
      const writer = await open({
        ...NOW,
        format: 'parquet',
        numeric: 'decimal',
        decimal: { precision: 4, scale: 2 },
      })
      const prices = ['1.5', 'NaN', '123.4', '0.001', '99.99']
      const all = some(5, 0, i => ({ after: `{"id":${i},"name":"a","price":"${prices[i]}"}` }))
      const rejected = await writer.write(batchOf(all))
      expect(rejected.map(({ record }) => record.offset)).toEqual([1, 2, 3])
      for (const { error } of rejected)
        expect(error).toMatchObject({ kind: 'data', message: expect.stringContaining('price') })
      expect(await names()).toEqual([])
      await writer.write({ ...batchOf(all), records: [all[0]!, all[4]!] })
      expect(await names()).toHaveLength(1)
    }),
  )
}
