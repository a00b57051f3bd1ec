/**
 * Parquet as rows, row group by row group, with ranges of the file only. Values are taken as they stand in the pages, without what the
 * library would make of them, and become text here: a decimal keeps its digits, a time its microseconds. What is nested is JSON.
 */
import { gunzipSync } from 'node:zlib'
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetRead,
  parquetSchema,
  type SchemaElement,
} from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { ConnectorError } from '../errors.ts'
import { columnOf, type ParquetColumn, withoutMeaning } from './parquet-types.ts'
import type { Bytes, RowIn } from './row-in.ts'

const ROWS = 1_000
const CODECS = { ...compressors, GZIP: (input: Uint8Array) => gunzipSync(input) }
/** The footer and what stands before it, in one request. */
const FOOTER_BYTES = 1 << 19

const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString()
const PARSERS = {
  stringFromBytes: (bytes: Uint8Array | undefined) => bytes && textOf(bytes),
  timestampFromNanoseconds: (nanos: bigint) => nanos, // of INT96 alone, once nothing else has a meaning
}

/** Those behind the first `done`. */
export async function* parquetRows(bytes: Bytes, done: number): AsyncGenerator<readonly RowIn[]> {
  if (bytes.size < 12) throw broken(new Error(`it has ${bytes.size} bytes`))
  const file = bufferOf(bytes)
  const metadata = await guarded(() =>
    parquetMetadataAsync(file, { initialFetchSize: FOOTER_BYTES, geoparquet: false }),
  )
  const columns = parquetSchema(metadata).children.map(columnOf)
  const plain: FileMetaData = { ...metadata, schema: metadata.schema.map(withoutMeaning) as SchemaElement[] }
  const names = columns.map(column => column.name)
  const types = columns.map(column => column.type)
  let first = 0
  for (const group of metadata.row_groups) {
    const end = first + Number(group.num_rows)
    if (end > done && columns.length > 0) {
      const rows = await guarded(() => readGroup(file, plain, first, end))
      for (let at = Math.max(0, done - first); at < rows.length; at += ROWS) {
        const some: RowIn[] = []
        for (let i = at; i < Math.min(at + ROWS, rows.length); i++)
          some.push({ names, values: valuesOf(rows[i]!, columns), types, line: first + i + 1, behind: 0 })
        yield some
      }
    }
    first = end
  }
}

const valuesOf = (row: readonly unknown[], columns: readonly ParquetColumn[]): string[] =>
  columns.map((column, i) => {
    const value = row[i]
    return value === null || value === undefined ? 'null' : column.toJson(value)
  })

function readGroup(
  file: AsyncBuffer,
  metadata: FileMetaData,
  rowStart: number,
  rowEnd: number,
): Promise<unknown[][]> {
  return new Promise((resolve, reject) => {
    parquetRead({
      file,
      metadata,
      rowStart,
      rowEnd,
      compressors: CODECS,
      parsers: PARSERS,
      utf8: false,
      geoparquet: false,
      onComplete: resolve,
    }).catch(reject)
  })
}

const bufferOf = ({ size, range }: Bytes): AsyncBuffer => ({
  byteLength: size,
  async slice(start, end = size) {
    const from = start < 0 ? size + start : start
    const taken = await range(from, end - from)
    return taken.buffer.slice(taken.byteOffset, taken.byteOffset + taken.length) as ArrayBuffer
  },
})

async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw error instanceof ConnectorError ? error : broken(error as Error)
  }
}

const broken = (error: Error): ConnectorError =>
  new ConnectorError('config', `it cannot be read as Parquet: ${error.message}`, {
    cause: error,
    hint: 'Is it whole, not encrypted, and of that format? See `format` and `pattern`.',
  })
