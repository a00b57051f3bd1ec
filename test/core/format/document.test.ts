import { describe, expect, it } from 'vitest'
import { documentOf } from '../../../core/format/document.ts'
import type { Table } from '../../../core/record.ts'
import { joinRow, quote } from '../../../core/row.ts'
import { randomOf } from '../../sim/random.ts'

const tableOf = (columns: Record<string, string>): Table => ({
  schema: 's',
  name: 't',
  key: ['id'],
  columns: Object.entries(columns).map(([name, type]) => ({ name, type })),
})

describe('documentOf', () => {
  const flat = tableOf({ price: 'numeric', id: 'int8', note: 'text', 'a"b': 'numeric', tags: 'text[]' })

  it('makes numbers of numeric columns, with all their digits, and leaves what is no number', () => {
    const row = '{"price":"-12.340","id":1,"note":"x","a\\"b":"99999999999999999999.1","tags":["1"]}'
    expect(documentOf(row, flat, 'literals')).toBe(
      '{"price":-12.340,"id":1,"note":"x","a\\"b":99999999999999999999.1,"tags":["1"]}',
    )
    expect(documentOf(row, flat, 'strings')).toBe(row)
    for (const text of [
      '{"price":null,"id":1}',
      '{"id":1}',
      '{"price":"NaN","id":1}',
      '{"price":1234}',
      '{}',
    ])
      expect(documentOf(text, flat, 'literals')).toBe(text)
  })

  it('refuses a row that is cut short', () => {
    expect(() => documentOf('{"price":"1"', flat, 'literals')).toThrow(SyntaxError)
  })

  it('does not take what a text or a JSON column says for a member', () => {
    const texts = [',"price":"1"', '","price":"1', ',', '{"price":"1"}', '\\","price":"1']
    for (const note of texts)
      expect(
        documentOf(joinRow({ names: ['note', 'price'], values: [quote(note), '"2"'] }), flat, 'literals'),
      ).toBe(`{"note":${JSON.stringify(note)},"price":2}`)
    const deep = tableOf({ j: 'jsonb', price: 'numeric' })
    expect(documentOf('{"j":{"a":1,"price":"1"},"price":"2"}', deep, 'literals')).toBe(
      '{"j":{"a":1,"price":"1"},"price":2}',
    )
  })

  it('is the same with and without a column that makes it take rows apart', () => {
    const columns = { p: 'numeric', t: 'text', q: 'numeric' }
    const wide = tableOf({ ...columns, j: 'jsonb' })
    const random = randomOf(7)
    const text = () =>
      Array.from({ length: random.int(0, 12) }, () => random.pick([...'",:pq\\{}1'])).join('')
    const value = () =>
      random.pick(['null', '1234', '-0.5', `"${random.int(-99, 99)}.50"`, quote(text()), '"NaN"'])
    for (let i = 0; i < 20_000; i++) {
      const row = joinRow({ names: ['p', 't', 'q'], values: [value(), quote(text()), value()] })
      expect(documentOf(row, tableOf(columns), 'literals'), row).toBe(documentOf(row, wide, 'literals'))
    }
  })
})
