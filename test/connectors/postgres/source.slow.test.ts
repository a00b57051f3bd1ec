import { describe, expect, it } from 'vitest'
import type { PostgresConfig } from '../../../connectors/postgres/config.ts'
import { postgres } from '../../../connectors/postgres/source.ts'
import type { Reader } from '../../../core/connector.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { sourceConformance } from '../../conform/source.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'

const configOf = (server: PostgresServer, over: object = {}): PostgresConfig =>
  postgres.config.parse({ url: server.url, tables: ['kit.*'], heartbeat_ms: 0, ...over })

const TABLES = `
CREATE SCHEMA kit;
CREATE TABLE kit.plain (id bigint PRIMARY KEY, name text, price numeric(10,2));
CREATE TABLE kit.full_identity (id int, part text, big text, PRIMARY KEY (part, id));
ALTER TABLE kit.full_identity REPLICA IDENTITY FULL;
CREATE TABLE kit."Odd ""Name" ("the key" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "a,b" int[]);
INSERT INTO kit.plain SELECT i, 'row ' || i, i / 100.0 FROM generate_series(1, 300) i;`

definitionConformance(postgres as never)
sourceConformance({
  name: 'postgres',
  async setUp() {
    const server = await startPostgres()
    await server.sql(TABLES)
    return {
      open: (from, context) => postgres.open(configOf(server), from, context),
      async change() {
        // One transaction larger than the reader's memory for pending changes: cuts fall inside it.
        await server.sql("INSERT INTO kit.plain SELECT i, 'big ' || i, 0 FROM generate_series(1001, 31000) i")
        await server.sql('UPDATE kit.plain SET id = -id WHERE id <= 5; DELETE FROM kit.plain WHERE id = 6')
        await server.sql(
          "INSERT INTO kit.full_identity VALUES (1, 'a', repeat('x', 9000)); UPDATE kit.full_identity SET id = 2",
        )
        await server.sql('INSERT INTO kit."Odd ""Name" ("a,b") VALUES (ARRAY[1,NULL,3])')
        await server.sql('TRUNCATE kit.full_identity')
        for (let i = 0; i < 20; i++) await server.sql(`UPDATE kit.plain SET name = 'step ${i}' WHERE id = 10`)
      },
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    }
  },
  isFixed: record => record.op !== 'r',
  isResumable: offset => (offset as { state?: string }).state === 'following',
  quietMs: 1_500,
  resumes: 8,
})

/** Reads until the reader has caught up and `count` records that are no rows of the snapshot have come. */
async function readAll(
  reader: Reader<ChangeRecord>,
  count: number,
  onCaughtUp: () => Promise<unknown>,
): Promise<ChangeRecord[]> {
  const records: ChangeRecord[] = []
  let caughtUp = false
  for await (const batch of reader) {
    records.push(...batch.records)
    if (batch.caughtUp && !caughtUp) {
      caughtUp = true
      await onCaughtUp()
    }
    if (caughtUp && records.filter(one => one.op !== 'r').length >= count) return records
  }
  return records
}

describe('postgres: records', () => {
  it('brings rows, inserts, updates, deletes, key changes and truncates as the log holds them', async () => {
    await using server = await startPostgres()
    await server.sql(TABLES)
    const stop = new AbortController()
    const context = testContext({ pipeline: 'kit', task: 'kit/source', signal: stop.signal })
    await using reader = await postgres.open(configOf(server), null, context)
    const records = await readAll(reader, 8, async () => {
      await server.sql('INSERT INTO kit.plain VALUES (9007199254740993, \'ü "q"\', 1.10)')
      await server.sql('UPDATE kit.plain SET id = 1000 WHERE id = 1')
      await server.sql('DELETE FROM kit.plain WHERE id = 2')
      await server.sql("INSERT INTO kit.full_identity VALUES (1, 'a', 'b')")
      await server.sql("UPDATE kit.full_identity SET big = 'c'")
      await server.sql('DELETE FROM kit.full_identity')
      await server.sql('TRUNCATE kit.plain')
    })
    stop.abort()
    const rows = records.filter(one => one.op === 'r')
    expect(rows).toHaveLength(300)
    expect(JSON.parse(rows[0]!.source)).toMatchObject({
      connector: 'postgres',
      name: 'kit',
      schema: 'kit',
      table: 'plain',
      snapshot: true,
    })
    const changes = records
      .filter(one => one.op !== 'r')
      .map(({ op, key, before, after, below }) => ({ op, key, before, after, below }))
    expect(changes).toEqual([
      {
        op: 'c',
        key: '{"id":9007199254740993}',
        before: null,
        after: '{"id":9007199254740993,"name":"ü \\"q\\"","price":"1.10"}',
        below: null,
      },
      { op: 'd', key: '{"id":1}', before: '{"id":1}', after: null, below: null },
      {
        op: 'c',
        key: '{"id":1000}',
        before: null,
        after: '{"id":1000,"name":"row 1","price":"0.01"}',
        below: null,
      },
      { op: 'd', key: '{"id":2}', before: '{"id":2}', after: null, below: null },
      {
        op: 'c',
        key: '{"part":"a","id":1}',
        before: null,
        after: '{"id":1,"part":"a","big":"b"}',
        below: null,
      },
      {
        op: 'u',
        key: '{"part":"a","id":1}',
        before: '{"id":1,"part":"a","big":"b"}',
        after: '{"id":1,"part":"a","big":"c"}',
        below: null,
      },
      {
        op: 'd',
        key: '{"part":"a","id":1}',
        before: '{"id":1,"part":"a","big":"c"}',
        after: null,
        below: null,
      },
      { op: 'sweep', key: '{"sweep":"kit.plain"}', before: null, after: null, below: -1 },
    ])
  })

  it('reads unchanged big values again, and says which are missing when the row is gone (H9)', async () => {
    await using server = await startPostgres()
    await server.sql(
      'CREATE SCHEMA kit; CREATE TABLE kit.t (id int PRIMARY KEY, n int, big text); ALTER TABLE kit.t ALTER big SET STORAGE EXTERNAL; INSERT INTO kit.t SELECT i, 0, repeat(i::text, 9000) FROM generate_series(1, 2) i',
    )
    const stop = new AbortController()
    await using reader = await postgres.open(
      configOf(server),
      null,
      testContext({ pipeline: 'kit', task: 'kit/source', signal: stop.signal }),
    )
    const records = await readAll(reader, 4, () =>
      server.sql(
        'BEGIN; UPDATE kit.t SET n = 1; COMMIT; UPDATE kit.t SET n = 2 WHERE id = 2; DELETE FROM kit.t WHERE id = 2',
      ),
    )
    stop.abort()
    const updates = records.filter(one => one.op === 'u')
    const first = updates.find(one => one.key === '{"id":1}')!
    expect(first.after).toBe(`{"id":1,"n":1,"big":"${'1'.repeat(9000)}"}`)
    // The statements above are one transaction: by the time it is read again the row is gone.
    for (const gone of updates.filter(one => one.key === '{"id":2}'))
      expect(JSON.parse(gone.source)).toMatchObject({ missing: ['big'] })
  })

  it('refuses a slot that it did not make, and says what to do', async () => {
    await using server = await startPostgres()
    await server.sql('CREATE SCHEMA kit; CREATE TABLE kit.t (id int PRIMARY KEY)')
    await server.sql("SELECT pg_create_logical_replication_slot('millrace_kit', 'pgoutput')")
    await using reader = await postgres.open(
      configOf(server),
      null,
      testContext({ pipeline: 'kit', task: 'kit/source' }),
    )
    const error = await readAll(reader, 1, async () => {}).catch(
      thrown => thrown as { kind: string; hint: string },
    )
    expect(error).toMatchObject({
      kind: 'config',
      hint: expect.stringContaining("pg_drop_replication_slot('millrace_kit')"),
    })
  })

  it('is offset_lost when the slot is gone or has let go of more than the log holds (H11)', async () => {
    await using server = await startPostgres()
    await server.sql('CREATE SCHEMA kit; CREATE TABLE kit.t (id int PRIMARY KEY)')
    const stop = new AbortController()
    const context = testContext({ pipeline: 'kit', task: 'kit/source', signal: stop.signal })
    const offsets: unknown[] = []
    {
      await using reader = await postgres.open(configOf(server), null, context)
      for await (const batch of reader) {
        offsets.push(JSON.parse(JSON.stringify(batch.offset)))
        if (batch.caughtUp) break
      }
    }
    const failure = async () => {
      await using reader = await postgres.open(
        configOf(server),
        offsets.at(-1) as never,
        testContext({ pipeline: 'kit', task: 'kit/source', epoch: 9 }),
      )
      return readAll(reader, 1, async () => {}).catch(thrown => (thrown as { kind: string }).kind)
    }
    await server.sql('INSERT INTO kit.t VALUES (1)')
    await server.sql("SELECT pg_replication_slot_advance('millrace_kit', pg_current_wal_lsn())")
    expect(await failure()).toBe('offset_lost')
    await server.sql("SELECT pg_drop_replication_slot('millrace_kit')")
    expect(await failure()).toBe('offset_lost')
  })

  it('drops slot and publication, repeatably', async () => {
    await using server = await startPostgres()
    await server.sql('CREATE SCHEMA kit; CREATE TABLE kit.t (id int PRIMARY KEY)')
    const context = testContext({ pipeline: 'kit', task: 'kit/source' })
    {
      await using reader = await postgres.open(configOf(server), null, context)
      for await (const batch of reader) if (batch.caughtUp) break
    }
    expect(await postgres.drop!(configOf(server), context)).toEqual([
      'replication slot millrace_kit',
      'publication millrace_kit',
    ])
    expect(await postgres.drop!(configOf(server), context)).toEqual([])
  })
})
