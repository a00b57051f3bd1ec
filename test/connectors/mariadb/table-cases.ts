/** The MariaDB sink: tables that are made, taken as they are, refused, and that follow the shape of the rows. */
import { expect, it } from 'vitest'
import type { ConnectorError } from '../../../core/errors.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { batchOf, KIT_TABLE, recordOf, WIDER_TABLE } from '../../conform/kit-table.ts'
import { refusalOf } from '../../conform/refusal.ts'
import { shaped, withColumns } from '../sql/shapes.ts'
import { write } from '../writing.ts'
import type { Kept } from './kept.ts'
import { rows } from './reading.ts'

export function tableCases({ server, open, plan }: Kept): void {
  it('follows the shape: columns are added and widened, those that go stay and become null', async () => {
    const writer = await open()
    const old = withColumns(['n', 'int4'], ['t', 'int2'], ['gone', 'text'])
    const young = withColumns(['n', 'int8'], ['t', 'text'], ['added', 'jsonb'])
    await write(writer, shaped(old, { id: 1, n: 1, t: 2, gone: 'x' }, recordOf({ id: 1, version: 1 })))
    await write(
      writer,
      shaped(young, { id: 1, n: 5_000_000_000, t: 'a', added: [1] }, recordOf({ id: 1, version: 2 })),
      shaped(old, { id: 2, n: 3, t: 4, gone: 'z' }, recordOf({ id: 2, version: 3 })),
    )
    expect(await server().sql('SELECT id, n, t, gone, added FROM kit ORDER BY id')).toEqual([
      { id: '1', n: '5000000000', t: 'a', gone: null, added: '[1]' },
      { id: '2', n: '3', t: '4', gone: 'z', added: null },
    ])
    const foreign = withColumns(['n', 'date'])
    const error = await refusalOf(
      writer.write(batchOf([shaped(foreign, { id: 1 }, recordOf({ id: 1, version: 4 }))])),
    )
    expect(error).toMatchObject({ kind: 'config', hint: 'ALTER TABLE `kit` MODIFY COLUMN `n` date;' })
  })

  const OURS = 'millrace_version bigint, millrace_origin varchar(512)'
  it.each([
    ['no key', `CREATE TABLE kit (id bigint, name text, price text, ${OURS})`, /ADD PRIMARY KEY \(`id`\)/],
    [
      'no columns of ours',
      'CREATE TABLE kit (id bigint PRIMARY KEY, name text, price text)',
      /ADD COLUMN `millrace_version` bigint;/,
    ],
    [
      'numbers that are too small',
      `CREATE TABLE kit (id int PRIMARY KEY, name text, price text, ${OURS})`,
      /MODIFY COLUMN `id` bigint;/,
    ],
    [
      'a unique index',
      `CREATE TABLE kit (id bigint PRIMARY KEY, name varchar(99) UNIQUE, price text, ${OURS})`,
      /DROP INDEX `name`, ADD INDEX `name` \(`name`\);/,
    ],
    [
      'no transactions',
      `CREATE TABLE kit (id bigint PRIMARY KEY, name text, price text, ${OURS}) ENGINE = MyISAM`,
      /ENGINE = InnoDB;/,
    ],
    [
      'a foreign key',
      `CREATE TABLE other (name varchar(99) PRIMARY KEY); CREATE TABLE kit (id bigint PRIMARY KEY, name varchar(99), price text, ${OURS}, CONSTRAINT f FOREIGN KEY (name) REFERENCES other (name))`,
      /DROP FOREIGN KEY `f`;/,
    ],
  ])('plan refuses a table with %s, and its hint mends it', async (_, sql, hint) => {
    await server().sql(sql)
    const refused = await refusalOf(plan())
    expect(refused?.kind).toBe('config')
    expect(refused?.hint).toMatch(hint)
    await server().sql(refused!.hint!)
    expect(await plan()).toMatchObject([{ name: 'kit', exists: true }])
    await write(await open(), recordOf({ id: 1, version: 1 }), recordOf({ id: 1, name: 'b', version: 2 }))
    expect((await rows(server())).get('1')).toMatchObject({ version: 2, document: { name: 'b' } })
  })

  it('plan refuses a key that is compared by a collation; a table of the user has its own types and columns', async () => {
    const table: Table = { ...KIT_TABLE, key: ['name'] }
    await server().sql(
      `CREATE TABLE kit (id bigint, name varchar(50) PRIMARY KEY, price decimal(12,2), notes text DEFAULT 'mine', ${OURS})`,
    )
    const refused = await refusalOf(plan({}, table))
    expect(refused?.message).toContain('two keys of the source may be one')
    await server().sql(refused!.hint!)
    const writer = await open()
    const of = (name: string, version: number): LogRecord => ({
      ...recordOf({ name, version }),
      table,
      key: JSON.stringify({ name }),
    })
    await write(writer, of('a', 1), of('A', 2))
    expect(await server().sql('SELECT name, price, notes FROM kit ORDER BY millrace_version')).toEqual([
      { name: 'a', price: '1.50', notes: 'mine' },
      { name: 'A', price: '1.50', notes: 'mine' },
    ])
  })

  it('two tasks make and widen the same table at once', async () => {
    const writers = await Promise.all(
      [0, 1, 2, 3].map(partition => open({}, { task: `test/sink/${partition}` })),
    )
    await Promise.all(
      writers.map((writer, partition) =>
        writer.write(batchOf([recordOf({ id: partition, partition, version: 1 })])),
      ),
    )
    const row = (id: number) => ({ id, name: 'a', price: '1', more: 'x' })
    await Promise.all(
      writers.map((writer, partition) =>
        writer.write(
          batchOf([shaped(WIDER_TABLE, row(partition), recordOf({ id: partition, partition, version: 2 }))]),
        ),
      ),
    )
    expect((await server().sql("SELECT id FROM kit WHERE more = 'x'")).length).toBe(4)
  })

  it('a key to which trailing spaces are nothing, or that is generated, is refused', async () => {
    const table: Table = { ...KIT_TABLE, key: ['name'] }
    for (const type of ['varchar(50) COLLATE utf8mb4_bin', 'char(50) COLLATE utf8mb4_nopad_bin']) {
      await server().sql(
        `DROP TABLE IF EXISTS kit; CREATE TABLE kit (id bigint, name ${type} PRIMARY KEY, price text, ${OURS})`,
      )
      const refused = (await plan({}, table).catch(error => error)) as ConnectorError
      expect(refused).toMatchObject({
        kind: 'config',
        message: expect.stringContaining('two keys of the source may be one'),
      })
      await server().sql(refused.hint!)
      await plan({}, table)
    }
    await server().sql(
      `CREATE OR REPLACE TABLE kit (id bigint, price bigint, name bigint AS (price) STORED, UNIQUE (id, name), ${OURS})`,
    )
    const two: Table = { ...withColumns(['name', 'int8'], ['price', 'int8']), key: ['id', 'name'] }
    await expect(plan({}, two)).rejects.toThrow('name is of the key, and generated')
  })

  it('names that the server cannot have, or that differ by case, are refused; columns are found whatever their case', async () => {
    const refusal = (table: Table) => plan({}, table).catch(error => (error as ConnectorError).message)
    for (const [name, why] of [
      ['c'.repeat(65), 'has 65 characters'],
      ['', 'is empty'],
      ['end ', 'ends with a space'],
      ['😀', 'four bytes'],
      ['ID', 'would be one, whatever their case'],
    ] as const)
      expect(await refusal(withColumns([name, 'text']))).toContain(why)
    for (const name of ['t'.repeat(65), '😀'])
      expect(await refusal({ ...KIT_TABLE, name })).toContain(`the table "${name}"`)
    const many = Array.from({ length: 1_015 }, (_, i) => [`c${i}`, 'int4'] as [string, string])
    expect(await refusal(withColumns(...many))).toContain('at most 1017')
    await server().sql(`CREATE TABLE kit (ID bigint PRIMARY KEY, NAME text, Price text, ${OURS})`)
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }), recordOf({ id: 2, version: 2 }))
    await write(writer, recordOf({ id: 1, name: 'b', version: 3 }), recordOf({ op: 'd', id: 2, version: 4 }))
    expect(await server().sql('SELECT NAME FROM kit')).toEqual([{ NAME: 'b' }])
  })

  it('what a person added to a table of ours is kept: generated, with a default, never null', async () => {
    await write(await open(), recordOf({ id: 1, version: 1 }))
    await server().sql(
      "ALTER TABLE kit ADD COLUMN high varchar(50) AS (upper(name)) STORED, ADD COLUMN seen int NOT NULL DEFAULT 7, ADD COLUMN notes varchar(9) DEFAULT 'mine'",
    )
    await write(await open({}, { epoch: 2 }), recordOf({ id: 1, name: 'b', version: 2 }))
    expect(await server().sql('SELECT name, high, seen, notes FROM kit')).toEqual([
      { name: 'b', high: 'B', seen: 7, notes: 'mine' },
    ])
  })

  it('a row that a trigger, a partition or the size of a page refuses is a dead letter, and the others are written', async () => {
    await server().sql(
      `CREATE TABLE kit (id bigint PRIMARY KEY, name text, price text, ${OURS}) PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (10));
       CREATE TRIGGER refuse BEFORE INSERT ON kit FOR EACH ROW IF NEW.name = 'bad' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no bad names'; END IF`,
    )
    const writer = await open()
    const records = [
      recordOf({ id: 1, version: 1 }),
      recordOf({ id: 2, name: 'bad', version: 2 }),
      recordOf({ id: 30, version: 3 }),
    ]
    const rejected = await writer.write(batchOf(records))
    expect(rejected.map(one => one.record)).toEqual(records.slice(1))
    expect(await writer.write(batchOf([records[0]!], 4))).toEqual([])
    const names = Array.from({ length: 240 }, (_, i) => `c${i}`)
    const wide = withColumns(...names.map(name => [name, 'text'] as [string, string]))
    const of = (id: number, version: number, length: number) =>
      shaped(
        { ...wide, name: 'wide' },
        { id, ...Object.fromEntries(names.map(name => [name, 'x'.repeat(length)])) },
        recordOf({ id, version }),
      )
    const [fits, tooWide] = [of(1, 5, 10), of(2, 6, 40)]
    expect((await writer.write(batchOf([fits, tooWide]))).map(one => one.record)).toEqual([tooWide])
    expect(await writer.write(batchOf([fits], 7))).toEqual([])
  })
}
