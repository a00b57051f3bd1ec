/** Files of rows are read back by DuckDB as what they were: Parquet with its types, CSV and JSON Lines as text. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { missingZstd } from '../../../core/format/compress.ts'
import { checkFileOptions, extensionOf, type FileOptions, fileOf, lineOf } from '../../../core/format/file.ts'
import { randomOf } from '../../sim/random.ts'
import { COLUMNS, decimalText, expected, fileBytes, madeUp, rowText } from './typed-rows.ts'

const AVRO: FileOptions = { format: 'avro', compression: 'none', numeric: 'string' }
const DECIMAL = { precision: 38, scale: 9 }

describe('files of rows, read by DuckDB', () => {
  let folder: string
  let duck: DuckDBConnection
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-format-'))
    duck = await (await DuckDBInstance.create()).connect()
  })
  afterAll(() => {
    duck.closeSync()
    rmSync(folder, { recursive: true })
  })
  const sql = async (text: string) =>
    (await duck.runAndReadAll(text)).getRowObjectsJson() as Record<string, string>[]
  const saved = async (rows: readonly string[], options: FileOptions, chunk?: number): Promise<string> => {
    const path = join(folder, `${Math.random()}.${extensionOf(options)}`)
    writeFileSync(path, await fileBytes(rows, options, chunk))
    return path
  }
  /** A column as one text that `expected` gives as well. */
  const textOf = ({ name, type }: (typeof COLUMNS)[number]): string =>
    type.startsWith('timestamp')
      ? `epoch_us("${name}")::VARCHAR`
      : type === 'bytea'
        ? `base64("${name}")`
        : type === 'float4'
          ? `"${name}"::DOUBLE::VARCHAR`
          : `"${name}"::VARCHAR`
  const same = (type: string, found: string | null): string | null => {
    if (found === null) return null
    if (type === 'numeric') return decimalText(found)
    if (!type.startsWith('float')) return found
    return String(Number(found.replace('inf', 'Infinity')))
  }

  it.each(['none', 'snappy', 'gzip', 'zstd'] as const)(
    'Parquet holds every type and null, compressed with %s',
    async compression => {
      const options: FileOptions = { format: 'parquet', compression, numeric: DECIMAL }
      if (compression === 'zstd' && missingZstd()) {
        expect(() => checkFileOptions(options)).toThrow('Node.js 22.15')
        return
      }
      const rows = madeUp(3_000, randomOf(7))
      const path = await saved(rows.map(rowText), options)
      const found = await sql(
        `SELECT ${COLUMNS.map(one => `${textOf(one)} AS "${one.name}"`).join()} FROM '${path}'`,
      )
      expect(found).toHaveLength(rows.length)
      for (const [i, row] of rows.entries())
        for (const [at, { name, type }] of COLUMNS.entries())
          expect(same(type, found[i]![name]!), `${name} of row ${i}`).toBe(expected(type, row[at]!))
    },
  )

  it('Parquet has the types of the table', async () => {
    const path = await saved(madeUp(10, randomOf(1)).map(rowText), {
      format: 'parquet',
      compression: 'snappy',
      numeric: DECIMAL,
    })
    const types = Object.fromEntries(
      (await sql(`DESCRIBE SELECT * FROM '${path}'`)).map(one => [one.column_name, one.column_type]),
    )
    expect(types).toEqual({
      c_bool: 'BOOLEAN',
      c_int2: 'INTEGER',
      c_int4: 'INTEGER',
      c_int8: 'BIGINT',
      c_float4: 'FLOAT',
      c_float8: 'DOUBLE',
      c_numeric: 'DECIMAL(38,9)',
      c_text: 'VARCHAR',
      c_uuid: 'UUID',
      c_bytea: 'BLOB',
      c_jsonb: 'JSON',
      c_date: 'DATE',
      c_timestamp: 'TIMESTAMP',
      c_timestamptz: 'TIMESTAMP WITH TIME ZONE',
      c_int4s: 'JSON',
      c_interval: 'VARCHAR',
    })
  })

  it('Parquet has row groups with statistics, by which a reader leaves groups out', async () => {
    const rows = Array.from({ length: 25_000 }, (_, i) => `{"c_int8":${i},"c_text":"t${i % 10}"}`)
    const path = await saved(rows, { format: 'parquet', compression: 'snappy', numeric: 'string' }, 1 << 20)
    const groups = await sql(
      `SELECT row_group_num_rows AS n, stats_min_value AS low, stats_max_value AS high, stats_null_count AS nulls FROM parquet_metadata('${path}') WHERE path_in_schema = 'c_int8' ORDER BY row_group_id`,
    )
    expect(groups).toEqual([
      { n: '10000', low: '0', high: '9999', nulls: '0' },
      { n: '10000', low: '10000', high: '19999', nulls: '0' },
      { n: '5000', low: '20000', high: '24999', nulls: '0' },
    ])
    expect(
      await sql(`SELECT count(*) AS n, count(c_bool) AS b FROM '${path}' WHERE c_int8 >= 15000`),
    ).toEqual([{ n: '10000', b: '0' }])
  })

  it('Parquet has smaller row groups of long rows, for a group is in memory while it is made', async () => {
    const text = 'x'.repeat(4 << 20)
    const rows = Array.from({ length: 20 }, (_, i) => `{"c_int4":${i},"c_text":"${text}"}`)
    const path = await saved(rows, { format: 'parquet', compression: 'snappy', numeric: 'string' }, 1 << 20)
    const groups = await sql(
      `SELECT row_group_num_rows AS n FROM parquet_metadata('${path}') WHERE path_in_schema = 'c_int4' ORDER BY row_group_id`,
    )
    expect(groups.map(({ n }) => Number(n))).toEqual([8, 8, 4])
    expect(
      await sql(`SELECT count(*) AS n, sum(c_int4) AS s FROM '${path}' WHERE length(c_text) = ${4 << 20}`),
    ).toEqual([{ n: '20', s: '190' }])
  })

  it('numeric is a text with all digits, or a double, as told', async () => {
    const row = '{"c_numeric":"12345678901234567890.10"}'
    for (const [numeric, type, text] of [
      ['string', 'VARCHAR', '12345678901234567890.10'],
      ['double', 'DOUBLE', '1.2345678901234567e+19'],
    ] as const) {
      const path = await saved([row], { format: 'parquet', compression: 'none', numeric })
      expect(await sql(`SELECT typeof(c_numeric) AS t, c_numeric::VARCHAR AS v FROM '${path}'`)).toEqual([
        { t: type, v: text },
      ])
    }
  })

  it.each(['none', 'gzip'] as const)(
    'CSV keeps texts, and null apart from the empty text (%s)',
    async compression => {
      const rows = madeUp(500, randomOf(3)).map(row =>
        row.map((value, i) => (COLUMNS[i]!.type === 'text' && value.includes('\\u0000') ? '"zero"' : value)),
      )
      const path = await saved(rows.map(rowText), { format: 'csv', compression, numeric: 'string' })
      const found = await sql(
        `SELECT * FROM read_csv('${path}', header = true, all_varchar = true, nullstr = '', allow_quoted_nulls = false, auto_detect = false, delim = ',', quote = '"', escape = '"', new_line = '\\n', columns = {${COLUMNS.map(({ name }) => `'${name}': 'VARCHAR'`).join()}})`,
      )
      expect(found).toHaveLength(rows.length)
      for (const [i, row] of rows.entries())
        for (const [at, { name, type }] of COLUMNS.entries()) {
          const value = row[at]!
          const isQuoted = value.startsWith('"') && type !== 'jsonb'
          const text = value === 'null' ? null : isQuoted ? JSON.parse(value) : value
          expect(found[i]![name], `${name} of row ${i}`).toBe(text)
        }
    },
  )

  it('CSV has JSON as JSON: a text in it keeps its quotes, and is no number, whatever it says', async () => {
    const values = ['"a"', '"12"', '12', '"a\\"b,\\n"', 'true', '"true"', '[" "]', '""', '{"a":"x,y"}']
    const path = await saved(
      values.map(value => `{"c_int4":1,"c_jsonb":${value}}`),
      { format: 'csv', compression: 'none', numeric: 'string' },
    )
    const found = await sql(
      `SELECT c_jsonb::VARCHAR AS v, json_type(c_jsonb) AS t FROM read_csv('${path}', types = {'c_jsonb': 'JSON'})`,
    )
    expect(found.map(({ v }) => v)).toEqual(values)
    expect(found.slice(0, 3).map(({ t }) => t)).toEqual(['VARCHAR', 'VARCHAR', 'UBIGINT'])
  })

  it.each(['float4', 'float8'])(
    'Parquet has no statistics of a %s that holds NaN: some readers take it for the greatest, and would leave the group out',
    async type => {
      const columns = [{ name: 'v', type }]
      const options: FileOptions = { format: 'parquet', compression: 'snappy', numeric: 'string' }
      const lines = ['"NaN"', '1.5', 'null', '2.5'].map(v => lineOf(`{"v":${v}}`, columns, options)).join('')
      const path = join(folder, `nan-${type}.parquet`)
      async function* chunks() {
        yield Buffer.from(lines)
      }
      const bytes: Buffer[] = []
      for await (const part of fileOf('t', columns, chunks(), options)) bytes.push(part)
      writeFileSync(path, Buffer.concat(bytes))
      for (const condition of ["v = 'nan'", 'v > 100'])
        expect(await sql(`SELECT count(*) AS n FROM '${path}' WHERE ${condition}`), condition).toEqual([
          { n: '1' },
        ])
    },
  )

  it('Avro takes tables that are called as its types', async () => {
    for (const name of ['string', 'int', 'null', 'record']) {
      const columns = [{ name: 'a', type: 'int4' }]
      async function* chunks() {
        yield Buffer.from(lineOf('{"a":1}', columns, AVRO))
      }
      const bytes: Buffer[] = []
      for await (const part of fileOf(name, columns, chunks(), AVRO)) bytes.push(part)
      expect(String(bytes[0])).toContain(`"name":"${name === 'record' ? name : `${name}_`}"`)
    }
  })

  it('JSON Lines are the rows as they are, gzipped or not', async () => {
    const rows = madeUp(100, randomOf(5)).map(rowText)
    const text = `${rows.join('\n')}\n`
    expect(String(await fileBytes(rows, { format: 'jsonl', compression: 'none', numeric: 'string' }))).toBe(
      text,
    )
    expect(
      String(gunzipSync(await fileBytes(rows, { format: 'jsonl', compression: 'gzip', numeric: 'string' }))),
    ).toBe(text)
  })

  it.each(['jsonl', 'csv', 'avro', 'parquet'] as const)(
    '%s: the same rows are the same bytes, however the lines are cut',
    async format => {
      const rows = madeUp(2_000, randomOf(9)).map(rowText)
      const options: FileOptions = { format, compression: 'gzip', numeric: DECIMAL }
      const one = await fileBytes(rows, options, 10)
      const other = await fileBytes(rows, options, 1 << 20)
      expect(one.equals(other)).toBe(true)
    },
  )

  it.each([
    ['int4', '2147483648'],
    ['int4', '1.5'],
    ['int8', '9223372036854775808'],
    ['int8', '"x"'],
    ['bool', '"t"'],
    ['float8', '"x"'],
    ['uuid', '"x"'],
    ['date', '"infinity"'],
    ['timestamptz', '"infinity"'],
    ['timestamp', '"yesterday"'],
    ['numeric', '"NaN"'],
    ['numeric', '"0.0000000001"'],
    ['numeric', '"1e5"'],
  ])('refuses a %s of %s before it is gathered, naming the column', (type, value) => {
    const column = { name: 'some', type }
    for (const format of ['avro', 'parquet'] as const)
      expect(() =>
        lineOf(`{"some":${value}}`, [column], { format, compression: 'none', numeric: DECIMAL }),
      ).toThrow(/column some/)
  })

  it('refuses what a format or this Node.js cannot do', () => {
    expect(() => checkFileOptions({ format: 'csv', compression: 'snappy', numeric: 'string' })).toThrow(
      'snappy',
    )
    if (missingZstd())
      expect(() => checkFileOptions({ format: 'jsonl', compression: 'zstd', numeric: 'string' })).toThrow(
        '22.15',
      )
    else
      expect(() =>
        checkFileOptions({ format: 'jsonl', compression: 'zstd', numeric: 'string' }),
      ).not.toThrow()
  })
})
