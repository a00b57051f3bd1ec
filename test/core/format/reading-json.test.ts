/** JSON Lines that come in: of any size in little memory, entered behind any row; objects as JSON.parse reads them. */
import { describe, expect, it } from 'vitest'
import { jsonType, objectRow } from '../../../core/format/json-row.ts'
import { rowsOf } from '../../../core/format/reading.ts'
import type { Bytes, RowIn } from '../../../core/format/row-in.ts'
import { joinRow } from '../../../core/row.ts'
import { randomOf } from '../../sim/random.ts'
import { optionsOf, readAll, START } from './read-all.ts'

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
    const [row] = await readAll('a.jsonl', Buffer.from(`{ "a" : "${long}" , "b" : 1 }`))
    expect(row!.values[0]!.length).toBe(long.length + 2)
    expect(row!.values[1]).toBe('1')
  })

  it('refuses a line without an end', async () => {
    const bytes: Bytes = { size: 2 ** 40, range: async (_, length) => Buffer.alloc(length, 'x') }
    await expect(readAll('a.jsonl', bytes)).rejects.toMatchObject({
      message: expect.stringContaining('line 1 is longer'),
    })
  })

  it('keeps every digit and character of pretty-printed objects, the last of two members, the mark of UTF-8', async () => {
    const text =
      '\ufeff{ "a" : 12345678901234567890.10 , "b":"\\" : , [ x" , "c" : [ 1 , { "d" : " " } ], "a" : -0.0 }\r\n'
    const [row] = await readAll('a.jsonl', Buffer.from(text))
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

  it('of JSON: whole numbers of 64 bits are int8, whatever their length', () => {
    expect(
      ['1', '-999999999999999999', '9223372036854775807', '9223372036854775808', '1.5'].map(jsonType),
    ).toEqual([...['int8', 'int8', 'int8', 'float8', 'float8']])
  })
})
