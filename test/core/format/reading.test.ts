/** Files of rows that come in: those of DuckDB and our own, with every type; entered behind any row, in little memory. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { jsonType, objectRow } from '../../../core/format/json-row.ts'
import { kindOfName, type ReadOptions, rowsOf } from '../../../core/format/reading.ts'
import { csvRows } from '../../../core/format/reading-csv.ts'
import type { Bytes, ReadFrom, RowIn } from '../../../core/format/row-in.ts'
import { castTo, FROM_TEXT, type TextType } from '../../../core/format/typed-text.ts'
import { joinRow } from '../../../core/row.ts'
import { randomOf } from '../../sim/random.ts'
import { COLUMNS, expected, fileBytes, madeUp, rowText } from './typed-rows.ts'

const START: ReadFrom = { line: 0, byte: 0 }
const optionsOf = (name: string): ReadOptions => ({
  ...kindOfName(name)!,
  csv: { delimiter: ',', names: null },
})

/** With the ranges that were asked for. */
const counted = (bytes: Buffer): Bytes & { readonly ranges: [number, number][] } => {
  const ranges: [number, number][] = []
  return {
    size: bytes.length,
    ranges,
    async range(from, length) {
      ranges.push([from, length])
      return Buffer.from(bytes.subarray(from, from + length)) // of its own, as a store gives it
    },
  }
}

async function all(name: string, bytes: Buffer | Bytes, from = START): Promise<RowIn[]> {
  const rows: RowIn[] = []
  for await (const some of rowsOf(Buffer.isBuffer(bytes) ? counted(bytes) : bytes, optionsOf(name), from))
    rows.push(...some)
  return rows
}

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
    const [first, second, ...more] = await all('types.parquet', bytes)
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
      const whole = await all('a.parquet', bytes)
      expect(whole.map(row => row.line)).toEqual(Array.from({ length: 10_000 }, (_, i) => i + 1))
      expect(whole.map(row => row.values[0])).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)))
      for (const line of [1, 2_047, 2_048, 2_049, 8_191, 8_192, 9_999, 10_000]) {
        const rest = await all('a.parquet', bytes, { line, byte: 0 })
        expect(rest.map(row => row.values)).toEqual(whole.slice(line).map(row => row.values))
      }
    },
  )

  it('asks for the footer and the groups it needs', async () => {
    const select = 'SELECT i AS id, md5(i::VARCHAR) || md5((i * 7)::VARCHAR) AS t FROM range(60000) r(i)'
    const bytes = counted(
      await copied(select, 'wide.parquet', 'FORMAT parquet, ROW_GROUP_SIZE 20480, COMPRESSION uncompressed'),
    )
    expect(await all('a.parquet', bytes, { line: 40_960, byte: 0 })).toHaveLength(60_000 - 40_960)
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
    const rows = await all(`a.${ending}`, await copied(MANY, `many.${ending}`, options))
    const plain = rows.map(row => row.values.map(value => value.replaceAll('"', '')))
    expect(plain[9_999]).toEqual(['9999', 'text 99', '1428.4286'])
    expect(plain.map(([id]) => id)).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)))
  })

  it('refuses a zst that was cut', async () => {
    const bytes = await copied(MANY, 'cut.csv.zst', 'FORMAT csv, COMPRESSION zstd')
    await expect(all('a.csv.zst', bytes.subarray(0, bytes.length - 100))).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('no whole file of zstd'),
    })
  })
})

it.each(['gz', 'zst'])('a file without a byte is no whole %s', async ending => {
  await expect(all(`a.jsonl.${ending}`, Buffer.alloc(0))).rejects.toMatchObject({
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
    const found = await all(name, await fileBytes(rows.map(rowText), { ...options, numeric }))
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

describe('JSON Lines', () => {
  it('of any size take the memory of some ranges, and are entered where a row ended', async () => {
    const line = Buffer.from(`${JSON.stringify({ id: 1, text: 'x'.repeat(980) })}\n`)
    const lines = 100_000
    let held = 0
    let most = 0
    const bytes: Bytes = {
      size: lines * line.length,
      async range(from, length) {
        most = Math.max(most, ++held)
        const out = Buffer.alloc(length)
        for (let i = 0; i < length; i++) out[i] = line[(from + i) % line.length]!
        return out
      },
    }
    let rows = 0
    let widest = 0
    let last: RowIn | undefined
    let asked = 0
    for await (const some of rowsOf(bytes, optionsOf('a.jsonl'), START)) {
      rows += some.length
      widest = Math.max(widest, some.length)
      last = some.at(-1)
      // A range is let go when its rows were taken.
      const ranges = Math.ceil(last!.behind / (4 << 20))
      if (ranges > asked) {
        held -= ranges - asked
        asked = ranges
      }
      if (rows > 20_000) break
    }
    expect(widest).toBeLessThan(1_000)
    expect(most).toBeLessThanOrEqual(3)
    const rest: RowIn[] = []
    for await (const some of rowsOf(bytes, optionsOf('a.jsonl'), {
      line: lines - 3,
      byte: (lines - 3) * line.length,
    }))
      rest.push(...some)
    expect(rest.map(row => row.line)).toEqual([lines - 2, lines - 1, lines])
    expect(last!.behind).toBe(last!.line * line.length)
  })

  it('takes a text of many megabytes, with spaces around it', async () => {
    const long = '\\" , '.repeat(3 << 20)
    const [row] = await all('a.jsonl', Buffer.from(`{ "a" : "${long}" , "b" : 1 }`))
    expect(row!.values[0]!.length).toBe(long.length + 2)
    expect(row!.values[1]).toBe('1')
  })

  it('refuses a line without an end', async () => {
    const bytes: Bytes = { size: 2 ** 40, range: async (_, length) => Buffer.alloc(length, 'x') }
    await expect(all('a.jsonl', bytes)).rejects.toMatchObject({
      message: expect.stringContaining('line 1 is longer'),
    })
  })

  it('keeps every digit and character of pretty-printed objects, the last of two members, the mark of UTF-8', async () => {
    const text =
      '\ufeff{ "a" : 12345678901234567890.10 , "b":"\\" : , [ x" , "c" : [ 1 , { "d" : " " } ], "a" : -0.0 }\r\n'
    const [row] = await all('a.jsonl', Buffer.from(text))
    expect(joinRow({ names: [...row!.names], values: [...row!.values] })).toBe(
      '{"a":-0.0,"b":"\\" : , [ x","c":[1,{"d":" "}]}',
    )
  })

  it('splits objects as JSON.parse reads them', () => {
    const random = randomOf(5)
    const made = (depth: number): unknown => {
      const kind = random.int(0, depth > 2 ? 4 : 6)
      if (kind === 0) return null
      if (kind === 1) return random.chance(0.5)
      if (kind === 2) return random.int(-1e9, 1e9) / random.pick([1, 7])
      if (kind <= 4) return random.pick(['', '"', '\\', ' : ', '\n', '[ ', 'é😀', ' , "'])
      const items = Array.from({ length: random.int(0, 3) }, () => made(depth + 1))
      return kind === 5
        ? items
        : Object.fromEntries(items.map((item, i) => [`${random.pick([' k', '"', 'ü'])}${i}`, item]))
    }
    for (let i = 0; i < 2_000; i++) {
      const object = { id: i, ...(made(0) as object) }
      const row = objectRow(JSON.stringify(object, null, random.pick([0, 1, '\t'])))!
      expect(joinRow(row)).toBe(JSON.stringify(object))
    }
  })
})

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
    await expect(all('a.csv', Buffer.from(text))).rejects.toMatchObject({ kind: 'config', message: said })
  })

  it('takes a quote inside of a value without quotes, an only column of null, and no row', async () => {
    const cells = async (text: string) => (await all('a.csv', Buffer.from(text))).map(row => row.values)
    expect(await cells('a,b\n5" pipe,x\n')).toEqual([['"5\\" pipe"', '"x"']])
    expect(await cells('a\n1\n\n3\n')).toEqual([['"1"'], ['null'], ['"3"']])
    expect(await cells('')).toEqual([])
    expect(await cells('a,b')).toEqual([])
    expect(await cells('\ufeff\r\n\na,b\n1,2\n')).toEqual([['"1"', '"2"']])
  })
})

describe('types of what comes as text', () => {
  it.each([
    ['bool', 'T', 'true'],
    ['date', 'infinity', '"infinity"'],
    ['date', '+012345-01-01', '"+012345-01-01"'],
    ['date', '-000043-03-15', '"-000043-03-15"'],
    ['date', '-000043-02-30', undefined],
    ['date', '0044-03-15 BC', undefined],
    ['timestamp', '-infinity', '"-infinity"'],
    ['timestamp', '+012345-01-01T00:00:00.5', '"+012345-01-01T00:00:00.5"'],
    ['timestamptz', '-000043-03-15T00:00:00Z', '"-000043-03-15T00:00:00Z"'],
    ['timestamptz', 'Infinity', undefined],
    ['bool', '0', 'false'],
    ['bool', 'maybe', undefined],
    ['int2', '-32768', '-32768'],
    ['int2', '32768', undefined],
    ['int4', '+007', '7'],
    ['int8', '9223372036854775807', '9223372036854775807'],
    ['int8', '9223372036854775808', undefined],
    ['int8', '1.0', undefined],
    ['int8', '', undefined],
    ['float8', '1.50', '1.50'],
    ['float8', '.5', '0.5'],
    ['float8', 'NaN', '"NaN"'],
    ['float8', '1e400', undefined],
    ['float8', '0x10', undefined],
    ['float8', '', undefined],
    ['numeric', '12345678901234567890.10', '"12345678901234567890.10"'],
    ['numeric', '-.5', '"-0.5"'],
    ['numeric', '1.25e3', '"1250"'],
    ['numeric', '1.25e1', '"12.5"'],
    ['numeric', '-125E-4', '"-0.0125"'],
    ['numeric', '00012', '"12"'],
    ['numeric', '1,5', undefined],
    ['numeric', '.', undefined],
    ['numeric', '1e99999', undefined],
    ['json', '{"a": 1}', '{"a": 1}'],
    ['json', '{', undefined],
    ['bytea', '\\xAA00', '"qgA="'],
    ['bytea', 'qgA=', '"qgA="'],
    ['bytea', 'qgA', undefined],
    ['uuid', '00112233-4455-6677-8899-AABBCCDDEEFF', '"00112233-4455-6677-8899-aabbccddeeff"'],
    ['uuid', '0011', undefined],
    ['date', '2024-02-29', '"2024-02-29"'],
    ['date', '2023-02-29', undefined],
    ['time', '10:00', '"10:00"'],
    ['timestamp', '2026-01-31 10:00:00.1200', '"2026-01-31T10:00:00.12"'],
    ['timestamp', '2026-01-31T10:00:00Z', '"2026-01-31T10:00:00"'],
    ['timestamp', '2026-01-31T10:00:00+01:00', undefined],
    ['timestamptz', '2026-01-31T00:30:00.123456789+01:00', '"2026-01-30T23:30:00.123456Z"'],
    ['timestamptz', '2026-01-31 10:00', '"2026-01-31T10:00:00Z"'],
    ['timestamptz', '2026-01-31 10:00:00-0530', '"2026-01-31T15:30:00Z"'],
    ['timestamptz', '2026-01-31 25:00:00', undefined],
    ['timestamptz', 'soon', undefined],
  ] as const)('%s %s', (type, text, json) => {
    expect(FROM_TEXT[type](text)).toBe(json)
    if (json !== undefined) expect(() => JSON.parse(json)).not.toThrow()
  })

  it('of JSON: whole numbers of 64 bits are int8, whatever their length', () => {
    expect(
      ['1', '-999999999999999999', '9223372036854775807', '9223372036854775808', '1.5'].map(jsonType),
    ).toEqual([...['int8', 'int8', 'int8', 'float8', 'float8']])
  })
})
