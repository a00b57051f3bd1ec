/** Patterns, snapshots, xids, the source's fields and the URL: what needs no server. */
import { describe, expect, it } from 'vitest'
import { matchTables, type Name, snapshotOf, widenXid } from '../../../connectors/postgres/catalog.ts'
import { config, matchesTable, splitPattern, takesColumn } from '../../../connectors/postgres/config.ts'
import { parseUrl, postgresError, quoteName, quoteText } from '../../../connectors/postgres/connect.ts'

describe('patterns of tables and columns', () => {
  it('are split at the first dot, and quoted where a dot is meant', () => {
    expect(splitPattern('shop.products')).toEqual(['shop', 'products'])
    expect(splitPattern('shop.a.b')).toEqual(['shop', 'a.b'])
    expect(splitPattern('"my.schema"."my ""table"""')).toEqual(['my.schema', 'my "table"'])
    expect(splitPattern('shop."x y"')).toEqual(['shop', 'x y'])
    for (const bad of ['products', '', '.x', 'x.', '"a.b', '"".x']) expect(splitPattern(bad), bad).toBeNull()
  })

  it('match whole names, as written; `*` alone is special', () => {
    expect(matchesTable('shop.review*', 'shop', 'reviews')).toBe(true)
    expect(matchesTable('shop.review', 'shop', 'reviews')).toBe(false)
    expect(matchesTable('*.*', 'a', 'b')).toBe(true)
    expect(matchesTable('shop.a+b(c)', 'shop', 'a+b(c)')).toBe(true)
    expect(matchesTable('shop.a.c', 'shop', 'abc')).toBe(false)
    expect(matchesTable('Shop.x', 'shop', 'x')).toBe(false)
    expect(matchesTable('s.*', 's', 'with\nnewline')).toBe(true)
  })

  it('columns: a list takes, `!` leaves out, exclusions alone take the rest', () => {
    const columns = { 'shop.products': ['id', 'price_*', '!price_cost'], 'shop.*': ['!secret'] }
    const takes = (column: string) => takesColumn(columns, 'shop', 'products', column)
    expect(['id', 'price_net', 'price_cost', 'secret', 'name'].map(takes)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ])
    expect(takesColumn(columns, 'shop', 'other', 'name')).toBe(true)
    expect(takesColumn(columns, 'shop', 'other', 'secret')).toBe(false)
    expect(takesColumn({}, 'shop', 'other', 'x')).toBe(true)
  })

  it('a partition comes with its parent; views are told of', () => {
    const name = (oid: number, of: string, kind: string, ancestors: number[] = []): Name => ({
      oid,
      schema: 's',
      name: of,
      kind,
      ancestors,
    })
    const names = [
      name(1, 'parted', 'p'),
      name(2, 'parted_1', 'r', [1]),
      name(3, 'shown', 'v'),
      name(4, 'plain', 'r'),
    ]
    const oids = (...patterns: string[]) => matchTables(names, patterns).tables.map(({ oid }) => oid)
    expect(oids('s.*')).toEqual([1, 4])
    expect(oids('s.parted_1')).toEqual([2])
    expect(matchTables(names, ['s.shown', 's.nothing']).missing).toEqual([
      { pattern: 's.shown', instead: [names[2]] },
      { pattern: 's.nothing', instead: [] },
    ])
  })
})

describe('snapshots and xids', () => {
  it('see what was over when they were taken', () => {
    const snapshot = snapshotOf('10:20:10,14,15')
    expect([9n, 10n, 11n, 14n, 19n, 20n, 25n].map(snapshot.sees)).toEqual([
      true,
      false,
      true,
      false,
      true,
      false,
      false,
    ])
    expect(snapshotOf('5:5:').sees(4n)).toBe(true)
    expect(() => snapshotOf('5:5')).toThrow(/not a snapshot/)
  })

  it('32 bits are widened to the nearest, over the wrap in both directions', () => {
    const epoch = 1n << 32n
    expect(widenXid(5, 10n)).toBe(5n)
    expect(widenXid(0xffff_fff0, 5n * epoch + 10n)).toBe(4n * epoch + 0xffff_fff0n)
    expect(widenXid(10, 5n * epoch - 5n)).toBe(5n * epoch + 10n)
    expect(widenXid(10, 5n * epoch + 5n)).toBe(5n * epoch + 10n)
    expect(widenXid(0xffff_fff0, 10n)).toBe(0xffff_fff0n)
  })
})

describe("the source's fields", () => {
  it('have defaults, and refuse what is not built by name', () => {
    expect(config.parse({ url: 'postgres://u@h/d', tables: ['a.b'] })).toEqual({
      ...{
        url: 'postgres://u@h/d',
        tables: ['a.b'],
        columns: {},
        heartbeat_ms: 10_000,
        on_offset_lost: 'halt',
      },
      snapshot: { mode: 'initial', chunk_rows: 25_000, parallel: 2 },
    })
    const wrong = (extra: object) =>
      config.safeParse({ url: 'postgres://u@h/d', tables: ['a.b'], ...extra }).error?.message
    expect(wrong({ on_offset_lost: 'resnapshot' })).toContain('`resnapshot` is not yet')
    expect(wrong({ snapshot: { mode: 'never' } })).toContain('only `initial`')
    expect(wrong({ tables: ['nodot'] })).toContain('schema.table')
    expect(wrong({ tables: [] })).toBeTruthy()
    expect(wrong({ what: 1 })).toBeTruthy()
    expect(config.shape.url.meta()).toMatchObject({ secret: true })
  })
})

describe('the URL', () => {
  it('is read as libpq does', () => {
    expect(
      parseUrl(
        'postgresql://us%40er:p%2Fw%25@db.example:6543/my%20db?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3&application_name=x',
      ),
    ).toMatchObject({
      ...{ host: 'db.example', port: 6543, user: 'us@er', password: 'p/w%', database: 'my db' },
      ...{ sslMode: 'verify-full', sslRootCert: '/ca.pem', connectTimeoutMs: 3000, applicationName: 'x' },
      target: { text: 'us@er@db.example:6543/my db' },
    })
    expect(parseUrl('postgres://u@[::1]/')).toMatchObject({
      host: '::1',
      port: 5432,
      database: 'u',
      sslMode: 'prefer',
      target: { text: 'u@[::1]:5432/u' },
    })
    expect(parseUrl('postgres://u@%2Fvar%2Frun/d').host).toBe('/var/run')
    expect(
      parseUrl('postgres://u@ep-x.neon.tech/d?sslmode=require&channel_binding=require').channelBinding,
    ).toBe(true)
  })

  it('that is wrong is refused without a word of it', () => {
    for (const url of [
      'mysql://u:s3cret@h/d',
      'postgres://u:s3cret@h:x/d',
      'postgres://u:s3cret@h/d?sslmode=on',
      'postgres://u:s3cret@h/d?what=1',
      'postgres://:s3cret@h/d',
      'postgres://u:s3cret@a,b/d',
      'postgres://u:s3cret%@h/d',
      'postgres://u:s3cret@ h/d',
    ])
      try {
        parseUrl(url)
        expect.unreachable(url)
      } catch (error) {
        expect(error).toMatchObject({ kind: 'config' })
        expect((error as Error).cause).toBeUndefined()
        expect(JSON.stringify([(error as Error).message, (error as { hint: string }).hint])).not.toContain(
          's3cret',
        )
      }
  })

  it('no error carries the password, in its message or its cause', () => {
    const { target } = parseUrl('postgres://u:s3cret@h/d')
    const error = postgresError(Object.assign(new Error('failed for s3cret'), { code: '28P01' }), target)
    expect(error).toMatchObject({
      kind: 'auth',
      message: 'PostgreSQL u@h:5432/d failed: failed for *** (28P01)',
    })
    expect(error.cause).toBeUndefined()
  })
})

describe('quoting', () => {
  it('holds against whatever stands in a name or text', () => {
    expect(quoteName('a"; DROP TABLE x; --')).toBe('"a""; DROP TABLE x; --"')
    expect(quoteText("it's")).toBe("'it''s'")
    expect(quoteText("\\'; --")).toBe(" E'\\\\''; --'")
    expect(() => quoteName('')).toThrow()
    expect(() => quoteText('a\0b')).toThrow()
  })
})
