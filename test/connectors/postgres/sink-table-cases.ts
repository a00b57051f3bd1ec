/** The PostgreSQL sink: tables that are made, taken as they are, refused, and that follow the shape of the rows. */
import { expect, it } from 'vitest'
import { postgresSink } from '../../../connectors/postgres/sink.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { batchOf, KIT_TABLE, recordOf, WIDER_TABLE } from '../../conform/kit-table.ts'
import { refusalOf } from '../../conform/refusal.ts'
import { shaped, withColumns } from '../sql/shapes.ts'
import { write } from '../writing.ts'
import type { Kept } from './kept.ts'

export function tableCases({ server, open, rows, typesOf, plan }: Kept): void {
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
      await server().sql('SELECT id, n, f, t, gone, added::text, ns::text FROM kept.kit ORDER BY id'),
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
    const refused = await refusalOf(
      writer.write(batchOf([shaped(foreign, '{"id":1,"n":true}', recordOf({ id: 1, version: 5 }))])),
    )
    expect(refused).toMatchObject({
      kind: 'config',
      hint: 'ALTER TABLE "kept"."kit" ALTER COLUMN "n" TYPE bool USING "n"::bool;',
    })
  })

  it('a table that was there is taken as it is: its types, defaults, generated columns, further columns', async () => {
    await server().sql(`CREATE SCHEMA kept; CREATE TYPE kept.mood AS ENUM ('sad', 'happy');
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
    expect(
      await server().sql('SELECT id, name, price, mood, notes, twice FROM kept.kit ORDER BY id'),
    ).toEqual([
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
    await server().sql(`CREATE SCHEMA kept; ${sql}`)
    const refused = await refusalOf(plan())
    expect(refused?.kind).toBe('config')
    expect(refused?.hint).toMatch(hint)
    await server().sql(refused!.hint!.replace(/ With more.*/, ''))
    expect(await plan()).toMatchObject([{ exists: true }])
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
  })

  it('a deferred unique constraint holds over a swap inside a batch', async () => {
    await server().sql(`CREATE SCHEMA kept; CREATE TABLE kept.kit (id int8 PRIMARY KEY, name text, price numeric,
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
    const error = await refusalOf(writer.write(batchOf([recordOf({ id: 4, name: 'a', version: 7 })])))
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
    const failures = await Promise.allSettled(
      writers.map((writer, partition) =>
        writer.write(
          batchOf([
            shaped(
              WIDER_TABLE,
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
    await server().sql(`ALTER TABLE kept.kit ADD COLUMN upper text GENERATED ALWAYS AS (upper(name)) STORED,
      ADD COLUMN seen int NOT NULL DEFAULT 7, ADD COLUMN notes text DEFAULT 'mine', ADD COLUMN number int8 GENERATED ALWAYS AS IDENTITY`)
    const next = await open({}, { epoch: 2 })
    await write(next, recordOf({ id: 1, name: 'b', version: 2 }), recordOf({ id: 2, name: 'c', version: 3 }))
    expect(await server().sql('SELECT name, upper, seen, notes, number FROM kept.kit ORDER BY id')).toEqual([
      { name: 'b', upper: 'B', seen: 7, notes: 'mine', number: '1' },
      { name: 'c', upper: 'C', seen: 7, notes: 'mine', number: expect.any(String) },
    ])
  })

  it('a view on a column that has to change is told, with the statement to run', async () => {
    await write(await open(), recordOf({ id: 1, version: 1 }))
    await server().sql('CREATE VIEW kept.seen AS SELECT price FROM kept.kit')
    const writer = await open({}, { epoch: 2 })
    const text = withColumns(['name', 'text'], ['price', 'text'])
    const record = shaped(text, '{"id":1,"name":"a","price":"much"}', recordOf({ id: 1, version: 2 }))
    await expect(writer.write(batchOf([record]))).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('used by a view'),
      hint: expect.stringContaining('ALTER TABLE "kept"."kit" ALTER COLUMN "price" TYPE text'),
    })
    await server().sql('DROP VIEW kept.seen')
    await write(writer, record)
  })

  it('a trigger that refuses a row makes it a dead letter, and the others are written', async () => {
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
    await server().sql(`CREATE FUNCTION kept.refuse() RETURNS trigger LANGUAGE plpgsql AS
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
    await server().sql(`CREATE SCHEMA kept; CREATE EXTENSION IF NOT EXISTS citext;
      CREATE TABLE kept.kit (id int8, c int8, b int8 GENERATED ALWAYS AS (c) STORED, PRIMARY KEY (id, b), ${ours})`)
    const refused = await plan({}, two).catch(error => error as ConnectorError)
    expect(refused).toMatchObject({ kind: 'config', message: expect.stringContaining('and generated') })
    await server().sql((refused as ConnectorError).hint!)
    await plan({}, two)
    const text: Table = { ...KIT_TABLE, key: ['name'] }
    await server().sql(
      `DROP TABLE kept.kit; CREATE TABLE kept.kit (id int8, name char(9) PRIMARY KEY, price numeric, ${ours})`,
    )
    const padded = await plan({}, text).catch(error => error as ConnectorError)
    expect((padded as ConnectorError).message).toContain('of the type character')
    await server().sql((padded as ConnectorError).hint!)
    await plan({}, text)
    await server().sql(
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
}
