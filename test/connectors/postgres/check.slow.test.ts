/** Each thing that can be wrong upstream, on a real server: found, explained, and mended by the very statement of the hint. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { check } from '../../../connectors/postgres/check.ts'
import { config as schema } from '../../../connectors/postgres/config.ts'
import { connect } from '../../../connectors/postgres/connect.ts'
import { freePort } from '../../../connectors/postgres/embedded.ts'
import { ConnectorError } from '../../../core/errors.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { followed } from './following.ts'

let server: PostgresServer
const NAMES = { slot: 'millrace_check', publication: 'millrace_check' }

beforeAll(async () => {
  server = await startPostgres()
  await server.sql(`
    CREATE SCHEMA shop; CREATE TABLE shop.products (id int PRIMARY KEY, name text); CREATE TABLE shop.nokey (a int);
    CREATE UNLOGGED TABLE shop.scratch (id int PRIMARY KEY); CREATE VIEW shop.shown AS SELECT * FROM shop.products;
    CREATE TABLE shop.silent (id int PRIMARY KEY); ALTER TABLE shop.silent REPLICA IDENTITY NOTHING;
    CREATE ROLE reader LOGIN PASSWORD 'r3ader'; CREATE ROLE "Odd Owner" LOGIN REPLICATION PASSWORD 'owner';
    CREATE ROLE ready LOGIN REPLICATION PASSWORD 'ready'; GRANT CREATE ON DATABASE postgres TO ready;
    CREATE SCHEMA own AUTHORIZATION ready; CREATE TABLE own.things (id int PRIMARY KEY, v text); ALTER TABLE own.things OWNER TO ready`)
  await server.sql('CREATE DATABASE empty_one')
})
afterAll(() => server[Symbol.asyncDispose]())

async function found(options: {
  url?: string
  tables?: string[]
  columns?: Record<string, string[]>
}): Promise<ConnectorError> {
  const config = schema.parse({ url: server.url, tables: ['shop.products'], ...options })
  const error: unknown = await check(config, NAMES).then(
    () => new Error('nothing was found'),
    one => one,
  )
  if (!(error instanceof ConnectorError)) throw error
  return error
}
const as = (user: string, password: string, database = 'postgres') =>
  server.urlOf({ user, password, database })

describe('check', () => {
  it('finds nothing where nothing is wrong, and changes nothing', async () => {
    await check(schema.parse({ url: server.url, tables: ['shop.products'] }), NAMES)
    await check(schema.parse({ url: as('ready', 'ready'), tables: ['own.*'] }), NAMES)
    expect(
      await server.sql('SELECT 1 FROM pg_publication UNION ALL SELECT 1 FROM pg_replication_slots'),
    ).toEqual([])
  })

  it('no connection, no such host', async () => {
    const refused = await found({ url: `postgres://me:s3cret@127.0.0.1:${await freePort()}/db` })
    expect(refused).toMatchObject({ kind: 'unavailable', message: expect.stringContaining('me@127.0.0.1:') })
    expect(refused.hint).toContain('running')
    const nowhere = await found({ url: 'postgres://me:s3cret@no-such-host.invalid/db' })
    expect(nowhere).toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('no-such-host.invalid'),
    })
    expect(JSON.stringify([refused.message, nowhere.message, String(refused.cause)])).not.toContain('s3cret')
  })

  it('wrong password, no such database', async () => {
    const wrong = await found({ url: as('reader', 'not-r3ader') })
    expect(wrong).toMatchObject({ kind: 'auth', message: expect.stringContaining('reader@127.0.0.1') })
    expect(`${wrong.message}${wrong.hint}${String(wrong.cause)}${wrong.stack}`).not.toContain('not-r3ader')
    const missing = await found({ url: as('reader', 'r3ader', 'nothing') })
    expect(missing).toMatchObject({
      kind: 'config',
      hint: expect.stringContaining('CREATE DATABASE nothing'),
    })
  })

  it('TLS is asked for, and the server has none', async () => {
    expect(await found({ url: server.url.replace('sslmode=disable', 'sslmode=require') })).toMatchObject({
      kind: 'config',
      hint: expect.stringContaining('sslmode'),
    })
    // prefer goes on without
    await check(
      schema.parse({
        url: server.url.replace('sslmode=disable', 'sslmode=prefer'),
        tables: ['shop.products'],
      }),
      NAMES,
    )
  })

  it('everything that a poor role lacks at once; each hint run as it stands mends it', async () => {
    const url = as('reader', 'r3ader')
    const error = await found({ url })
    expect(error.kind).toBe('auth')
    expect(error.message).toContain('4 problems')
    expect(error.message).toContain('may not replicate')
    expect(error.message).toContain('may not use schema shop')
    expect(error.message).toContain('may not read shop.products')
    expect(error.message).toContain('lacks CREATE on database "postgres", ownership of shop.products')
    for (const line of error.hint!.split('\n')) {
      const statement = line.match(/(ALTER ROLE|GRANT|CREATE PUBLICATION)[^;]*;/)?.[0]
      expect(statement, line).toBeTruthy()
      await server.sql(statement!)
    }
    await check(schema.parse({ url, tables: ['shop.products'] }), NAMES)
    await server.sql(
      `DROP PUBLICATION millrace_check; ALTER ROLE reader NOREPLICATION; REVOKE SELECT ON shop.products FROM reader`,
    )
  })

  it('missing tables, with the nearest name; views; other shapes that cannot be followed', async () => {
    const near = await found({ tables: ['shop.product'] })
    expect(near).toMatchObject({ kind: 'config', message: expect.stringContaining('"shop.product"') })
    expect(near.hint).toContain('shop.products')
    expect((await found({ tables: ['public.products'] })).hint).toContain('shop.products')
    expect((await found({ tables: ['shop.Products'] })).hint).toContain('case-sensitive')
    expect((await found({ tables: ['shop.shown'] })).message).toContain('a view')
    expect((await found({ tables: ['shop.nokey'] })).message).toContain('no key')
    expect((await found({ tables: ['shop.scratch'] })).hint).toBe('ALTER TABLE "shop"."scratch" SET LOGGED;')
    expect((await found({ tables: ['shop.silent'] })).hint).toBe(
      'ALTER TABLE "shop"."silent" REPLICA IDENTITY DEFAULT;',
    )
    const many = await found({ tables: ['shop.nokey', 'shop.scratch', 'shop.zzzzzzzz'] })
    expect(many.message).toContain('3 problems')
    expect(many.hint!.split('\n')).toHaveLength(3)
    expect((await found({ columns: { 'shop.products': ['nam'] } })).message).toContain('takes no column')
  })

  it('row security that hides rows from the snapshot', async () => {
    await server.sql(
      `ALTER TABLE shop.products ENABLE ROW LEVEL SECURITY; GRANT SELECT ON shop.products TO reader`,
    )
    const error = await found({ url: as('reader', 'r3ader') })
    expect(error.message).toContain('row security')
    expect(error.hint).toContain('ALTER ROLE "reader" BYPASSRLS;')
    await server.sql(`ALTER TABLE shop.products DISABLE ROW LEVEL SECURITY`)
  })

  it('a slot that is read by another, another database or plugin', async () => {
    await using follower = await followed(server, [{ schema: 'shop', name: 'products' }])
    const [slot] = await server.sql<{ slot_name: string; active_pid: number }>(
      `SELECT slot_name, active_pid FROM pg_replication_slots`,
    )
    const config = schema.parse({ url: server.url, tables: ['shop.products'] })
    await expect(
      check(config, { slot: slot!.slot_name, publication: slot!.slot_name }),
    ).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(
        new RegExp(`${slot!.active_pid}.*"millrace ${slot!.slot_name}".*127.0.0.1`),
      ),
      hint: expect.stringContaining(`pg_terminate_backend(${slot!.active_pid})`),
    })
    expect(follower.failure).toBeNull()
    const elsewhere = await connect({ url: server.urlOf({ database: 'empty_one' }) })
    await elsewhere
      .query(`SELECT pg_create_logical_replication_slot('other_one', 'test_decoding')`)
      .catch(() => elsewhere.query(`SELECT pg_create_logical_replication_slot('other_one', 'pgoutput')`))
    await elsewhere.end()
    await expect(check(config, { slot: 'other_one', publication: 'x' })).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('empty_one'),
    })
    await server.sql(`SELECT pg_drop_replication_slot('other_one')`)
  })

  it('a publication of that name that lacks a table, a column, rows or a kind of change; the hints mend it', async () => {
    const config = schema.parse({ url: server.url, tables: ['shop.products', 'shop.later'] })
    await server.sql(`CREATE TABLE shop.later (id int PRIMARY KEY);
      CREATE PUBLICATION millrace_check FOR TABLE shop.products (id) WHERE (id > 5) WITH (publish = 'insert')`)
    const error: ConnectorError = await check(config, NAMES).then(
      () => null,
      one => one,
    )
    expect(error.kind).toBe('config')
    expect(error.message).toContain('3 problems')
    for (const line of error.hint!.split('\n')) await server.sql(line.replace(/^\d+\. /, ''))
    await check(config, NAMES)
    await server.sql('DROP PUBLICATION millrace_check; DROP TABLE shop.later')
  })

  it('wal_level; no free slot; no free sender', async () => {
    await using poor = await startPostgres({ settings: { wal_level: 'replica' } })
    await poor.sql('CREATE TABLE t (id int PRIMARY KEY)')
    expect(await found({ url: poor.url, tables: ['public.t'] })).toMatchObject({
      kind: 'config',
      message: expect.stringContaining('wal_level is "replica"'),
      hint: expect.stringContaining('ALTER SYSTEM SET wal_level = logical;'),
    })
    await poor.stop()
    await poor.start({ max_replication_slots: 1, max_wal_senders: 1 })
    await using _follower = await followed(poor, [{ schema: 'public', name: 't' }])
    const error = await found({ url: poor.url, tables: ['public.t'] })
    expect(error).toMatchObject({ kind: 'unavailable', message: expect.stringContaining('2 problems') })
    expect(error.message).toContain('max_replication_slots')
    expect(error.message).toContain('max_wal_senders')
  })
})
