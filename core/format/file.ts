/**
 * Files of rows, in the formats that object stores hold. A row is JSON text of an object without spaces and is gathered as one line of
 * text, small and ready to be written down; the file is made of the lines when it is complete.
 *
 *   row ─▶ lineOf (refuses what the format cannot hold) ─▶ lines, in memory or on disk ─▶ fileOf ─▶ bytes
 */
import { ConnectorError } from '../errors.ts'
import type { Column } from '../record.ts'
import { avroFile } from './avro.ts'
import { type Numeric, rawLine, typedColumns } from './columns.ts'
import { compressed, missingZstd, SUFFIX } from './compress.ts'
import { csvHeader, csvLine } from './csv.ts'
import { parquetFile } from './parquet.ts'

export const FORMATS = ['jsonl', 'csv', 'avro', 'parquet'] as const
export type FileFormat = (typeof FORMATS)[number]
export const FILE_COMPRESSIONS = ['none', 'gzip', 'zstd', 'snappy'] as const
export type AnyCompression = (typeof FILE_COMPRESSIONS)[number]

export interface FileOptions {
  readonly format: FileFormat
  readonly compression: AnyCompression
  readonly numeric: Numeric
}

/** Throws `config` for what this format or this Node.js cannot do. */
export function checkFileOptions({ format, compression }: FileOptions): void {
  if (compression === 'snappy' && format !== 'parquet')
    throw new ConnectorError('config', `${format} is not compressed with snappy`, {
      hint: 'Use gzip or zstd, or format: parquet.',
    })
  const missing = compression === 'zstd' ? missingZstd() : null
  if (missing) throw new ConnectorError('config', missing, { hint: 'Use gzip, or a newer Node.js.' })
}

export const extensionOf = ({ format, compression }: FileOptions): string =>
  format === 'jsonl' || format === 'csv' ? `${format}${SUFFIX[compression as keyof typeof SUFFIX]}` : format

/** Throws `data` for a value that its column's type cannot hold, SyntaxError for a row that is none. */
export function lineOf(row: string, columns: readonly Column[], { format, numeric }: FileOptions): string {
  if (format === 'csv') return csvLine(row, columns)
  return `${format === 'jsonl' ? row : rawLine(row, typedColumns(columns, numeric))}\n`
}

/** `name`: of the table, where the format wants one. */
export function fileOf(
  name: string,
  columns: readonly Column[],
  lines: AsyncIterable<Buffer>,
  { format, compression, numeric }: FileOptions,
): AsyncIterable<Buffer> {
  if (format === 'jsonl') return compressed(lines, compression as 'none')
  if (format === 'csv') return compressed(withHeader(csvHeader(columns), lines), compression as 'none')
  const typed = typedColumns(columns, numeric)
  const rows = textsOf(lines)
  return format === 'avro'
    ? avroFile(name, typed, rows, compression as 'none')
    : parquetFile(typed, rows, compression)
}

async function* withHeader(header: string, lines: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield Buffer.from(header)
  yield* lines
}

/** The lines, some at a time, as the chunks have them. */
async function* textsOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string[]> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(10)
    if (end < 0) {
      rest = Buffer.concat([rest, chunk])
      continue
    }
    const text = Buffer.concat([rest, chunk.subarray(0, end)]).toString()
    rest = chunk.subarray(end + 1)
    yield text.split('\n')
  }
}
