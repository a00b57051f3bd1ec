/**
 * CSV as rows of texts (RFC 4180): nothing between two delimiters is null, "" the empty text, as our own files have it; lines of \n or \r\n.
 * A quote inside of a value that does not begin with one is a character. UTF-8, with or without a mark of it.
 */
import { ConnectorError } from '../errors.ts'
import { quote } from '../row.ts'
import type { CsvOptions, RowIn } from './row-in.ts'

const QUOTE = 34
const NEWLINE = 10
const RETURN = 13
const BLOCK_BYTES = 256 << 10
const MOST_ROW_CHARACTERS = 16 << 20

interface State {
  /** What is not yet rows. */
  text: string
  /** Where the next row begins in it. */
  at: number
  isLast: boolean
  /** Lines before that row. */
  line: number
  readonly delimiter: string
}

export async function* csvRows(
  chunks: AsyncIterable<Buffer>,
  { delimiter, names: given }: CsvOptions,
): AsyncGenerator<readonly RowIn[]> {
  const state: State = { text: '', at: 0, isLast: false, line: 0, delimiter }
  const shape = { names: given, types: given?.map(() => 'text') ?? [] }
  for await (const text of textOf(chunks)) {
    state.text = state.text.slice(state.at) + (text ?? '')
    state.at = 0
    state.isLast = text === null
    const rows: RowIn[] = []
    let bad: unknown = null
    try {
      fill(rows, state, shape)
    } catch (error) {
      bad = error
    }
    yield rows // those before a bad one, too
    if (bad) throw bad
    if (state.text.length - state.at > MOST_ROW_CHARACTERS)
      throw refused(state.line + 1, `is longer than ${MOST_ROW_CHARACTERS} characters`)
  }
}

function fill(
  rows: RowIn[],
  state: State,
  shape: { names: readonly string[] | null; types: readonly string[] },
): void {
  for (let cells = rowAt(state); cells; cells = rowAt(state)) {
    if (shape.names === null || shape.names.length === 0) {
      const isHeader = shape.names === null
      if (isHeader && cells.length === 1 && cells[0] === null) continue // an empty line
      if (isHeader) refuseReturns(cells)
      shape.names = cells.map((cell, i) => (isHeader && cell !== null ? cell : `column${i + 1}`))
      shape.types = cells.map(() => 'text')
      refuseDoubles(shape.names)
      if (isHeader) continue
    }
    const { names, types } = shape
    if (cells.length === 1 && cells[0] === null && names.length > 1) continue // an empty line
    if (cells.length !== names.length)
      throw refused(
        state.line,
        `has ${cells.length} values for the columns ${names.join(', ').slice(0, 200)}`,
      )
    const values = cells.map(cell => (cell === null ? 'null' : quote(cell)))
    rows.push({ names, values, types, line: state.line, behind: 0 })
  }
}

/** The next row, and goes behind it; null: there is no whole one. */
function rowAt(state: State): (string | null)[] | null {
  const { text, isLast, delimiter } = state
  const comma = delimiter.charCodeAt(0)
  const cells: (string | null)[] = []
  let { at, line } = state
  if (at >= text.length) return null
  for (;;) {
    let cell: string | null
    if (text.charCodeAt(at) === QUOTE) {
      const end = closingQuote(text, at)
      if (end < 0 || (end + 1 >= text.length && !isLast)) {
        if (isLast) throw refused(line + 1, 'has a quote that is never closed')
        return null
      }
      const inner = text.slice(at + 1, end)
      cell = inner.includes('"') ? inner.replaceAll('""', '"') : inner
      line += newlinesIn(cell)
      at = end + 1
      if (text.charCodeAt(at) === RETURN) {
        if (at + 1 >= text.length && !isLast) return null
        if (at + 1 >= text.length || text.charCodeAt(at + 1) === NEWLINE) at++
      }
      const next = text.charCodeAt(at)
      if (at < text.length && next !== comma && next !== NEWLINE)
        throw refused(line + 1, 'has more behind the closing quote of a value')
    } else {
      const from = at
      while (at < text.length && text.charCodeAt(at) !== comma && text.charCodeAt(at) !== NEWLINE) at++
      if (at >= text.length && !isLast) return null
      const isEnd = at >= text.length || text.charCodeAt(at) === NEWLINE
      const end = isEnd && at > from && text.charCodeAt(at - 1) === RETURN ? at - 1 : at
      cell = end === from ? null : text.slice(from, end)
    }
    cells.push(cell)
    const isEnd = at >= text.length || text.charCodeAt(at) === NEWLINE
    at++
    if (!isEnd) continue
    state.at = at
    state.line = line + 1
    return cells
  }
}

/** Of the value that opens at `at`; -1: not in this text. */
function closingQuote(text: string, at: number): number {
  let end = text.indexOf('"', at + 1)
  while (end >= 0 && text.charCodeAt(end + 1) === QUOTE) end = text.indexOf('"', end + 2)
  return end
}

function newlinesIn(text: string): number {
  let count = 0
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++
  return count
}

/** The whole file would be its first line, and lost in silence. */
function refuseReturns(cells: readonly (string | null)[]): void {
  const bad = cells.find(cell => cell && /\r(?!\n)/.test(cell))
  if (bad === undefined) return
  throw new ConnectorError(
    'config',
    `its first line holds a carriage return: ${JSON.stringify(bad).slice(0, 60)}`,
    {
      hint: 'Lines end with \\n or \\r\\n; those of a carriage return alone are not read. Write the object anew.',
    },
  )
}

function refuseDoubles(names: readonly string[]): void {
  const double = names.find((name, i) => names.indexOf(name) !== i)
  if (double !== undefined)
    throw new ConnectorError('config', `its first line has the column ${double} twice`, {
      hint: 'The first line must name the columns; without one set `header: false`.',
    })
}

const refused = (line: number, what: string) =>
  new ConnectorError('config', `line ${line} ${what}`, {
    hint: 'A quote inside of a quoted value is written twice. Mend the line, or set `delimiter`.',
  })

/** null: the end. */
async function* textOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string | null> {
  const decoder = new TextDecoder('utf-8', { fatal: true }) // takes away the mark at the beginning
  const decoded = (bytes?: Buffer) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined })
    } catch (cause) {
      throw new ConnectorError('config', 'it is not UTF-8', { cause, hint: 'Write it in UTF-8.' })
    }
  }
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += BLOCK_BYTES) yield decoded(chunk.subarray(at, at + BLOCK_BYTES))
  yield decoded()
  yield null
}
