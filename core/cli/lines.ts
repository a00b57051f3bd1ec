/** What a command reads as rows: JSON, one value a line, or one value over many lines, of which an array holds the rows. */
import { isUtf8 } from 'node:buffer'
import { compact, itemsOf } from '../format/json-row.ts'
import { BODY_BYTES } from '../hub/topics.ts'

export interface Line {
  /** From 1: of the line, or of the item of an array. */
  readonly number: number
  /** For people. */
  readonly place: string
  /** JSON text, when there is no error. */
  readonly bytes: Buffer
  readonly error: string | null
}

/** Why it can be no row: a request must hold it. */
export const tooLong = (bytes: Buffer): string | null =>
  bytes.length > BODY_BYTES - 1_000 ? `is longer than ${BODY_BYTES - 1_000} bytes` : null

/** Blank lines are counted and passed over. Ends with the first that is in error. */
export async function* linesOf(input: AsyncIterable<Buffer>): AsyncGenerator<Line> {
  const raw = rawLines(input)
  let number = 0
  let isFirst = true
  for await (const bytes of raw) {
    number++
    if (isBlank(bytes)) continue
    const error = errorOf(bytes)
    // The first of many lines of one value, or a line that is an array: all of it is needed.
    if (isFirst && (error === null ? bytes.toString().trimStart().startsWith('[') : isOpen(bytes))) {
      yield* wholeValue(bytes, raw)
      return
    }
    isFirst = false
    yield { number, place: `line ${number}`, bytes, error }
    if (error !== null) return
  }
}

const isOpen = (bytes: Buffer): boolean => /^\s*[[{]/.test(bytes.subarray(0, 100).toString('latin1'))

async function* wholeValue(first: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Line> {
  const parts = [first]
  let size = first.length
  for await (const bytes of rest) {
    parts.push(Buffer.from('\n'), bytes)
    size += bytes.length + 1
    if (size > BODY_BYTES) break
  }
  const whole = Buffer.concat(parts)
  const error =
    size > BODY_BYTES
      ? `is no row, and the value that begins here is longer than ${BODY_BYTES} bytes: rows one a line have no limit`
      : errorOf(whole)
  if (error !== null) {
    yield { number: 1, place: 'line 1', bytes: first, error }
    return
  }
  const text = compact(whole.toString())
  const items = itemsOf(text) ?? [text]
  for (const [i, item] of items.entries())
    yield { number: i + 1, place: `record ${i + 1}`, bytes: Buffer.from(item), error: null }
}

function errorOf(bytes: Buffer): string | null {
  if (!isUtf8(bytes)) return 'is no UTF-8'
  try {
    JSON.parse(bytes.toString())
    return null
  } catch (error) {
    return `is no JSON: ${(error as Error).message}`
  }
}

const isBlank = (bytes: Buffer): boolean => bytes.length < 1_000 && bytes.toString().trim() === ''

/** What some editors and shells write at the start of a text. */
const MARK = Buffer.from('\ufeff')
const unmarked = (bytes: Buffer): Buffer =>
  bytes.subarray(0, MARK.length).equals(MARK) ? bytes.subarray(MARK.length) : bytes

async function* rawLines(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let isFirst = true
  for await (const bytes of cutLines(input)) {
    yield isFirst ? unmarked(bytes) : bytes
    isFirst = false
  }
}

/** Without their ends. */
async function* cutLines(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let open: Buffer[] = []
  for await (const chunk of input) {
    let from = 0
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      open.push(chunk.subarray(from, at))
      yield open.length === 1 ? open[0]! : Buffer.concat(open)
      open = []
      from = at + 1
    }
    if (from < chunk.length) open.push(chunk.subarray(from))
    if (open.reduce((sum, one) => sum + one.length, 0) > BODY_BYTES) break // told of as too long; the rest is not read
  }
  if (open.length > 0) yield Buffer.concat(open)
}
