/** CSV as rows of texts: nothing between two delimiters is null, "" the empty text, as our own files have it. UTF-8. */
import { pipeline, Readable } from 'node:stream'
import { type CsvError, parse } from 'csv-parse'
import { ConnectorError } from '../errors.ts'
import { quote } from '../row.ts'
import type { CsvOptions, RowIn } from './row-in.ts'

const MOST_ROW_BYTES = 64 << 20
const ROWS = 1_000

interface Parsed {
  readonly record: readonly (string | null)[]
  readonly info: { readonly lines: number; readonly records: number }
}

export async function* csvRows(
  chunks: AsyncIterable<Buffer>,
  { delimiter, names: given }: CsvOptions,
): AsyncGenerator<readonly RowIn[]> {
  // Kept until those before it were read: an error would take what the parser holds of them with it.
  let bad: { readonly error: CsvError; readonly records: number } | null = null
  const parser = parse({
    skip_records_with_error: true,
    on_skip: error => {
      if (error) bad ??= { error, records: (error as CsvError & { records: number }).records }
    },
    bom: true,
    delimiter,
    info: true,
    relax_column_count: true,
    max_record_size: MOST_ROW_BYTES,
    cast: (text, { quoting }) => (text === '' && !quoting ? null : text),
  })
  pipeline(Readable.from(checked(chunks)), parser, () => {}) // an error destroys the parser, and is thrown where that is read
  let names = given
  let types: readonly string[] = given?.map(() => 'text') ?? []
  let rows: RowIn[] = []
  try {
    for await (const { record, info } of parser as AsyncIterable<Parsed>) {
      refuseBad(bad, info.records)
      if (names === null) {
        names = record.map((name, i) => name ?? `column${i + 1}`)
        types = names.map(() => 'text')
        refuseDoubles(names)
        continue
      }
      if (names.length === 0) {
        names = record.map((_, i) => `column${i + 1}`)
        types = names.map(() => 'text')
      }
      if (record.length === 1 && record[0] === null && names.length > 1) continue // an empty line
      if (record.length !== names.length) throw wrongLength(info.lines, record.length, names)
      const values = record.map(text => (text === null ? 'null' : quote(text)))
      rows.push({ names, values, types, line: info.lines, behind: 0 })
      if (rows.length < ROWS) continue
      yield rows
      rows = []
    }
    refuseBad(bad, Number.POSITIVE_INFINITY)
  } catch (error) {
    yield rows // those before the bad one
    throw csvError(error)
  }
  yield rows
}

function refuseBad(
  bad: { readonly error: CsvError; readonly records: number } | null,
  records: number,
): void {
  if (bad && records > bad.records) throw bad.error
}

function refuseDoubles(names: readonly string[]): void {
  const double = names.find((name, i) => names.indexOf(name) !== i)
  if (double !== undefined)
    throw new ConnectorError('config', `its first line has the column ${double} twice`, {
      hint: 'The first line must name the columns; without one set `header: false`.',
    })
}

const wrongLength = (line: number, length: number, names: readonly string[]) =>
  new ConnectorError(
    'config',
    `line ${line} has ${length} values, and there are ${names.length} columns: ${names.join(', ').slice(0, 200)}`,
    { hint: 'Mend the line, or set `delimiter`.' },
  )

function csvError(error: unknown): unknown {
  const { code, lines, message } = error as CsvError & { readonly lines?: number }
  if (error instanceof ConnectorError || !String(code).startsWith('CSV_')) return error
  return new ConnectorError('config', `line ${lines ?? '?'} is no CSV: ${message}`, {
    cause: error,
    hint: 'A " inside of a quoted value is written twice. Mend the line, or set `delimiter`.',
  })
}

async function* checked(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  try {
    for await (const chunk of chunks) {
      decoder.decode(chunk, { stream: true })
      yield chunk
    }
    decoder.decode()
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') throw error
    throw new ConnectorError('config', 'it is not UTF-8', { cause: error, hint: 'Write it in UTF-8.' })
  }
}
