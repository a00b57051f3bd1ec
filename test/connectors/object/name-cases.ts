/** Object sinks: what objects and manifests are called. */
import { expect, it } from 'vitest'
import type { ConnectorError } from '../../../core/errors.ts'
import { batchOf, KIT_TABLE } from '../../conform/kit-table.ts'
import { fileOf, NOW, type On, some } from './sink-place.ts'

export function nameCases(on: On): void {
  it(
    'is of topic, partition and first offset with twenty digits, in folders of topic and partition',
    on(async ({ open, names }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(3, 7)))
      expect(await names()).toEqual([`kit.test.kit/partition=0/${fileOf(7)}`])
    }),
  )

  it(
    'takes topic, schema and table from the path, and escapes what is more than a name',
    on(async ({ open, names }) => {
      const table = { ...KIT_TABLE, schema: 'a/b', name: 'ö x..' }
      const writer = await open({ ...NOW, path: 'raw/${schema}/${table}/t=${topic}/${partition}' })
      await writer.write(batchOf(some(1, 0, () => ({ table }))))
      expect(await names()).toEqual([`raw/a%2Fb/%C3%B6 x../t=kit.test.kit/partition=0/${fileOf(0)}`])
    }),
  )

  it(
    'may leave the folders out',
    on(async ({ open, names }) => {
      const writer = await open({ ...NOW, path: 'all' })
      await writer.write(batchOf(some(1)))
      expect(await names()).toEqual([`all/${fileOf(0)}`])
    }),
  )

  it(
    'ends by format and compression',
    on(async ({ open, names }) => {
      let offset = 0
      for (const [format, compression] of [
        ['jsonl', 'gzip'],
        ['csv', 'none'],
        ['csv', 'gzip'],
        ['avro', 'gzip'],
        ['parquet', 'snappy'],
      ]) {
        const writer = await open({ ...NOW, format, compression, path: 'x' }, { epoch: offset + 1 })
        await writer.write(batchOf(some(1, offset)))
        offset++
      }
      expect(await names()).toEqual(
        ['jsonl.gz', 'csv', 'csv.gz', 'avro', 'parquet'].map((extension, i) => `x/${fileOf(i, extension)}`),
      )
    }),
  )

  it(
    'is of its own for each partition of the log',
    on(async ({ open, names }) => {
      for (const partition of [0, 1]) {
        const writer = await open({ ...NOW, path: 'x' }, { task: `test/sink/${partition}` })
        await writer.write(batchOf(some(1, 0, () => ({ partition }))))
      }
      expect(await names()).toEqual([`x/${fileOf(0)}`, `x/${fileOf(0).replace('kit-0', 'kit-1')}`])
    }),
  )

  it(
    'keeps manifests apart, for each task, two of them',
    on(async ({ open, target }) => {
      for (const task of ['test/sink/0', 'test/sink/1']) {
        const writer = await open(NOW, { task })
        for (let i = 0; i < 4; i++)
          await writer.write(batchOf(some(1, i, () => ({ partition: Number(task.at(-1)) }))))
      }
      const found = await target.manifests()
      expect(found).toHaveLength(4)
      for (const name of found) expect(name).toMatch(/^_millrace\/test\/sink\/[01]\/\d{20}\.json$/)
    }),
  )

  it(
    'refuses to go on where another has written an object of its name, and leaves that as it is',
    on(async ({ open, ids }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(2)))
      const other = await open(NOW, { task: 'other/sink/0' })
      const error = await other.write(batchOf(some(3))).catch(thrown => thrown as ConnectorError)
      expect(error).toMatchObject({ kind: 'config', message: expect.stringContaining(fileOf(0)) })
      expect(await ids()).toEqual([[0, 1]])
    }),
  )
}
