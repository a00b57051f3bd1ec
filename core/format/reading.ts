/**
 * Files of rows that come in, as they stand in object stores: JSON Lines, CSV and Parquet, some rows at a time, so that a file of any size
 * takes little memory (of Parquet: one row group). What is no such file, or no such row, is refused with its line, never left out.
 */
import { ConnectorError } from '../errors.ts'
import { decompressed, type FileCompression, SUFFIX } from './compress.ts'
import { csvRows } from './reading-csv.ts'
import { jsonRows } from './reading-json.ts'
import { parquetRows } from './reading-parquet.ts'
import type { Bytes, CsvOptions, ReadFrom, RowIn } from './row-in.ts'

export const READ_FORMATS = ['jsonl', 'csv', 'parquet'] as const
export type ReadFormat = (typeof READ_FORMATS)[number]

export interface ReadOptions {
  readonly format: ReadFormat
  readonly compression: FileCompression
  readonly csv: CsvOptions
}
const ENDING = /\.(jsonl|ndjson|csv|parquet)(\.gz|\.zst)?$/i

/** What an object's name says; null: nothing. */
export function kindOfName(name: string): { format: ReadFormat; compression: FileCompression } | null {
  const parts = ENDING.exec(name)
  if (!parts) return null
  const format = parts[1]!.toLowerCase()
  const compression = compressionOfName(name)
  if (format === 'parquet' && compression !== 'none') return null
  return { format: format === 'ndjson' ? 'jsonl' : (format as ReadFormat), compression }
}

export const compressionOfName = (name: string): FileCompression =>
  name.toLowerCase().endsWith(SUFFIX.gzip)
    ? 'gzip'
    : name.toLowerCase().endsWith(SUFFIX.zstd)
      ? 'zstd'
      : 'none'

/** Of text; one request of a store each. */
const RANGE_BYTES = 4 << 20

/** Throws `config` for what cannot be read. */
export async function* rowsOf(
  bytes: Bytes,
  options: ReadOptions,
  from: ReadFrom,
): AsyncGenerator<readonly RowIn[]> {
  for await (const some of rowsIn(bytes, options, from)) {
    await new Promise(resolve => setImmediate(resolve)) // files take a while: leases are renewed meanwhile
    if (some.length === 0 || some.at(-1)!.line <= from.line) continue
    yield some[0]!.line > from.line ? some : some.filter(row => row.line > from.line)
  }
}

function rowsIn(
  bytes: Bytes,
  { format, compression, csv }: ReadOptions,
  from: ReadFrom,
): AsyncIterable<readonly RowIn[]> {
  if (format === 'parquet') return parquetRows(bytes, from.line)
  const canEnter = format === 'jsonl' && compression === 'none'
  const enter = canEnter ? from : { line: 0, byte: 0 }
  if (bytes.size === 0 && compression !== 'none') throw notWhole(compression, 'it has no bytes')
  const text = opened(rangesOf(bytes, enter.byte), compression)
  return format === 'jsonl' ? jsonRows(text, enter, canEnter) : csvRows(text, csv)
}

/** The next is on its way while one is used. */
async function* rangesOf({ size, range }: Bytes, from: number): AsyncGenerator<Buffer> {
  const take = (at: number) => {
    const taken = at < size ? range(at, Math.min(RANGE_BYTES, size - at)) : null
    taken?.catch(() => {}) // told when its turn comes
    return taken
  }
  let next = take(from)
  for (let at = from + RANGE_BYTES; next; at += RANGE_BYTES) {
    const chunk = await next
    next = take(at)
    yield chunk
  }
}

async function* opened(chunks: AsyncIterable<Buffer>, compression: FileCompression): AsyncGenerator<Buffer> {
  try {
    yield* decompressed(chunks, compression)
  } catch (error) {
    if (error instanceof ConnectorError || compression === 'none') throw error
    throw notWhole(compression, (error as Error).message, error)
  }
}

const notWhole = (compression: FileCompression, why: string, cause?: unknown): ConnectorError =>
  new ConnectorError('config', `it is no whole file of ${compression}: ${why}`, {
    cause,
    hint: 'Its ending says that it is compressed so.',
  })
