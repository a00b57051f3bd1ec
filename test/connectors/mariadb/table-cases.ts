/** The MariaDB sink: tables that are made, taken as they are, refused, and that follow the shape of the rows. */
import { expect, it } from 'vitest'
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
}
