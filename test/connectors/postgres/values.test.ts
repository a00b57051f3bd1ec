/** What needs no server: both ways a value goes (text and bytes) agree, and keys find their way back. Meaning is held by values.slow.test.ts. */
import { describe, expect, it } from 'vitest'
import { Out, rowPlan, writeValue } from '../../../connectors/postgres/encode.ts'
import { arrayOf, TEXT, typeOf } from '../../../connectors/postgres/values.ts'

const bytes = (oid: number, text: string): string => {
  const out = new Out()
  const from = Buffer.from(text)
  writeValue(out, typeOf(oid), from, 0, from.length)
  return out.text(0)
}

describe('values', () => {
  it('are the same from bytes as from text', () => {
    const cases: readonly (readonly [number, readonly string[]])[] = [
      [16, ['t', 'f']],
      [20, ['0', '-1', '9223372036854775807']],
      [701, ['1.5', '-0', '1e-05', '1e+300', 'NaN', 'Infinity', '-Infinity']],
      [1700, ['1.50', 'NaN', '-Infinity']],
      [25, ['', 'a', 'q"b\\c\n\r\t\b\f\u0001\u001f', 'ü€𝄞', '\u007f']],
      [114, [' {"a" :\n1} ', '"x"', '12']],
      [1082, ['2026-01-31', 'infinity', '-infinity', '0044-03-15 BC', '12345-01-01']],
      [1114, ['2026-01-31 10:00:00', '2026-01-31 10:00:00.5', '0044-03-15 10:00:00 BC', 'infinity']],
      [
        1184,
        [
          '2026-01-31 10:00:00+00',
          '2026-01-31 10:00:00.123456+00',
          '0044-03-15 10:00:00+00 BC',
          '-infinity',
          '12345-01-01 00:00:00+00',
          '2026-01-31 10:00:00+05:30',
        ],
      ],
      [1266, ['10:00:00+02', '10:00:00.5-03:30', '10:00:00+01:02:03']],
      [17, ['\\x', '\\x00ff']],
      [1007, ['{}', '{1,NULL}', '[0:1]={1,2}']],
      [99_999, ['anything "else"']],
    ]
    for (const [oid, texts] of cases)
      for (const text of texts) {
        expect(bytes(oid, text), text).toBe(typeOf(oid).toJson(text))
        JSON.parse(bytes(oid, text))
      }
  })

  it('texts are escaped as JSON.stringify does, at any length and place', () => {
    let seed = 7
    const random = (below: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
      return seed % below
    }
    const out = new Out()
    for (let round = 0; round < 3000; round++) {
      const length = round % 50 === 0 ? 20_000 + random(90_000) : random(60)
      const codes = Array.from(
        { length },
        () =>
          [1 + random(31), 34, 92, 32 + random(95), 160 + random(3000), 0x10000 + random(3000)][random(6)]!,
      )
      const text = codes.map(code => String.fromCodePoint(code)).join('')
      const from = Buffer.from(text)
      out.at = random(3)
      out.bits = 0
      const start = out.at
      writeValue(out, TEXT, from, 0, from.length)
      expect(out.text(start)).toBe(JSON.stringify(text))
    }
  })

  it('a zone other than UTC, and years outside four digits, are ISO 8601 and come back', () => {
    const type = typeOf(1184)
    expect(type.toJson('2026-01-31 10:00:00+05:30')).toBe('"2026-01-31T10:00:00+05:30"')
    expect(type.toJson('0001-01-01 00:00:00+00 BC')).toBe('"0000-01-01T00:00:00Z"')
    expect(type.toText('"0000-01-01T00:00:00Z"')).toBe('0001-01-01T00:00:00Z BC')
    expect(type.toText('"-000043-03-15T00:00:00Z"')).toBe('0044-03-15T00:00:00Z BC')
    expect(type.toText('"+012345-03-15T00:00:00Z"')).toBe('12345-03-15T00:00:00Z')
    expect(type.toText('"infinity"')).toBe('infinity')
  })

  it('arrays come back as PostgreSQL writes them', () => {
    expect(arrayOf(TEXT).toText('["a","b\\"c",null,""]')).toBe('{"a","b\\"c",NULL,""}')
    expect(typeOf(1007).toText('[[1,2],[3,4]]')).toBe('{{"1","2"},{"3","4"}}')
    expect(typeOf(3807).toText('[[1,2],{"a":"}"}]')).toBe('{"[1,2]","{\\"a\\":\\"}\\"}"}')
  })

  it('a plan takes the columns of the key whatever the list says, and refuses a shape without one', () => {
    const columns = [
      { name: 'a', type: TEXT, isTaken: false },
      { name: 'b"', type: TEXT, isTaken: false },
    ]
    expect(rowPlan('s', 't', ['b"'], columns).table.columns).toEqual([{ name: 'b"', type: 'text' }])
    expect(() => rowPlan('s', 't', ['c'], columns)).toThrow(/key column "c"/)
  })
})
