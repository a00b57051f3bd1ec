/** What each verb does to a row, a table and a key. */
import { describe, expect, it } from 'vitest'
import type { ChangeRecord, Table } from '../../../core/record.ts'
import { badField, fieldOf, isManyColumns } from '../../../core/transform/fields.ts'
import { type Step, transforms } from '../../../core/transform/transform.ts'

const table = (columns: readonly string[], name = 'customers', key: readonly string[] = ['id']): Table => ({
  schema: 'shop',
  name,
  key,
  columns: columns.map(column => ({ name: column, type: column === 'id' ? 'int8' : 'numeric' })),
})

const record = (of: Table, before: string | null, after: string | null): ChangeRecord => ({
  op: 'u',
  table: of,
  key: '{"id":1}',
  before,
  after,
  source: '{}',
  commitMs: 1,
  readMs: 2,
  below: null,
})

const step = (verb: string, options: unknown): Step => {
  const { schema, make } = transforms.get(verb)!
  return make(schema.parse(options) as never)
}

describe('examples', () => {
  for (const { name, schema, examples, make } of transforms.values())
    it.each(examples.map(example => [example.title, example] as const))(`${name}: %s`, (_, example) => {
      const columns = Object.keys(JSON.parse(example.before) as object)
      const applied = make(schema.parse(example.options))
      const named = ['products', 'customers']
        .map(one => table(columns, one))
        .find(one => applied.unmatched([one]).length === 0)
      expect(applied.apply(record(named!, null, example.before)).after).toBe(example.after)
    })
})

describe('field patterns', () => {
  const of = table(['email', 'we.ird'])
  it.each([
    ['email', true],
    ['customers.email', true],
    ['shop.customers.email', true],
    ['*', true],
    ['e*l', true],
    ['cust*.email', true],
    ['*.*.email', true],
    ['sho*.customers.*', true],
    ['"email"', true],
    ['shop."customers".email', true],
    ['Email', false],
    ['mail', false],
    ['orders.email', false],
    ['other.customers.email', false],
    ['"e*l"', false],
    ['shop.*', false],
    ['customers.em', false],
  ])('%s: %s', (pattern, expected) => {
    expect(badField(pattern)).toBeNull()
    expect(fieldOf(pattern).matches(of, 'email')).toBe(expected)
  })

  it('names what holds a dot in quotes, and a quote twice', () => {
    expect(fieldOf('"we.ird"').matches(of, 'we.ird')).toBe(true)
    expect(fieldOf('we.ird').matches(of, 'we.ird')).toBe(false)
    expect(fieldOf('customers."a""b"').matches(of, 'a"b')).toBe(true)
    expect(fieldOf('*').matches(of, 'we.ird')).toBe(true)
  })

  it.each([
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    'a.b.c.d',
    '"a',
    '"a"b',
    'a"b"',
    'a b',
    'a?',
    '[ab]',
    '{a}',
    '!a',
    '""',
  ])('refuses %j', pattern => {
    expect(badField(pattern)).toMatch(/^must be column, table\.column or schema\.table\.column: /)
  })

  it('knows which can stand for several columns', () => {
    expect(['a*', '*.a', 's.*.*', '"a*"'].map(isManyColumns)).toEqual([true, false, true, false])
  })
})

describe('rename', () => {
  it('renames in before and after, in place, and keeps raw values', () => {
    const out = step('rename', { fields: { 'customers.a': 'x', b: 'y' } }).apply(
      record(
        table(['id', 'a', 'b']),
        '{"id":1,"a":12345678901234567890,"b":"1.10"}',
        '{"id":1,"a":{"b":[1,"}"]},"b":null}',
      ),
    )
    expect(out.before).toBe('{"id":1,"x":12345678901234567890,"y":"1.10"}')
    expect(out.after).toBe('{"id":1,"x":{"b":[1,"}"]},"y":null}')
    expect(out.table.columns.map(one => one.name)).toEqual(['id', 'x', 'y'])
    expect(out.key).toBe('{"id":1}')
  })

  it('can swap two columns, and refuses two of one name', () => {
    const of = table(['id', 'a', 'b'])
    expect(
      step('rename', { fields: { a: 'b', b: 'a' } }).apply(record(of, null, '{"id":1,"a":1,"b":2}')).after,
    ).toBe('{"id":1,"b":1,"a":2}')
    const twins = step('rename', { fields: { a: 'b' } })
    const refused = 'rename would give shop.customers two columns "b"'
    expect(() => twins.apply(record(of, null, '{"id":1,"a":1}'))).toThrow(refused)
    expect(() => twins.shape(of)).toThrow(refused)
    expect(() => step('rename', { fields: { a: 'id' } }).shape(of)).toThrow('two columns "id"')
  })
})

describe('drop', () => {
  it('leaves columns out of rows and table', () => {
    const out = step('drop', { fields: ['a', 'customers.c*'] }).apply(
      record(table(['id', 'a', 'b', 'c1', 'c2']), null, '{"id":1,"a":"{","b":2,"c1":3,"c2":[","]}'),
    )
    expect(out.after).toBe('{"id":1,"b":2}')
    expect(out.before).toBeNull()
    expect(out.table.columns.map(one => one.name)).toEqual(['id', 'b'])
  })
})

describe('mask', () => {
  // SHA-256 by another program (sha256sum) of: ada@example.com, 12345678901234567890, {"a":1}, Grüße "x"
  const HASHES = [
    ['"ada@example.com"', 'b5fc85e55755f9e0d030a10ab4429b6b2944855f9a0d60077fe832becbc41d72'],
    ['12345678901234567890', '6ed645ef0e1abea1bf1e4e935ff04f9e18d39812387f63cda3415b46240f0405'],
    ['{"a":1}', '015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862'],
    ['"Grüße \\"x\\""', '0e0a3f83d3d0c6fb3bcf6e91e0c52d6241fb514249ff6c5d1e25c7e67f470e1a'],
  ] as const

  it.each(HASHES)('puts the SHA-256 of the plain text of %s', (raw, hash) => {
    const out = step('mask', { fields: ['a'], with: 'sha256' }).apply(
      record(table(['id', 'a']), null, `{"id":1,"a":${raw}}`),
    )
    expect(out.after).toBe(`{"id":1,"a":"${hash}"}`)
    expect(out.table.columns[1]).toEqual({ name: 'a', type: 'text' })
  })

  it('puts a text or null; NULL stays NULL; a missing column stays missing', () => {
    const of = table(['id', 'a', 'b'])
    const masked = (withWhat: unknown, row: string) =>
      step('mask', { fields: ['a', 'b'], with: withWhat }).apply(record(of, row, row))
    for (const side of ['before', 'after'] as const) {
      expect(masked('x"y', '{"id":1,"a":[1],"b":null}')[side]).toBe('{"id":1,"a":"x\\"y","b":null}')
      expect(masked(undefined, '{"id":1,"a":1}')[side]).toBe('{"id":1,"a":"***"}')
      expect(masked(null, '{"id":1,"a":1,"b":"x"}')[side]).toBe('{"id":1,"a":null,"b":null}')
      expect(masked('sha256', '{"id":1,"a":null}')[side]).toBe('{"id":1,"a":null}')
    }
  })
})

describe('every verb', () => {
  const verbs = [
    ['rename', { fields: { 'customers.email': 'mail' } }],
    ['drop', { fields: ['customers.email'] }],
    ['mask', { fields: ['customers.email'] }],
  ] as const

  it.each(verbs)('%s leaves alone, as the same object, what its fields do not name', (verb, options) => {
    const others = record(table(['id', 'email'], 'orders'), null, '{"id":1,"email":"x"}')
    expect(step(verb, options).apply(others)).toBe(others)
    expect(step(verb, options).shape(others.table)).toBe(others.table)
    expect(step(verb, options).unmatched([others.table])).toEqual(['customers.email'])
  })

  it.each(verbs)('%s gives records of one shape one table', (verb, options) => {
    const applied = step(verb, options)
    const of = table(['id', 'email'])
    const rows = [1, 2].map(id => applied.apply(record(of, null, `{"id":${id},"email":"x"}`)))
    expect(rows[0]!.table).toBe(rows[1]!.table)
    expect(rows[0]!.table).toBe(applied.shape(of))
    expect(rows[0]!.table).not.toBe(of)
  })

  it.each([
    ['rename', { fields: { id: 'x' } }],
    ['drop', { fields: ['*'] }],
    ['mask', { fields: ['customers.i*'] }],
  ] as const)('%s refuses a column of the key', (verb, options) => {
    const of = table(['id', 'email'])
    expect(() => step(verb, options).apply(record(of, null, '{"id":1}'))).toThrow(
      `${verb} cannot touch "id": it is of the key (id) of shop.customers`,
    )
  })
})
