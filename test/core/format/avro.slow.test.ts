/** Avro files are read back by another library than the one that wrote them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { avroSchema, decimalBytes } from '../../../core/format/avro.ts'
import { typedColumns } from '../../../core/format/columns.ts'
import { missingForFastavro, readAvro } from '../../servers/fastavro.ts'
import { randomOf } from '../../sim/random.ts'
import { COLUMNS, decimalText, expected, fileBytes, madeUp, rowText } from './typed-rows.ts'

const missing = missingForFastavro()
describe.skipIf(missing !== null)(missing ?? 'Avro, read by fastavro', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-avro-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  it.each(['none', 'gzip'] as const)(
    'holds every type and null (%s)',
    async compression => {
      const rows = madeUp(3_000, randomOf(11))
      const path = join(folder, `${compression}.avro`)
      const options = { format: 'avro', compression, numeric: { precision: 38, scale: 9 } } as const
      writeFileSync(path, await fileBytes(rows.map(rowText), options))
      const { schema, rows: found } = await readAvro(path)
      expect(schema.name).toBe('some_table')
      expect(found).toHaveLength(rows.length)
      for (const [i, row] of rows.entries())
        for (const [at, { name, type }] of COLUMNS.entries()) {
          const there = found[i]![name]!
          const one =
            there === null
              ? null
              : type === 'numeric'
                ? decimalText(there)
                : type.startsWith('float')
                  ? String(Number(there))
                  : type === 'timestamptz'
                    ? there.replace(/Z$/, '')
                    : there
          expect(one, `${name} of row ${i}`).toBe(expected(type, row[at]!))
        }
    },
    120_000,
  )
})

describe('Avro schemas', () => {
  it('take only names that Avro has, tell of those that were changed, and keep two that meet apart', () => {
    const columns = ['a-b', 'a_b', '1st', 'ok'].map(name => ({ name, type: 'text' }))
    const { fields } = avroSchema('a table', typedColumns(columns, 'string')) as {
      fields: { name: string; doc?: string }[]
    }
    expect(fields.map(({ name, doc }) => [name, doc])).toEqual([
      ['a_b', 'a-b'],
      ['a_b_2', 'a_b'],
      ['_1st', '1st'],
      ['ok', undefined],
    ])
  })

  it('hold decimals as the shortest two’s complement', () => {
    for (const [value, hex] of [
      [0n, '00'],
      [127n, '7f'],
      [128n, '0080'],
      [-128n, '80'],
      [-129n, 'ff7f'],
    ] as const)
      expect(decimalBytes(value).toString('hex')).toBe(hex)
  })
})
