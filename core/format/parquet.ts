/**
 * Rows as a Parquet file: a column for each, its type from the table's, all of them optional; row groups by number and length of their
 * rows alone, so that the same rows make the same bytes; statistics; pages compressed. What is nested (json, arrays) is text with the
 * logical type JSON.
 */
import { gzipSync } from 'node:zlib'
import { ByteWriter, type ColumnSource, ParquetWriter, type SchemaElement } from 'hyparquet-writer'
import snappy from 'snappy'
import { type Kind, type TypedColumn, type TypedValue, takeValues } from './columns.ts'
import { zstdOnce } from './compress.ts'

export type ParquetCompression = 'none' | 'snappy' | 'gzip' | 'zstd'
const CODECS = { none: 'UNCOMPRESSED', snappy: 'SNAPPY', gzip: 'GZIP', zstd: 'ZSTD' } as const

/** Of a group, whichever comes first: its columns are in memory while it is written. */
const GROUP_ROWS = 10_000
const GROUP_CHARACTERS = 32 << 20

type Element = Partial<SchemaElement>
const time = (isAdjustedToUTC: boolean): Element =>
  ({ type: 'INT64', logical_type: { type: 'TIMESTAMP', isAdjustedToUTC, unit: 'MICROS' } }) as Element
const ELEMENTS: Readonly<Record<Kind, (column: TypedColumn) => Element>> = {
  boolean: () => ({ type: 'BOOLEAN' }),
  int: () => ({ type: 'INT32' }),
  long: () => ({ type: 'INT64' }),
  float: () => ({ type: 'FLOAT' }),
  double: () => ({ type: 'DOUBLE' }),
  decimal: ({ precision, scale }) => ({
    type: 'FIXED_LEN_BYTE_ARRAY',
    type_length: decimalLength(precision),
    converted_type: 'DECIMAL',
    precision,
    scale,
  }),
  string: () => ({ type: 'BYTE_ARRAY', converted_type: 'UTF8' }),
  json: () => ({ type: 'BYTE_ARRAY', converted_type: 'UTF8' }),
  bytes: () => ({ type: 'BYTE_ARRAY' }),
  uuid: () => ({ type: 'FIXED_LEN_BYTE_ARRAY', type_length: 16, logical_type: { type: 'UUID' } }),
  date: () => ({ type: 'INT32', converted_type: 'DATE' }),
  timestamp: () => time(false),
  timestamptz: () => time(true),
}

/** Bytes that hold so many digits and a sign. */
const decimalLength = (precision: number): number => Math.ceil((precision * Math.log2(10) + 1) / 8)

/** As it stands in the file. While values are written JSON counts as text: else the library would parse it, and lose digits. */
const finalSchema = (columns: readonly TypedColumn[]): SchemaElement[] =>
  schemaOf(columns).map((element, i) =>
    columns[i - 1]?.kind === 'json' ? { ...element, converted_type: 'JSON' } : element,
  )

const schemaOf = (columns: readonly TypedColumn[]): SchemaElement[] => [
  { name: 'root', num_children: columns.length } as SchemaElement,
  ...columns.map(
    column =>
      ({ name: column.name, repetition_type: 'OPTIONAL', ...ELEMENTS[column.kind](column) }) as SchemaElement,
  ),
]

export async function* parquetFile(
  columns: readonly TypedColumn[],
  lines: AsyncIterable<readonly string[]>,
  compression: ParquetCompression,
): AsyncGenerator<Buffer> {
  const bytes = new ByteWriter(1 << 20)
  const writer = new ParquetWriter({
    writer: bytes,
    schema: schemaOf(columns),
    codec: CODECS[compression],
    compressors: {
      SNAPPY: raw => snappy.compressSync(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength)),
      GZIP: raw => gzipSync(raw, { level: 5 }),
      ...(zstdOnce ? { ZSTD: zstdOnce } : {}),
    },
    createdBy: 'millrace',
  })
  const take = (): Buffer => {
    const taken = Buffer.from(bytes.getBytes())
    bytes.index = 0
    return taken
  }
  let group = columns.map((): TypedValue[] => [])
  let characters = 0
  const end = async (): Promise<Buffer> => {
    await writer.write({ columnData: sources(columns, group), rowGroupSize: GROUP_ROWS })
    group = columns.map((): TypedValue[] => [])
    characters = 0
    return take()
  }
  for await (const some of lines)
    for (const line of some) {
      takeValues(line, columns, group)
      characters += line.length
      if (group[0]!.length < GROUP_ROWS && characters < GROUP_CHARACTERS) continue
      yield await end()
      await new Promise(resolve => setImmediate(resolve)) // a group takes a while: leases are renewed meanwhile
    }
  if (group[0]!.length > 0) yield await end()
  writer.schema = finalSchema(columns)
  await writer.finish()
  yield take()
}

const isFloat = (kind: Kind): boolean => kind === 'float' || kind === 'double'

/**
 * Statistics of JSON nobody asks for, and they are never cut short. Those of floats leave NaN out, as the format wants it; to DuckDB and
 * PostgreSQL it is the greatest of all, and they would not look for it in the group.
 */
const sources = (columns: readonly TypedColumn[], group: readonly TypedValue[][]): ColumnSource[] =>
  columns.map(({ name, kind }, i) => ({
    name,
    data: group[i]! as ColumnSource['data'],
    statistics: kind !== 'json' && !(isFloat(kind) && group[i]!.some(Number.isNaN)),
  }))
