/** The PostgreSQL sink on a real server: the kit, tables made, taken and evolved, constraints, appended changes, faults. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { findBinaries } from '../../../connectors/postgres/embedded-binaries.ts'
import { postgresSink } from '../../../connectors/postgres/sink.ts'
import type { Context, Writer } from '../../../core/connector.ts'
import { ConnectorError, Fenced } from '../../../core/errors.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { cutConformance } from '../../conform/cuts.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, type Held, KIT_TABLE, keyedSinkConformance, recordOf } from '../../conform/sink.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { missingForSmallDisk, mountSmallDisk } from '../../servers/small-disk.ts'

definitionConformance(postgresSink as never)

let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: 'on' } })
})
afterAll(() => server?.[Symbol.asyncDispose]())

const opened: Writer[] = []
const openOn = (url: string, over: object = {}, context: Partial<Context> = {}): Promise<Writer> =>
  postgresSink.open(
    postgresSink.config.parse({ url, schema: 'kept', ...over }) as never,
    testContext(context),
  )
const open = async (over: object = {}, context: Partial<Context> = {}): Promise<Writer> => {
  const writer = await openOn(server.url, over, context)
  opened.push(writer)
  return writer
}
const closeAll = async () => {
  for (const writer of opened.splice(0)) await writer[Symbol.asyncDispose]()
}
const anew = async () => {
  await closeAll()
  await server.sql('DROP SCHEMA IF EXISTS kept CASCADE')
}

async function rows(table = 'kit'): Promise<ReadonlyMap<string, Held>> {
  const [is] = await server.sql(`SELECT to_regclass('kept.${table}') AS name`)
  if (is!.name === null) return new Map()
  const found = await server.sql<{ id: string; version: string; origin: string; document: string }>(
    `SELECT id::text, millrace_version AS version, millrace_origin AS origin, to_json(t)::text AS document FROM kept.${table} t ORDER BY t.id`,
  )
  return new Map(
    found.map(({ id, version, origin, document }) => {
      const { millrace_version, millrace_origin, ...row } = JSON.parse(document) as Record<string, unknown>
      return [id, { version: Number(version), origin, document: row }]
    }),
  )
}

keyedSinkConformance({
  name: 'postgres',
  async target() {
    await anew()
    return { open: context => openOn(server.url, {}, context), rows, async [Symbol.asyncDispose]() {} }
  },
  bad: good => ({ ...good, after: '{"id":5,"name":"bad","price":"much"}' }),
  cannotHold: text => text.includes('\0'),
})

cutConformance({
  name: 'postgres',
  port: () => Number(new URL(server.url).port),
  async target(port) {
    await anew()
    const url = Object.assign(new URL(server.url), { port: String(port) }).href
    return { open: context => openOn(url, {}, context), rows, async [Symbol.asyncDispose]() {} }
  },
})

const write = async (writer: Writer, ...records: LogRecord[]) =>
  expect(await writer.write(batchOf(records))).toEqual([])
const shaped = (table: Table, row: string, record: LogRecord): LogRecord => ({ ...record, table, after: row })
const withColumns = (...columns: [name: string, type: string][]): Table => ({
  ...KIT_TABLE,
  columns: [{ name: 'id', type: 'int8' }, ...columns.map(([name, type]) => ({ name, type }))],
})
const plan = (over: object = {}, table: Table = KIT_TABLE) =>
  postgresSink.plan!(
    postgresSink.config.parse({ url: server.url, schema: 'kept', ...over }) as never,
    [{ table, topic: 'kit.test.kit' }],
    testContext(),
  )
const typesOf = async (table = 'kit') =>
  Object.fromEntries(
    (
      await server.sql<{ name: string; type: string }>(
        `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'kept.${table}'::regclass AND attnum > 0 AND NOT attisdropped`,
      )
    ).map(({ name, type }) => [name, type]),
  )

describe('rows', () => {
  beforeEach(anew)
  afterAll(closeAll)

  it('a large batch of new rows goes by COPY, and by a statement where one is there already; the newer stays', async () => {
    const writer = await open()
    const many = (from: number, name: string, version: number) =>
      Array.from({ length: 3_000 }, (_, i) =>
        recordOf({ op: 'r', id: from + i, name: `${name}\t${i}\\`, version: version + i }),
      )
    await write(writer, ...many(0, 'a', 10_000))
    await write(writer, ...many(2_000, 'b', 1_000)) // 1,000 of them stand there, newer
    const held = await rows()
    expect(held.size).toBe(5_000)
    expect(held.get('2500')).toMatchObject({ version: 12_500, document: { name: 'a\t2500\\' } })
    expect(held.get('4999')).toMatchObject({ version: 3_999, document: { name: 'b\t2999\\' } })
    await write(writer, ...many(5_000, 'c', 20_000), ...many(8_000, 'd', 30_000))
    expect((await rows()).size).toBe(11_000)
  })

  it('a bad value among thousands of new rows is found, and nothing of the batch is written (P1)', async () => {
    const writer = await open()
    const records = Array.from({ length: 2_000 }, (_, i) => recordOf({ op: 'r', id: i, version: i + 1 }))
    const bad = [100, 1_500].map(i => {
      const broken: LogRecord = { ...records[i]!, after: `{"id":${i},"name":"x","price":"much"}` }
      records[i] = broken
      return broken
    })
    const half = { ...records[700]!, after: '{"id":700,"name":"\\ud83d","price":"1"}' }
    records[700] = half
    const rejected = await writer.write(batchOf(records))
    expect(rejected.map(one => one.record)).toEqual([bad[0], half, bad[1]])
    expect(rejected[0]!.error.message).toContain('much')
    expect(rejected[1]!.error.message).toContain('name holds half of a surrogate pair')
    expect((await rows()).size).toBe(0)
    await write(writer, ...records.filter(one => one !== half && !bad.includes(one)))
    expect((await rows()).size).toBe(1_997)
  })

  it('keys of several columns, with names that need quotes', async () => {
    const table: Table = {
      schema: 'test',
      name: 'Odd "Name"',
      key: ['z z', 'a"b'],
      columns: [
        { name: 'a"b', type: 'text' },
        { name: 'v', type: 'numeric' },
        { name: 'z z', type: 'int4' },
      ],
    }
    const of = (z: number, a: string, v: string | null, version: number): LogRecord => ({
      ...recordOf({ version, op: v === null ? 'd' : 'u' }),
      table,
      key: JSON.stringify({ 'z z': z, 'a"b': a }),
      after: v === null ? null : JSON.stringify({ 'a"b': a, v, 'z z': z }),
    })
    const writer = await open()
    await write(writer, of(1, 'a,"b"', '1.0', 1), of(1, '{c}', '2', 2), of(2, 'a,"b"', '3', 3))
    await write(writer, of(1, '{c}', null, 4), of(2, 'a,"b"', '4.00', 5))
    const found = await server.sql('SELECT "z z" AS z, "a""b" AS a, v FROM kept."Odd ""Name""" ORDER BY 1')
    expect(found).toEqual([
      { z: 1, a: 'a,"b"', v: '1.0' },
      { z: 2, a: 'a,"b"', v: '4.00' },
    ])
  })

  it('append: each change once, with what is known of it; a sweep is one of them', async () => {
    const writer = await open({ mode: 'append' })
    const batch = batchOf([
      recordOf({ id: 1, version: 1 }),
      { ...recordOf({ op: 'd', id: 1, version: 2 }), before: '{"id":1,"name":"a","price":"1.50"}' },
      recordOf({ op: 'd', id: 2, version: 3 }),
      recordOf({ op: 'sweep', version: 4, below: 4 }),
    ])
    expect(await writer.write(batch)).toEqual([])
    const found = await server.sql(
      `SELECT id, name, price, millrace_op AS op, millrace_version AS version, millrace_origin AS origin,
       (extract(epoch FROM millrace_committed_at) * 1000)::int8 AS ms FROM kept.kit ORDER BY millrace_version`,
    )
    const beside = (op: string, version: string) => ({
      ...{ op, version, origin: 'kit.test.kit/0', ms: '1700000000000' },
    })
    expect(found).toEqual([
      { id: '1', name: 'a', price: '1.50', ...beside('u', '1') },
      { id: '1', name: 'a', price: '1.50', ...beside('d', '2') },
      { id: '2', name: null, price: null, ...beside('d', '3') },
      { id: null, name: null, price: null, ...beside('sweep', '4') },
    ])
    expect(writer.highest).toBeUndefined()
    await write(writer, recordOf({ id: 1, version: 5 }))
    const next = await open({ mode: 'append' }, { epoch: 2 })
    expect(await next.position!()).toEqual({ log: 'kit', next: { 'kit.test.kit': 6 } })
  })

  it('forget takes the position and leaves the rows', async () => {
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
    const options = postgresSink.config.parse({ url: server.url, schema: 'kept' }) as never
    await postgresSink.forget!(options, ['test/sink/0'], testContext())
    expect(await server.sql('SELECT * FROM kept.millrace_progress')).toEqual([])
    expect((await rows()).size).toBe(1)
    await postgresSink.forget!(
      { ...(options as object), schema: 'nowhere' } as never,
      ['test/sink/0'],
      testContext(),
    )
  })
})

describe('tables', () => {
  beforeEach(anew)
  afterAll(closeAll)

  it('follows the shape: columns are added and widened, those that go stay and become null; late rows of before still fit', async () => {
    const writer = await open()
    const old = withColumns(['n', 'int4'], ['f', 'float4'], ['t', 'int2'], ['gone', 'text'])
    const young = withColumns(
      ['n', 'int8'],
      ['f', 'float8'],
      ['t', 'text'],
      ['added', 'jsonb'],
      ['ns', 'numeric[]'],
    )
    const late = shaped(old, '{"id":3,"n":5,"f":2.5,"t":7,"gone":"z"}', recordOf({ id: 3, version: 4 }))
    await write(
      writer,
      shaped(old, '{"id":1,"n":1,"f":1.5,"t":2,"gone":"x"}', recordOf({ id: 1, version: 1 })),
    )
    expect(await typesOf()).toMatchObject({ n: 'integer', f: 'real', t: 'smallint', gone: 'text' })
    const row = '{"id":1,"n":9223372036854775807,"f":1e300,"t":"a","added":{"a": 1.50},"ns":["1.50",null]}'
    await write(writer, shaped(young, row, recordOf({ id: 1, version: 2 })), late)
    expect(await typesOf()).toMatchObject({
      n: 'bigint',
      f: 'double precision',
      t: 'text',
      added: 'jsonb',
      ns: 'numeric[]',
    })
    expect(
      await server.sql('SELECT id, n, f, t, gone, added::text, ns::text FROM kept.kit ORDER BY id'),
    ).toEqual([
      {
        id: '1',
        n: '9223372036854775807',
        f: 1e300,
        t: 'a',
        gone: null,
        added: '{"a": 1.50}',
        ns: '{1.50,NULL}',
      },
      { id: '3', n: '5', f: 2.5, t: '7', gone: 'z', added: null, ns: null },
    ])
    const foreign = withColumns(['n', 'bool'])
    const refused = await writer
      .write(batchOf([shaped(foreign, '{"id":1,"n":true}', recordOf({ id: 1, version: 5 }))]))
      .then(
        () => null,
        error => error as ConnectorError,
      )
    expect(refused).toMatchObject({
      kind: 'config',
      hint: 'ALTER TABLE "kept"."kit" ALTER COLUMN "n" TYPE bool USING "n"::bool;',
    })
  })

  it('a table that was there is taken as it is: its types, defaults, generated columns, further columns', async () => {
    await server.sql(`CREATE SCHEMA kept; CREATE TYPE kept.mood AS ENUM ('sad', 'happy');
      CREATE TABLE kept.kit (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(5), price numeric(12,2), mood kept.mood,
        notes text DEFAULT 'mine', twice numeric GENERATED ALWAYS AS (price * 2) STORED,
        millrace_version int8, millrace_origin text);
      INSERT INTO kept.kit (name, notes) VALUES ('old', 'kept')`)
    const table = withColumns(['name', 'text'], ['price', 'numeric'], ['mood', 'text'], ['twice', 'numeric'])
    expect(await plan({}, table)).toMatchObject([{ name: 'kept.kit', exists: true }])
    const of = (id: number, name: string, version: number) =>
      shaped(
        table,
        `{"id":${id},"name":"${name}","price":"1.5","mood":"happy","twice":"0"}`,
        recordOf({ id, version }),
      )
    const writer = await open()
    await write(writer, of(1, 'lamp', 1), of(2, 'sofa', 2))
    await write(writer, of(2, 'sofas', 3))
    expect(await server.sql('SELECT id, name, price, mood, notes, twice FROM kept.kit ORDER BY id')).toEqual([
      { id: '1', name: 'lamp', price: '1.50', mood: 'happy', notes: 'kept', twice: '3.00' },
      { id: '2', name: 'sofas', price: '1.50', mood: 'happy', notes: 'mine', twice: '3.00' },
    ])
    // Nothing is cut to what fits.
    const rejected = await writer.write(batchOf([of(3, 'too long', 4)]))
    expect(rejected[0]!.error.message).toContain('too long for type character varying(5)')
  })

  it.each([
    [
      'no key',
      'CREATE TABLE kept.kit (id int8, name text, price numeric, millrace_version int8, millrace_origin text)',
      'ALTER TABLE "kept"."kit" ADD PRIMARY KEY ("id");',
    ],
    [
      'no columns of ours',
      'CREATE TABLE kept.kit (id int8 PRIMARY KEY, name text, price numeric)',
      'ALTER TABLE "kept"."kit" ADD COLUMN IF NOT EXISTS "millrace_version" int8;\nALTER TABLE "kept"."kit" ADD COLUMN IF NOT EXISTS "millrace_origin" text;',
    ],
    [
      'numbers that are too small',
      'CREATE TABLE kept.kit (id int4 PRIMARY KEY, name text, price numeric, millrace_version int8, millrace_origin text)',
      'ALTER TABLE "kept"."kit" ALTER COLUMN "id" TYPE int8 USING "id"::int8;',
    ],
    [
      'a unique constraint',
      'CREATE TABLE kept.kit (id int8 PRIMARY KEY, name text CONSTRAINT u UNIQUE, price numeric, millrace_version int8, millrace_origin text)',
      /^ALTER TABLE "kept"."kit" DROP CONSTRAINT "u"; ALTER TABLE "kept"."kit" ADD CONSTRAINT "u" UNIQUE \("name"\) DEFERRABLE INITIALLY DEFERRED;/,
    ],
    [
      'a unique index',
      'CREATE TABLE kept.kit (id int8 PRIMARY KEY, name text, price numeric, millrace_version int8, millrace_origin text); CREATE UNIQUE INDEX u ON kept.kit (name)',
      /^DROP INDEX "kept"."u"; ALTER TABLE "kept"."kit" ADD CONSTRAINT "u" UNIQUE \("name"\) DEFERRABLE INITIALLY DEFERRED;/,
    ],
    [
      'a unique index over a part',
      'CREATE TABLE kept.kit (id int8 PRIMARY KEY, name text, price numeric, millrace_version int8, millrace_origin text); CREATE UNIQUE INDEX u ON kept.kit (name) WHERE id > 5',
      'DROP INDEX "kept"."u";',
    ],
    [
      'a foreign key',
      'CREATE TABLE kept.other (name text PRIMARY KEY); CREATE TABLE kept.kit (id int8 PRIMARY KEY, name text CONSTRAINT f REFERENCES kept.other, price numeric, millrace_version int8, millrace_origin text)',
      'ALTER TABLE kept.kit DROP CONSTRAINT "f";',
    ],
  ])('plan refuses a table with %s, and its hint mends it', async (_, sql, hint) => {
    await server.sql(`CREATE SCHEMA kept; ${sql}`)
    const refused = await plan().then(
      () => null,
      error => error as ConnectorError,
    )
    expect(refused?.kind).toBe('config')
    expect(refused?.hint).toMatch(hint)
    await server.sql(refused!.hint!.replace(/ With more.*/, ''))
    expect(await plan()).toMatchObject([{ exists: true }])
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
  })

  it('a deferred unique constraint holds over a swap inside a batch', async () => {
    await server.sql(`CREATE SCHEMA kept; CREATE TABLE kept.kit (id int8 PRIMARY KEY, name text, price numeric,
      millrace_version int8, millrace_origin text, UNIQUE (name) DEFERRABLE INITIALLY DEFERRED)`)
    const writer = await open()
    await write(
      writer,
      recordOf({ id: 1, name: 'a', version: 1 }),
      recordOf({ id: 2, name: 'b', version: 2 }),
    )
    await write(
      writer,
      recordOf({ id: 1, name: 'b', version: 3 }),
      recordOf({ id: 2, name: 'a', version: 4 }),
    )
    await write(writer, recordOf({ id: 3, name: 'b', version: 5 }), recordOf({ op: 'd', id: 1, version: 6 }))
    expect([...(await rows()).values()].map(({ document }) => (document as { name: string }).name)).toEqual([
      'a',
      'b',
    ])
    // What another row holds is no fault of this one: it waits, and is no dead letter.
    const error = await writer.write(batchOf([recordOf({ id: 4, name: 'a', version: 7 })])).then(
      () => null,
      one => one as ConnectorError,
    )
    expect(error).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('one partition') })
    await write(writer, recordOf({ id: 4, name: 'd', version: 7 }))
  })

  it('two tasks make and widen the same tables at once', async () => {
    const tasks = [0, 1, 2, 3].map(partition => ({ task: `test/sink/${partition}` }))
    const writers = await Promise.all(tasks.map(context => open({}, context)))
    await Promise.all(
      writers.map((writer, partition) =>
        writer.write(batchOf([recordOf({ id: partition, partition, version: 1 })])),
      ),
    )
    const wide = { ...KIT_TABLE, columns: [...KIT_TABLE.columns, { name: 'more', type: 'text' }] }
    const failures = await Promise.allSettled(
      writers.map((writer, partition) =>
        writer.write(
          batchOf([
            shaped(
              wide,
              `{"id":${partition},"name":"a","price":"1","more":"x"}`,
              recordOf({ partition, id: partition, version: 2 }),
            ),
          ]),
        ),
      ),
    )
    for (const one of failures)
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ kind: 'unavailable' })
    expect((await typesOf()).more).toBe('text')
    expect((await rows()).size).toBe(4)
  })

  it('names that the server would cut, or cannot have, are refused: two tables never become one', async () => {
    const writer = await open()
    const long = 'n'.repeat(63)
    const named = (name: string, version: number): LogRecord => ({
      ...recordOf({ version }),
      table: { ...KIT_TABLE, name },
      topic: `kit.test.${name}`,
    })
    await write(writer, named(long, 1))
    await expect(writer.write(batchOf([named(`${long}A`, 2)]))).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('has 64 bytes, and PostgreSQL cuts names to 63'),
    })
    await expect(plan({ table: '${table}' }, { ...KIT_TABLE, name: `${long}B` })).rejects.toThrow('64 bytes')
    const columns: [string, string][] = [
      ['é'.repeat(32), 'has 64 bytes'],
      ['', 'is empty'],
      ['a\0b', 'holds NUL'],
      ['ctid', 'is one of the system'],
    ]
    for (const [name, why] of columns) {
      const table = withColumns([name, 'text'])
      const error = await writer
        .write(batchOf([shaped(table, '{"id":1}', recordOf({ version: 3 }))]))
        .catch(one => one as ConnectorError)
      expect(error).toMatchObject({ kind: 'config', message: expect.stringContaining(why) })
    }
    const many = withColumns(
      ...Array.from({ length: 1_598 }, (_, i) => [`c${i}`, 'int4'] as [string, string]),
    )
    await expect(plan({}, many)).rejects.toThrow('at most 1600')
  })

  it('what a person added to a table of ours is kept: generated, with a default, never null', async () => {
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
    await server.sql(`ALTER TABLE kept.kit ADD COLUMN upper text GENERATED ALWAYS AS (upper(name)) STORED,
      ADD COLUMN seen int NOT NULL DEFAULT 7, ADD COLUMN notes text DEFAULT 'mine', ADD COLUMN number int8 GENERATED ALWAYS AS IDENTITY`)
    const next = await open({}, { epoch: 2 })
    await write(next, recordOf({ id: 1, name: 'b', version: 2 }), recordOf({ id: 2, name: 'c', version: 3 }))
    expect(await server.sql('SELECT name, upper, seen, notes, number FROM kept.kit ORDER BY id')).toEqual([
      { name: 'b', upper: 'B', seen: 7, notes: 'mine', number: '1' },
      { name: 'c', upper: 'C', seen: 7, notes: 'mine', number: expect.any(String) },
    ])
  })

  it('a view on a column that has to change is told, with the statement to run', async () => {
    await write(await open(), recordOf({ id: 1, version: 1 }))
    await server.sql('CREATE VIEW kept.seen AS SELECT price FROM kept.kit')
    const writer = await open({}, { epoch: 2 })
    const text = withColumns(['name', 'text'], ['price', 'text'])
    const record = shaped(text, '{"id":1,"name":"a","price":"much"}', recordOf({ id: 1, version: 2 }))
    await expect(writer.write(batchOf([record]))).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('used by a view'),
      hint: expect.stringContaining('ALTER TABLE "kept"."kit" ALTER COLUMN "price" TYPE text'),
    })
    await server.sql('DROP VIEW kept.seen')
    await write(writer, record)
  })

  it('a trigger that refuses a row makes it a dead letter, and the others are written', async () => {
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
    await server.sql(`CREATE FUNCTION kept.refuse() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.name = 'bad' THEN RAISE EXCEPTION 'no bad names'; END IF; RETURN NEW; END $$;
      CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON kept.kit FOR EACH ROW EXECUTE FUNCTION kept.refuse()`)
    const [good, bad] = [recordOf({ id: 2, version: 2 }), recordOf({ id: 3, name: 'bad', version: 3 })]
    const rejected = await writer.write(batchOf([good, bad]))
    expect(rejected.map(one => one.record)).toEqual([bad])
    expect(rejected[0]!.error).toMatchObject({ message: expect.stringContaining('no bad names') })
    expect(await writer.write(batchOf([good], 4))).toEqual([])
    expect([...(await rows()).keys()]).toEqual(['1', '2'])
  })

  it('a key that is generated, or of a type to which two keys are one, is refused', async () => {
    const ours = 'millrace_version int8, millrace_origin text'
    const two: Table = { ...withColumns(['b', 'int8'], ['c', 'int8']), key: ['id', 'b'] }
    await server.sql(`CREATE SCHEMA kept; CREATE EXTENSION IF NOT EXISTS citext;
      CREATE TABLE kept.kit (id int8, c int8, b int8 GENERATED ALWAYS AS (c) STORED, PRIMARY KEY (id, b), ${ours})`)
    const refused = await plan({}, two).catch(error => error as ConnectorError)
    expect(refused).toMatchObject({ kind: 'config', message: expect.stringContaining('and generated') })
    await server.sql((refused as ConnectorError).hint!)
    await plan({}, two)
    const text: Table = { ...KIT_TABLE, key: ['name'] }
    await server.sql(
      `DROP TABLE kept.kit; CREATE TABLE kept.kit (id int8, name char(9) PRIMARY KEY, price numeric, ${ours})`,
    )
    const padded = await plan({}, text).catch(error => error as ConnectorError)
    expect((padded as ConnectorError).message).toContain('of the type character')
    await server.sql((padded as ConnectorError).hint!)
    await plan({}, text)
    await server.sql(
      `DROP TABLE kept.kit; CREATE TABLE kept.kit (id int8, name public.citext PRIMARY KEY, price numeric, ${ours})`,
    )
    const of = (name: string, version: number): LogRecord => ({
      ...recordOf({ name, version }),
      table: text,
      key: JSON.stringify({ name }),
    })
    const writer = await open()
    await expect(writer.write(batchOf([of('a', 1), of('A', 2)]))).rejects.toMatchObject({
      kind: 'config',
      hint: expect.stringContaining('Two keys of the source are one'),
    })
  })

  it('plan says what is made and what changes; a table without a key or with our names is refused', async () => {
    expect(await plan()).toMatchObject([
      {
        name: 'kept.kit',
        tables: ['test.kit'],
        exists: false,
        definition: { key: ['id'], columns: { id: 'int8', price: 'numeric' } },
      },
    ])
    await write(await open(), recordOf({ id: 1, version: 1 }))
    const wide = withColumns(['name', 'text'], ['price', 'float8'], ['tags', 'text[]'])
    await expect(plan({}, wide)).rejects.toThrow('price is numeric, and the rows have float8')
    expect(await plan({}, withColumns(['tags', 'text[]']))).toMatchObject([
      { differences: ['tags text[] is added'] },
    ])
    await expect(plan({}, { ...KIT_TABLE, key: [] })).rejects.toThrow('has no key')
    expect(await plan({ mode: 'append', table: 'changes' }, { ...KIT_TABLE, key: [] })).toMatchObject([
      { name: 'kept.changes' },
    ])
    await expect(plan({}, withColumns(['millrace_op', 'text']))).rejects.toThrow('is a name of ours')
    expect(() => postgresSink.config.parse({ url: 'x', table: '${id}' })).toThrow('${id} is not filled here')
  })
})

describe('rights and faults', () => {
  beforeEach(anew)
  afterAll(closeAll)

  it('check and plan name the right that is missing and the statement that gives it', async () => {
    await server.sql(
      "DROP ROLE IF EXISTS writer; CREATE ROLE writer LOGIN PASSWORD 'secret'; CREATE SCHEMA kept",
    )
    const url = server.urlOf({ user: 'writer', password: 'secret' })
    const check = (schema: string) =>
      postgresSink.check(postgresSink.config.parse({ url, schema }) as never, testContext()).then(
        () => null,
        error => error as ConnectorError,
      )
    const missing = await check('elsewhere')
    expect(missing).toMatchObject({
      kind: 'auth',
      hint: expect.stringContaining('CREATE SCHEMA "elsewhere" AUTHORIZATION "writer"'),
    })
    const usage = await check('kept')
    expect(usage?.hint).toBe('GRANT USAGE, CREATE ON SCHEMA "kept" TO "writer";')
    await server.sql(usage!.hint!)
    expect(await check('kept')).toBeNull()
    await write(await open(), recordOf({ id: 1, version: 1 })) // as the superuser
    const moves = await check('kept')
    await server.sql(moves!.hint!)
    expect(await check('kept')).toBeNull()
    const planned = await postgresSink.plan!(
      postgresSink.config.parse({ url, schema: 'kept' }) as never,
      [{ table: KIT_TABLE, topic: 'kit.test.kit' }],
      testContext(),
    ).then(
      () => null,
      error => error as ConnectorError,
    )
    await server.sql(planned!.hint!)
    const writer = await openOn(url, {}, { task: 'test/sink/1' })
    await write(writer, recordOf({ id: 2, version: 2, partition: 1 }))
    await writer[Symbol.asyncDispose]()
    const wrong = server.urlOf({ user: 'writer', password: 'wr0ng' })
    const error = await openOn(wrong).then(
      () => null,
      one => one as ConnectorError,
    )
    expect(error?.kind).toBe('auth')
    expect(`${error?.message} ${error?.hint}`).not.toContain('wr0ng')
    await server.sql('DROP OWNED BY writer; DROP ROLE writer')
  })

  it('a server that became read only is waited for', async () => {
    await server.sql(
      "CREATE SCHEMA kept; DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN SUPERUSER PASSWORD 'r'; ALTER ROLE reader SET default_transaction_read_only = on",
    )
    const error = await openOn(server.urlOf({ user: 'reader', password: 'r' })).catch(
      one => one as ConnectorError,
    )
    expect(error).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('name the primary') })
    await server.sql('DROP ROLE reader')
  })

  it('a table dropped or altered under it: unavailable, and whoever opens anew goes on', async () => {
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
    await server.sql('DROP TABLE kept.kit')
    await expect(writer.write(batchOf([recordOf({ id: 2, version: 2 })]))).rejects.toMatchObject({
      kind: 'unavailable',
    })
    const next = await open({}, { epoch: 2 })
    await write(next, recordOf({ id: 2, version: 2 }))
    expect([...(await rows()).keys()]).toEqual(['2'])
  })

  it('an owner frozen inside its transaction is ended by the server, and its late write changes nothing', async () => {
    const old = await open()
    await write(old, recordOf({ id: 1, version: 1 }))
    // What a frozen process leaves: its backend stands in a transaction that holds the position.
    const frozen = await server.client()
    await frozen.query(
      "SET idle_in_transaction_session_timeout = '2s'; BEGIN; UPDATE kept.millrace_progress SET position = position",
    )
    const young = await open({}, { epoch: 2 })
    await write(young, recordOf({ id: 2, version: 2 }))
    await expect(old.write(batchOf([recordOf({ id: 3, version: 3 })]))).rejects.toThrow(Fenced)
    expect([...(await rows()).keys()]).toEqual(['1', '2'])
  })

  it.skipIf(missingForSmallDisk() !== null)(
    `its disk full: unavailable, nothing of the batch is there, and it goes on with room${missingForSmallDisk() ?? ''}`,
    async () => {
      using disk = mountSmallDisk(32, Number((findBinaries().runAs as { uid?: number }).uid ?? 0))
      await using one = await startPostgres()
      await one.sql(`CREATE TABLESPACE small LOCATION '${disk.path}'`)
      await one.sql('ALTER ROLE CURRENT_USER SET default_tablespace = small')
      const large = (id: number) =>
        recordOf({
          op: 'c',
          id,
          version: id,
          row: JSON.stringify({ id, name: randomBytes(60_000).toString('hex') }),
        })
      const first = await openOn(one.url)
      await write(first, large(1))
      disk.fill()
      const batch = batchOf([2, 3, 4, 5].map(large))
      const failure = await first.write(batch).catch(error => error as ConnectorError)
      expect(failure).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('Make room') })
      await first[Symbol.asyncDispose]()
      expect(await one.sql('SELECT id::int FROM kept.kit ORDER BY id')).toEqual([{ id: 1 }])
      disk.makeRoom()
      await using second = await openOn(one.url, {}, { epoch: 2 })
      expect(await second.position!()).toMatchObject({ next: { 'kit.test.kit': 2 } })
      expect(await second.write(batch)).toEqual([])
      expect(await one.sql('SELECT count(*)::int AS n FROM kept.kit')).toEqual([{ n: 5 }])
    },
  )

  it('killed under it, three times: whoever opens anew finds position and rows of the same moment', async () => {
    await using one = await startPostgres({ settings: { fsync: 'on' } })
    let epoch = 1
    let done = 0
    for (let round = 0; round < 3; round++) {
      let writer = await openOn(one.url, {}, { epoch: epoch++ })
      const killing = new Promise(resolve => setTimeout(resolve, 150 + 130 * round)).then(() => one.kill9())
      const failure = await (async () => {
        for (;;) {
          const records = Array.from({ length: 300 }, (_, i) =>
            recordOf({ op: 'r', id: done * 300 + i, version: done * 300 + i + 1 }),
          )
          await writer.write(batchOf(records))
          done++
        }
      })().catch(error => error as ConnectorError)
      expect(failure).toBeInstanceOf(ConnectorError)
      expect(failure).toMatchObject({ kind: 'unavailable' })
      await killing
      await writer[Symbol.asyncDispose]()
      await one.start()
      writer = await openOn(one.url, {}, { epoch: epoch++ })
      const position = (await writer.position!()) as { next: Record<string, number> } | null
      const next = position?.next['kit.test.kit'] ?? 1
      const [is] = await one.sql("SELECT to_regclass('kept.kit') IS NOT NULL AS is")
      const [held] = is!.is ? await one.sql('SELECT count(*)::int AS n FROM kept.kit') : [{ n: 0 }]
      expect(held!.n, 'the position and the rows are of one transaction').toBe(next - 1)
      expect(next - 1).toBeGreaterThanOrEqual(done * 300)
      done = (next - 1) / 300
      await writer[Symbol.asyncDispose]()
    }
    expect(done).toBeGreaterThan(0)
  })
})
