/** JSON Lines as rows: an object a line, lines without anything are none. UTF-8, with or without a mark of it, lines of \n or \r\n. */
import { isUtf8 } from 'node:buffer'
import { ConnectorError } from '../errors.ts'
import { objectRow } from './json-row.ts'
import type { ReadFrom, RowIn } from './row-in.ts'

const NEWLINE = 10
/** A longer line is none: it would not fit into a batch, nor into memory. */
const MOST_LINE_BYTES = 64 << 20
/** Rows are made of so much text at a time, however much one range brings. */
const BLOCK_BYTES = 256 << 10

export async function* jsonRows(
  chunks: AsyncIterable<Buffer>,
  { line, byte }: ReadFrom,
  canEnter: boolean,
): AsyncGenerator<readonly RowIn[]> {
  let at = line
  let behind = byte
  for await (const block of blocksOf(chunks, () => at)) {
    if (!isUtf8(block))
      throw new ConnectorError('config', `a line behind line ${at} is not UTF-8`, {
        hint: 'Write the object in UTF-8.',
      })
    const rows: RowIn[] = []
    let bad: unknown = null
    for (const text of block.toString().split('\n')) {
      at++
      behind += canEnter ? Buffer.byteLength(text) + 1 : 0
      try {
        const row = rowOf(text, at)
        if (row) rows.push({ names: row.names, values: row.values, types: null, line: at, behind })
      } catch (error) {
        bad = error
        break
      }
    }
    yield rows // those before a bad one, too
    if (bad) throw bad
  }
}

function rowOf(text: string, line: number) {
  const clean = line === 1 && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text
  if (clean.trim() === '') return null
  const row = objectRow(clean)
  if (row) return row
  throw new ConnectorError('config', `line ${line} is no JSON object: ${clean.slice(0, 60)}`, {
    hint: 'Each line must be one. Mend it, or set `format`.',
  })
}

/** Whole lines, without the newline at the end of the last. */
async function* blocksOf(chunks: AsyncIterable<Buffer>, line: () => number): AsyncGenerator<Buffer> {
  let rest: Buffer[] = []
  let held = 0
  for await (const chunk of chunks) {
    let from = 0
    while (from < chunk.length) {
      // Up to the last newline of a block, or else the first behind it.
      const last = chunk.lastIndexOf(NEWLINE, from + BLOCK_BYTES)
      const end = last >= from ? last : chunk.indexOf(NEWLINE, from + BLOCK_BYTES)
      const piece = chunk.subarray(from, end < 0 ? chunk.length : end)
      rest.push(piece)
      held += piece.length
      if (held > MOST_LINE_BYTES + BLOCK_BYTES)
        throw new ConnectorError('config', `line ${line() + 1} is longer than ${MOST_LINE_BYTES} bytes`, {
          hint: 'Is it JSON Lines? A list of objects in one line is not.',
        })
      if (end < 0) break
      yield rest.length === 1 ? rest[0]! : Buffer.concat(rest)
      rest = []
      held = 0
      from = end + 1
    }
  }
  if (held > 0) yield Buffer.concat(rest)
}
