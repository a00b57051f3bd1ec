/** CSV that comes in, wherever it is cut. */
import { describe, expect, it } from 'vitest'
import { csvRows } from '../../../core/format/reading-csv.ts'
import type { RowIn } from '../../../core/format/row-in.ts'
import { randomOf } from '../../sim/random.ts'
import { readAll } from './read-all.ts'

describe('CSV', () => {
  it('is the same wherever it is cut, whatever stands in its values', async () => {
    const random = randomOf(9)
    const names = ['a', 'b', 'c']
    for (let round = 0; round < 60; round++) {
      const end = random.pick(['\n', '\r\n'])
      const rows = Array.from({ length: random.int(1, 12) }, () =>
        names.map(() =>
          random.pick([null, '', 'x', '"', '""', 'é😀', ',', '\n', '\r\n', 'a"b', ' y ', '\r']),
        ),
      )
      const cell = (text: string | null) =>
        text === null ? '' : text === 'x' || text === ' y ' ? text : `"${text.replaceAll('"', '""')}"`
      const text = [names, ...rows.map(row => row.map(cell))].map(row => row.join(',')).join(end)
      const bytes = Buffer.from(text + random.pick(['', end]))
      async function* chunks() {
        for (let at = 0; at < bytes.length; ) {
          const length = random.int(1, 7)
          yield bytes.subarray(at, at + length)
          at += length
        }
      }
      const found: RowIn[] = []
      for await (const some of csvRows(chunks(), { delimiter: ',', names: null })) found.push(...some)
      expect(found.map(row => row.values.map(value => JSON.parse(value) as string | null))).toEqual(rows)
      const lines = rows.map((_, i) => [names, ...rows.slice(0, i + 1).map(row => row.map(cell))].join(end))
      expect(found.map(row => row.line)).toEqual(
        lines.map(
          (_, i) =>
            2 +
            i +
            rows
              .slice(0, i + 1)
              .flat()
              .filter(value => value?.includes('\n')).length,
        ),
      )
    }
  })

  it.each([
    ['a,b\n1,"x', 'line 2 has a quote that is never closed'],
    ['a,b\n1,"x"y\n', 'line 2 has more behind the closing quote of a value'],
    ['a,b\n1,2,3\n', 'line 2 has 3 values for the columns a, b'],
    ['a,b\r1,2\r', expect.stringContaining('carriage return')],
    ['\n\na,b\n1\n', 'line 4 has 1 values for the columns a, b'],
    ['a,b\n"1\n",\n3\n', 'line 4 has 1 values for the columns a, b'],
  ])('refuses %j', async (text, said) => {
    await expect(readAll('a.csv', Buffer.from(text))).rejects.toMatchObject({ kind: 'config', message: said })
  })

  it('takes a quote inside of a value without quotes, an only column of null, and no row', async () => {
    const cells = async (text: string) => (await readAll('a.csv', Buffer.from(text))).map(row => row.values)
    expect(await cells('a,b\n5" pipe,x\n')).toEqual([['"5\\" pipe"', '"x"']])
    expect(await cells('a\n1\n\n3\n')).toEqual([['"1"'], ['null'], ['"3"']])
    expect(await cells('')).toEqual([])
    expect(await cells('a,b')).toEqual([])
    expect(await cells('\ufeff\r\n\na,b\n1,2\n')).toEqual([['"1"', '"2"']])
  })
})
