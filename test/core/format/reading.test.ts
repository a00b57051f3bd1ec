/** Files of rows that come in: those of DuckDB and our own, with every type; Parquet is entered behind any row. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RowIn } from '../../../core/format/row-in.ts'
import { castTo, FROM_TEXT, type TextType } from '../../../core/format/typed-text.ts'
import { randomOf } from '../../sim/random.ts'
import { counted, readAll } from './read-all.ts'
import { COLUMNS, expected, fileBytes, madeUp, rowText } from './typed-rows.ts'

const objectOf = ({ names, values, types }: RowIn) =>
  Object.fromEntries(names.map((name, i) => [name, [types?.[i], values[i]]]))

describe('files of DuckDB', () => {
  let folder: string
  let duck: DuckDBConnection
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'millrace-reading-'))
    duck = await (await DuckDBInstance.create()).connect()
    await duck.run("SET TimeZone = 'UTC'")
  })
  afterAll(() => {
    duck.closeSync()
    rmSync(folder, { recursive: true })
  })
  const copied = async (select: string, name: string, options: string): Promise<Buffer> => {
    await duck.run(`COPY (${select}) TO '${join(folder, name)}' (${options})`)
    return readFileSync(join(folder, name))
  }

  it('keeps types and digits of Parquet, and nested values as JSON', async () => {
    const columns: [name: string, sql: string, type: string, value: string][] = [
      ['i1', '(-7)::TINYINT', 'int2', '-7'],
      ['i2', '(-7)::SMALLINT', 'int2', '-7'],
      ['i4', '(-7)::INTEGER', 'int4', '-7'],
      ['i8', '(-9223372036854775808)::BIGINT', 'int8', '-9223372036854775808'],
      ['u1', '255::UTINYINT', 'int2', '255'],
      ['u2', '65535::USMALLINT', 'int4', '65535'],
      ['u4', '4294967295::UINTEGER', 'int8', '4294967295'],
      ['u8', '18446744073709551615::UBIGINT', 'numeric', '"18446744073709551615"'],
      ['d4', '(-12.3)::DECIMAL(4,1)', 'numeric', '"-12.3"'],
      ['d9', '(-0.05)::DECIMAL(9,2)', 'numeric', '"-0.05"'],
      ['d18', '1234567890123456.78::DECIMAL(18,2)', 'numeric', '"1234567890123456.78"'],
      [
        'd38',
        '(-1234567890123456789012345678.123456789)::DECIMAL(38,9)',
        'numeric',
        '"-1234567890123456789012345678.123456789"',
      ],
      ['f4', '0.1::FLOAT', 'float4', '0.1'],
      ['f8', '0.1::DOUBLE', 'float8', '0.1'],
      ['nan', "'nan'::DOUBLE", 'float8', '"NaN"'],
      ['inf', "'-inf'::FLOAT", 'float4', '"-Infinity"'],
      ['b', 'true', 'bool', 'true'],
      ['t', "'é\"\n😀'", 'text', '"é\\"\\n😀"'],
      ['bom', "chr(65279) || 'x'", 'text', '"\ufeffx"'],
      ['e', "'a'::ENUM('a', 'b')", 'text', '"a"'],
      ['bl', "'\\xAA\\x00'::BLOB", 'bytea', '"qgA="'],
      ['u', "'00112233-4455-6677-8899-aabbccddeeff'::UUID", 'uuid', '"00112233-4455-6677-8899-aabbccddeeff"'],
      ['js', `'{"a": 12345678901234567890}'::JSON`, 'jsonb', '{"a": 12345678901234567890}'],
      ['da', "DATE '1969-12-31'", 'date', '"1969-12-31"'],
      ['ti', "TIME '10:00:00.000001'", 'time', '"10:00:00.000001"'],
      ['ts', "TIMESTAMP '1969-12-31 23:59:59.999999'", 'timestamp', '"1969-12-31T23:59:59.999999"'],
      ['tz', "TIMESTAMPTZ '2026-01-31 10:00:00.12+02'", 'timestamptz', '"2026-01-31T08:00:00.12Z"'],
      ['tn', "TIMESTAMP_NS '1969-12-31 23:59:59.123456789'", 'timestamp', '"1969-12-31T23:59:59.123456"'],
      ['tm', "TIMESTAMP_MS '2026-01-01 00:00:00.25'", 'timestamp', '"2026-01-01T00:00:00.25"'],
      ['iv', "INTERVAL '1 month 2 days 3.5 seconds'", 'interval', '"P1M2DT3.5S"'],
      ['li', '[1, NULL, 9223372036854775807]', 'jsonb', '[1,null,9223372036854775807]'],
      ['ll', '[[1.50::DECIMAL(20,2)], [], NULL]', 'jsonb', '[["1.50"],[],null]'],
      [
        'st',
        "{'a': 1, 'b': {'c': DATE '2026-01-31', 'd': NULL}}",
        'jsonb',
        '{"a":1,"b":{"c":"2026-01-31","d":null}}',
      ],
      ['mp', "MAP {'x': 1.5::DECIMAL(9,1), 'y': NULL}", 'jsonb', '{"x":"1.5","y":null}'],
      ['ls', "[{'q': '1'::BLOB}]", 'jsonb', '[{"q":"MQ=="}]'],
    ]
    const row = (sql: (column: (typeof columns)[number]) => string) =>
      columns.map(column => `${sql(column)} AS "${column[0]}"`).join(', ')
    const bytes = await copied(
      `SELECT ${row(([, sql]) => sql)} UNION ALL SELECT ${row(() => 'NULL')}`,
      'types.parquet',
      'FORMAT parquet',
    )
    const [first, second, ...more] = await readAll('types.parquet', bytes)
    expect(objectOf(first!)).toEqual(
      Object.fromEntries(columns.map(([name, , type, value]) => [name, [type, value]])),
    )
    expect(objectOf(second!)).toEqual(
      Object.fromEntries(columns.map(([name, , type]) => [name, [type, 'null']])),
    )
    expect(more).toEqual([])
  })

  const MANY = `SELECT i AS id, 'text ' || (i % 100) AS t, (i / 7)::DECIMAL(20,4) AS d FROM range(10000) r(i)`

  it.each(['uncompressed', 'snappy', 'gzip', 'zstd', 'lz4_raw', 'brotli'])(
    'reads Parquet of several row groups, compressed with %s, from any row on, and of no group before it',
    async codec => {
      const options = `FORMAT parquet, ROW_GROUP_SIZE 2048, COMPRESSION ${codec}`
      const bytes = await copied(MANY, `${codec}.parquet`, options)
      const whole = await readAll('a.parquet', bytes)
      expect(whole.map(row => row.line)).toEqual(Array.from({ length: 10_000 }, (_, i) => i + 1))
      expect(whole.map(row => row.values[0])).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)))
      for (const line of [1, 2_047, 2_048, 2_049, 8_191, 8_192, 9_999, 10_000]) {
        const rest = await readAll('a.parquet', bytes, { line, byte: 0 })
        expect(rest.map(row => row.values)).toEqual(whole.slice(line).map(row => row.values))
      }
    },
  )

  it('asks for the footer and the groups it needs', async () => {
    const select = 'SELECT i AS id, md5(i::VARCHAR) || md5((i * 7)::VARCHAR) AS t FROM range(60000) r(i)'
    const bytes = counted(
      await copied(select, 'wide.parquet', 'FORMAT parquet, ROW_GROUP_SIZE 20480, COMPRESSION uncompressed'),
    )
    expect(await readAll('a.parquet', bytes, { line: 40_960, byte: 0 })).toHaveLength(60_000 - 40_960)
    const [footer, ...groups] = bytes.ranges
    expect(footer![0]).toBeGreaterThan(bytes.size / 2)
    for (const [from] of groups) expect(from).toBeGreaterThan(bytes.size / 2)
  })

  it.each([
    ['csv.zst', 'FORMAT csv, COMPRESSION zstd'],
    ['csv.gz', 'FORMAT csv, COMPRESSION gzip'],
    ['csv', 'FORMAT csv'],
    ['jsonl.zst', 'FORMAT json, COMPRESSION zstd'],
    ['jsonl.gz', 'FORMAT json, COMPRESSION gzip'],
    ['ndjson', 'FORMAT json'],
  ])('reads %s', async (ending, options) => {
    const rows = await readAll(`a.${ending}`, await copied(MANY, `many.${ending}`, options))
    const plain = rows.map(row => row.values.map(value => value.replaceAll('"', '')))
    expect(plain[9_999]).toEqual(['9999', 'text 99', '1428.4286'])
    expect(plain.map(([id]) => id)).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)))
  })

  it('refuses a zst that was cut', async () => {
    const bytes = await copied(MANY, 'cut.csv.zst', 'FORMAT csv, COMPRESSION zstd')
    await expect(readAll('a.csv.zst', bytes.subarray(0, bytes.length - 100))).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('no whole file of zstd'),
    })
  })
})

it.each(['gz', 'zst'])('a file without a byte is no whole %s', async ending => {
  await expect(readAll(`a.jsonl.${ending}`, Buffer.alloc(0))).rejects.toMatchObject({
    kind: 'config',
    message: expect.stringContaining('no whole file of'),
  })
})

describe('our own files', () => {
  const rows = madeUp(2_500, randomOf(11))
  it.each([
    ['a.jsonl', { format: 'jsonl', compression: 'none' }],
    ['a.jsonl.gz', { format: 'jsonl', compression: 'gzip' }],
    ['a.csv', { format: 'csv', compression: 'none' }],
    ['a.parquet', { format: 'parquet', compression: 'snappy' }],
    ['b.parquet', { format: 'parquet', compression: 'gzip' }],
  ] as const)('%s come back as they went', async (name, options) => {
    const numeric = { precision: 38, scale: 9 }
    const found = await readAll(name, await fileBytes(rows.map(rowText), { ...options, numeric }))
    expect(found).toHaveLength(rows.length)
    const isText = options.format === 'csv'
    for (const [i, row] of rows.entries())
      for (const [at, { name: column, type }] of COLUMNS.entries()) {
        const value = found[i]!.values[at]!
        // Of CSV what is no type of a text is compared as the text that it was written as.
        const isTyped = !isText || type in FROM_TEXT
        const cast = isText && isTyped ? castTo(type as TextType, true)(value)! : value
        const comparable = (text: string | null) =>
          type === 'float4' && text !== null ? String(Math.fround(Number(text))) : text
        const wanted = expected(isTyped || !row[at]!.startsWith('"') ? type : 'text', row[at]!)
        expect(comparable(expected(isTyped ? type : 'text', cast)), `${column} of row ${i}`).toBe(
          comparable(wanted),
        )
      }
  })
})
