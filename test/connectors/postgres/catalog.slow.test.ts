/** What the catalog says, on a real server; and connections: settings, TLS, errors. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  describeTables,
  identifySystem,
  matchTables,
  relationNames,
  serverFacts,
  snapshotOf,
  widenXid,
} from '../../../connectors/postgres/catalog.ts'
import { connect, quoteText } from '../../../connectors/postgres/connect.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'

let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres()
})
afterAll(() => server[Symbol.asyncDispose]())

describe('catalog', () => {
  it('the server: version, clock, identity', async () => {
    const client = await connect(server)
    const beforeUs = (Date.now() - 1_000) * 1_000
    const facts = await serverFacts(client)
    expect(facts).toMatchObject({ major: 18, isReplica: false, encoding: 'UTF8' })
    expect(facts.nowUs).toBeGreaterThan(beforeUs)
    expect(facts.nowUs).toBeLessThan((Date.now() + 1_000) * 1_000)
    expect(facts.startedUs).toBeLessThan(facts.nowUs)
    const identity = await identifySystem(server)
    const [control] = await server.sql<{ id: string }>(
      'SELECT system_identifier::text AS id FROM pg_control_system()',
    )
    expect(identity).toMatchObject({
      systemId: control!.id,
      timeline: 1,
      lsn: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/),
    })
    await client.end()
  })

  it('tables: keys in key order, columns without generated ones, domains, leaves, sizes, rewrites', async () => {
    await server.sql(`CREATE SCHEMA "Odd s"; CREATE DOMAIN pos AS int; CREATE DOMAIN deep AS pos;
      CREATE TABLE "Odd s"."Odd t" ("c 1" int, gone int, b text, d deep, e deep[], g int GENERATED ALWAYS AS (1) STORED, PRIMARY KEY (b, "c 1") INCLUDE (d));
      ALTER TABLE "Odd s"."Odd t" DROP gone;
      CREATE TABLE byindex (a int NOT NULL, b int NOT NULL, id int PRIMARY KEY); CREATE UNIQUE INDEX byindex_i ON byindex (b, a); ALTER TABLE byindex REPLICA IDENTITY USING INDEX byindex_i;
      CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (id);
      CREATE TABLE p1a PARTITION OF p1 FOR VALUES FROM (0) TO (500); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (1000) TO (5000);
      INSERT INTO p SELECT i, repeat('x', 100) FROM generate_series(0, 499) i; INSERT INTO p SELECT i, 'y' FROM generate_series(1000, 1999) i;
      ANALYZE p; CREATE TABLE never (id int PRIMARY KEY); INSERT INTO never SELECT generate_series(1, 10000); CREATE VIEW shown AS SELECT 1; CREATE TABLE nokey (a int)`)
    const client = await connect(server)
    const describeAll = async () => {
      const { tables } = matchTables(await relationNames(client), ['*.*'])
      return new Map(
        (
          await describeTables(
            client,
            tables.map(({ oid }) => oid),
          )
        ).map(table => [`${table.schema}.${table.name}`, table]),
      )
    }
    const all = await describeAll()
    expect([...all.keys()]).toEqual([
      'Odd s.Odd t',
      'public.byindex',
      'public.never',
      'public.nokey',
      'public.p',
    ])
    const odd = all.get('Odd s.Odd t')!
    expect(odd).toMatchObject({
      key: ['b', 'c 1'],
      generated: ['g'],
      kind: 'r',
      persistence: 'p',
      identity: 'd',
    })
    expect(odd.columns.map(({ name, type }) => `${name} ${type.name}`)).toEqual([
      'c 1 int4',
      'b text',
      'd int4',
      'e int4[]',
    ])
    expect(all.get('public.byindex')).toMatchObject({ key: ['b', 'a'], identity: 'i' })
    expect(all.get('public.nokey')).toMatchObject({ key: [] })
    const parted = all.get('public.p')!
    expect(parted).toMatchObject({ kind: 'p', rows: 1500 })
    expect(parted.leaves.map(({ name, kind, blocks }) => [name, kind, blocks > 0])).toEqual([
      ['p1a', 'r', true],
      ['p2', 'r', true],
    ])
    expect(all.get('public.never')!.rows).toBeGreaterThan(1000)
    const before = parted.leaves.map(leaf => leaf.filenode)
    await server.sql('VACUUM FULL p2')
    const after = (await describeAll()).get('public.p')!.leaves.map(leaf => leaf.filenode)
    expect(after[0]).toBe(before[0])
    expect(after[1]).not.toBe(before[1])
    expect(await describeTables(client, [odd.oid, 999_999_999])).toHaveLength(1)
    await client.end()
  })

  it('a snapshot agrees with pg_visible_in_snapshot', async () => {
    const running = await server.client()
    await running.query('BEGIN; SELECT pg_current_xact_id()')
    await server.sql('SELECT pg_current_xact_id()')
    const [row] = await server.sql<{ text: string }>('SELECT pg_current_snapshot()::text AS text')
    const snapshot = snapshotOf(row!.text)
    const around = await server.sql<{ xid: string; seen: boolean }>(
      `SELECT i::text AS xid, pg_visible_in_snapshot(i::text::xid8, ${quoteText(row!.text)}::pg_snapshot) AS seen FROM generate_series(${snapshot.xmin - 5n}, ${snapshot.xmax + 5n}) i`,
    )
    expect(around.length).toBeGreaterThan(10)
    for (const { xid, seen } of around)
      expect(snapshot.sees(widenXid(Number(BigInt(xid) & 0xffff_ffffn), snapshot.xmax)), xid).toBe(seen)
    await running.query('ROLLBACK')
  })
})

describe('connections', () => {
  it('write values one way whatever the role and database say, on both kinds of connection', async () => {
    await server.sql(
      `ALTER ROLE postgres SET DateStyle = 'SQL, DMY'; ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE postgres SET bytea_output = 'escape'; ALTER ROLE postgres SET IntervalStyle = sql_standard; ALTER ROLE postgres SET statement_timeout = 1; ALTER ROLE postgres SET client_encoding = LATIN1`,
    )
    for (const replication of [false, true]) {
      const client = await connect(server, { replication })
      const said = []
      for (const name of [
        'TimeZone',
        'DateStyle',
        'IntervalStyle',
        'bytea_output',
        'extra_float_digits',
        'client_encoding',
        'search_path',
        'statement_timeout',
      ])
        said.push(Object.values((await client.query(`SHOW ${name}`)).rows[0])[0])
      expect(said).toEqual(['UTC', 'ISO, MDY', 'iso_8601', 'hex', '3', 'UTF8', 'pg_catalog', '0'])
      await client.end()
    }
    await server.sql(`ALTER ROLE postgres RESET ALL; ALTER DATABASE postgres RESET ALL`)
  })

  it('TLS: each sslmode with a certificate of an authority we name', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-tls-'))
    const openssl = (...args: string[]) => {
      const { status, stderr } = spawnSync('openssl', args, { cwd: folder })
      if (status !== 0) throw new Error(String(stderr))
    }
    openssl(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
      '-days',
      '2',
      '-subj',
      '/CN=Test CA',
    )
    openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'server.key',
      '-out',
      'server.csr',
      '-subj',
      '/CN=localhost',
      '-addext',
      'subjectAltName=DNS:localhost',
    )
    openssl(
      'x509',
      '-req',
      '-in',
      'server.csr',
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-out',
      'server.pem',
      '-days',
      '2',
      '-copy_extensions',
      'copy',
    )
    await using secure = await startPostgres()
    for (const name of ['server.key', 'server.pem'])
      spawnSync('cp', [join(folder, name), join(secure.dataDirectory, name)])
    spawnSync('chown', [
      '--reference',
      join(secure.dataDirectory, 'PG_VERSION'),
      ...['server.key', 'server.pem'].map(name => join(secure.dataDirectory, name)),
    ])
    chmodSync(join(secure.dataDirectory, 'server.key'), 0o600)
    await secure.stop()
    await secure.start({ ssl: 'on', ssl_cert_file: 'server.pem', ssl_key_file: 'server.key' })
    const at = (host: string, query: string) =>
      `${secure.url.replace('127.0.0.1', host).replace('?sslmode=disable', '')}?${query}`
    const isTls = async (url: string) => {
      const client = await connect({ url })
      const { rows } = await client.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
      await client.end()
      return rows[0].ssl
    }
    const ca = `sslrootcert=${encodeURIComponent(join(folder, 'ca.pem'))}`
    expect(await isTls(at('127.0.0.1', 'sslmode=disable'))).toBe(false)
    expect(await isTls(at('127.0.0.1', 'sslmode=allow'))).toBe(false)
    expect(await isTls(at('127.0.0.1', ''))).toBe(true)
    expect(await isTls(at('127.0.0.1', 'sslmode=require'))).toBe(true)
    expect(await isTls(at('127.0.0.1', `sslmode=verify-ca&${ca}`))).toBe(true)
    expect(await isTls(at('localhost', `sslmode=verify-full&${ca}`))).toBe(true)
    for (const [host, query] of [
      ['127.0.0.1', `sslmode=verify-full&${ca}`],
      ['localhost', 'sslmode=verify-full'],
      ['localhost', 'sslmode=verify-ca'],
      ['localhost', `sslmode=require&sslrootcert=system`],
    ] as const)
      await expect(connect({ url: at(host, query) }), query).rejects.toMatchObject({
        kind: 'auth',
        hint: expect.stringContaining('sslrootcert'),
      })
    await expect(
      connect({ url: at('localhost', 'sslmode=verify-full&sslrootcert=/nowhere') }),
    ).rejects.toMatchObject({ kind: 'config' })
    rmSync(folder, { recursive: true })
  })

  it('too many connections and a starting server are waited for', async () => {
    await using small = await startPostgres({
      settings: {
        max_connections: 5,
        superuser_reserved_connections: 0,
        reserved_connections: 0,
        max_wal_senders: 2,
      },
    })
    const held = []
    for (let i = 0; i < 5; i++) held.push(await connect(small))
    await expect(connect(small)).rejects.toMatchObject({
      kind: 'unavailable',
      hint: expect.stringContaining('max_connections'),
    })
    for (const one of held) await one.end()
  })
})
