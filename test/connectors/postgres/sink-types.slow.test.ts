/**
 * PostgreSQL to PostgreSQL through the real source, log and sink: the text of every column of every type is the same in both databases,
 * in tables that the sink made and in tables that were there with the source's own types.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { postgresSink } from '../../../connectors/postgres/sink.ts'
import { postgres } from '../../../connectors/postgres/source.ts'
import { openFileLog } from '../../../core/log/file.ts'
import { nodeDisk } from '../../../core/log/node-disk.ts'
import { pump } from '../../../core/pump.ts'
import { testContext } from '../../conform/context.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'

const golden = (name: string) =>
  readFileSync(new URL(`../../golden/postgres/${name}`, import.meta.url), 'utf8').replaceAll(':ID', '1')
const TABLES = [
  'customers',
  'customers_full',
  'uidx',
  'composite',
  'toasted',
  'Odd Name-$1',
  'parted',
  'generated',
  'outbox',
  'types',
]
const EXTENSIONS =
  'CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext; CREATE EXTENSION IF NOT EXISTS ltree;'
const ROWS = `
INSERT INTO inv.customers (id, name, email, balance) VALUES (101, 'Ann', 'ann@x.io', 10.50), (102, E'O''Brien\\t\\\\', NULL, -0.01);
INSERT INTO inv.customers_full (id, name) VALUES (1, 'x'), (2, 'y');
INSERT INTO inv.uidx VALUES (1, 'x'), (2, NULL);
INSERT INTO inv.composite VALUES (1, 'k', 'v'), (1, 'k,"2"', 'w'), (2, '{}', NULL);
INSERT INTO inv.toasted VALUES (1, 1, repeat('x', 9000)), (2, 2, repeat('y', 9000));
INSERT INTO inv."Odd Name-$1" VALUES (1, 'a', 'b');
INSERT INTO inv.parted VALUES (1, '2024-05-05', 'p'), (2, '2025-05-05', 'q');
INSERT INTO inv.generated (a) VALUES (21), (22);
INSERT INTO inv.outbox VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'order', '77', 'OrderCreated', '{"id": 77}');`
const CHANGES = `
UPDATE inv.types SET id = id + 100 WHERE id IN (1, 3);
UPDATE inv.customers SET name = 'Anne' WHERE id = 101; UPDATE inv.customers SET id = 103 WHERE id = 102; DELETE FROM inv.customers_full WHERE id = 1;
UPDATE inv.uidx SET a = 3 WHERE a = 1; UPDATE inv.composite SET a = 'k2' WHERE v = 'v'; UPDATE inv.toasted SET n = 3 WHERE id = 1;
UPDATE inv.parted SET d = '2025-06-06' WHERE id = 1; UPDATE inv.generated SET a = 30 WHERE id = 1; TRUNCATE inv.outbox;`

describe('PostgreSQL to PostgreSQL', () => {
  let source: PostgresServer
  let target: PostgresServer
  beforeAll(async () => {
    ;[source, target] = await Promise.all([startPostgres(), startPostgres()])
    await target.sql(EXTENSIONS)
  })
  afterAll(async () => {
    await source?.[Symbol.asyncDispose]()
    await target?.[Symbol.asyncDispose]()
  })

  /** Each column's text, by its type's own output function. */
  const textsOf = async (server: PostgresServer, table: string, columns: readonly string[]) => {
    const list = columns
      .map(name => `CASE WHEN "${name}" IS NOT NULL THEN format('%s', "${name}") END AS "${name}"`)
      .join(', ')
    const rows = await server.sql(`SELECT ${list} FROM inv."${table}"`)
    return rows.map(row => JSON.stringify(row)).sort()
  }
  const columnsOf = async (table: string) =>
    (
      await source.sql<{ name: string }>(
        `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'inv."${table}"'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`,
      )
    ).map(({ name }) => name)

  const copied = async (name: string) => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-types-'))
    const stop = new AbortController()
    const context = (task: string) =>
      testContext({ pipeline: name, task: `${name}/${task}`, signal: stop.signal })
    const config = postgres.config.parse({ url: source.url, tables: TABLES.map(table => `"inv"."${table}"`) })
    const options = postgresSink.config.parse({ url: target.url, schema: 'inv' })
    const { log: silent, clock } = testContext()
    try {
      await using log = await openFileLog({
        directory: join(folder, 'log'),
        disk: nodeDisk,
        clock,
        log: silent,
        name,
        partitions: 1,
        compression: 'lz4',
        limitBytes: Number.POSITIVE_INFINITY,
        lingerMs: 0,
        batchBytes: 1e6,
      })
      await using reader = await postgres.open(config, null, context('source'))
      await using writer = await log.writer(context('source'), 0)
      for await (const batch of reader) {
        expect(await writer.write(batch)).toEqual([])
        await reader.commit?.(batch.offset)
        if (batch.records.some(({ after }) => after?.includes('"the end"'))) break
        if (batch.caughtUp)
          await source.sql(
            `${CHANGES} INSERT INTO inv.customers (id, name) VALUES (999, 'the end') ON CONFLICT DO NOTHING`,
          )
      }
      await using drain = await log.reader({
        consumer: 'test',
        partition: 0,
        from: null,
        signal: stop.signal,
        untilEnd: true,
      })
      await using sink = await postgresSink.open(options, context('sink/0'))
      await pump(
        drain,
        sink,
        { load: async () => null, save: async () => {} },
        {
          async add(rejected) {
            throw rejected[0]!.error
          },
        },
      )
    } finally {
      stop.abort()
      await postgres.drop!(config, testContext({ pipeline: name }))
      rmSync(folder, { recursive: true, force: true })
    }
  }

  it.each([
    ['made by the sink', 'made', async () => {}],
    [
      'that were there with the types of the source',
      'taken',
      async () => {
        await target.sql(golden('types.sql').replace(/CREATE EXTENSION[^;]*;/g, ''))
        for (const table of TABLES)
          await target.sql(
            `ALTER TABLE inv."${table}" ADD COLUMN millrace_version int8, ADD COLUMN millrace_origin text`,
          )
      },
    ],
  ] as const)('is lossless in tables %s', async (_, name, prepare) => {
    await source.sql(`DROP SCHEMA IF EXISTS inv CASCADE; ${golden('types.sql')}`)
    await source.sql(`${golden('types-rows.sql')};${ROWS}`)
    await target.sql('DROP SCHEMA IF EXISTS inv CASCADE')
    await prepare()
    await copied(name)
    for (const table of TABLES) {
      const columns = await columnsOf(table)
      // The log has no difference between a json null and no value: both are null in the row's text.
      const expected = (await textsOf(source, table, columns)).map(text =>
        text.replace('"c_json":"null"', '"c_json":null'),
      )
      expect(await textsOf(target, table, columns), table).toEqual(expected)
      if (table !== 'outbox') expect(expected.length, table).toBeGreaterThan(0)
    }
    expect(await target.sql('SELECT max(millrace_version) > 0 AS is FROM inv.types')).toEqual([{ is: true }])
  })
})
