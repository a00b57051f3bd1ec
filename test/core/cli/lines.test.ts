/** What the command line reads as rows, however it comes in pieces. */
import { describe, expect, it } from 'vitest'
import { linesOf } from '../../../core/cli/lines.ts'

async function read(text: string | Buffer, pieceBytes: number): Promise<string[]> {
  const bytes = Buffer.from(text)
  const pieces = (async function* () {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
  })()
  const lines: string[] = []
  for await (const { place, bytes: of, error } of linesOf(pieces)) lines.push(`${place}: ${error ?? of}`)
  return lines
}

describe('rows that are read', () => {
  it.each([
    ['one a line, the last without an end', '{"a":"ä"}\n{"a":2}', ['line 1: {"a":"ä"}', 'line 2: {"a":2}']],
    [
      'blank lines between them, which count',
      '\n \n{"a":1}\n\r\n{"a":2}\n\n',
      ['line 3: {"a":1}', 'line 5: {"a":2}'],
    ],
    ['an array over lines', '[\n {"a": 1.10},\n [2] ]\n', ['record 1: {"a":1.10}', 'record 2: [2]']],
    ['an array in a line', ' [{"a":1},7]', ['record 1: {"a":1}', 'record 2: 7']],
    ['an object over lines', '{\n"a": 1\n}', ['record 1: {"a":1}']],
    ['bare values, as keys are', '7\n"x"\n', ['line 1: 7', 'line 2: "x"']],
    ['nothing', ' \n', []],
  ])('%s', async (_, text, lines) => {
    for (const bytes of [1, 2, 3, 7, 1_000])
      expect(await read(text, bytes), `in pieces of ${bytes}`).toEqual(lines)
  })

  it.each([
    ['a line that is no JSON', '{"a":1}\n{"a":\n{"a":3}', ['line 1: {"a":1}', /^line 2: is no JSON/]],
    ['a first line that is none', '{"a":\n{"a":3}', [/^line 1: is no JSON/]],
    ['words', 'a b', [/^line 1: is no JSON/]],
    ['a line that is no UTF-8', Buffer.from('7\n"\xff"\n8', 'latin1'), ['line 1: 7', 'line 2: is no UTF-8']],
  ])('end with what is in error: %s', async (_, text, lines) => {
    const found = await read(text, 5)
    expect(found).toHaveLength(lines.length)
    for (const [i, line] of lines.entries()) expect(found[i]).toMatch(line)
  })

  it('one a line have no limit together; a value over lines has one', async () => {
    const row = `{"a":"${'x'.repeat(1 << 20)}"}\n`
    expect(await read(row.repeat(18), 60_000)).toHaveLength(18)
    const [only, ...more] = await read(`[${row.trim()},\n${`${row.trim()},\n`.repeat(17)}1]`, 60_000)
    expect(only).toMatch(/^line 1: is no row, and the value that begins here is longer than 16777216 bytes/)
    expect(more).toEqual([])
  })
})
