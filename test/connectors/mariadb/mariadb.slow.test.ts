/** The MariaDB sink on a real server: the kit, types, tables made, taken and evolved, large batches, rights, faults. */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { mariadb } from '../../../connectors/mariadb/sink.ts'
import type { Context, Sink, Writer } from '../../../core/connector.ts'
import { type ConnectorError, Fenced } from '../../../core/errors.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { cutConformance } from '../../conform/cuts.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, KIT_TABLE, keyedSinkConformance, recordOf } from '../../conform/sink.ts'
import { makeAuthority } from '../../servers/certificates.ts'
import { type MariadbServer, missingForMariadb, startMariadb } from '../../servers/mariadb.ts'
import { anew, kitOn, openOn, rows } from './reading.ts'

definitionConformance(mariadb as never)
const sink = mariadb as unknown as Sink

const missing = missingForMariadb()
describe.skipIf(missing !== null)(missing ?? 'mariadb', () => {
  let server: MariadbServer
  beforeAll(async () => {
    server = await startMariadb()
  })
  afterAll(() => server?.[Symbol.asyncDispose]())
  keyedSinkConformance(kitOn(sink, () => server))

  cutConformance({
    name: 'mariadb',
    port: () => Number(new URL(server.url).port),
    async target(port) {
      await anew(server)
      const url = Object.assign(new URL(server.url), { port: String(port) }).href
      return {
        open: context => openOn(sink, url, {}, context),
        rows: () => rows(server),
        async [Symbol.asyncDispose]() {},
      }
    },
  })

  const opened: Writer[] = []
  const open = async (over: object = {}, context: Partial<Context> = {}): Promise<Writer> => {
    const writer = await openOn(sink, server.url, over, testContext(context))
    opened.push(writer)
    return writer
  }
  const closeAll = async () => {
    for (const writer of opened.splice(0)) await writer[Symbol.asyncDispose]()
  }
  beforeEach(async () => {
    await closeAll()
    await anew(server)
  })
  afterAll(closeAll)
  const write = async (writer: Writer, ...records: LogRecord[]) =>
    expect(await writer.write(batchOf(records))).toEqual([])
  const withColumns = (...columns: [name: string, type: string][]): Table => ({
    ...KIT_TABLE,
    columns: [{ name: 'id', type: 'int8' }, ...columns.map(([name, type]) => ({ name, type }))],
  })
  const shaped = (table: Table, row: object, record: LogRecord): LogRecord => ({
    ...record,
    table,
    after: JSON.stringify(row),
  })
  const plan = (over: object = {}, table: Table = KIT_TABLE) =>
    sink.plan!(
      sink.config.parse({ url: server.url, ...over }) as never,
      [{ table, topic: 'kit.test.kit' }],
      testContext(),
    )

  it('every type comes back as it was', async () => {
    const table = withColumns(
      ['b', 'bool'],
      ['i', 'int4'],
      ['f', 'float8'],
      ['n', 'numeric'],
      ['t', 'text'],
      ['d', 'date'],
      ['at', 'timestamptz'],
      ['local', 'timestamp'],
      ['o', 'time'],
      ['j', 'jsonb'],
      ['x', 'bytea'],
      ['tags', 'text[]'],
      ['u', 'uuid'],
    )
    const row = {
      id: 1,
      b: true,
      i: -5,
      f: 1.5e300,
      n: '12345678901234567890.123456789',
      t: `it's "so" \\ \u20ac 😀\n`,
      d: '2024-02-29',
      at: '2024-02-29T11:14:15.123456Z',
      local: '2024-02-29T11:14:15.5',
      o: '13:14:15.123456',
      x: '3q2+7wA=',
      tags: ['a', `b'"\\`, null],
      u: '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
    }
    const record = shaped(table, row, recordOf({ id: 1, version: 1 }))
    const writer = await open()
    await write(writer, {
      ...record,
      after: record.after!.replace('"x":', '"j":{"a":1.50,"b":"\\\\\\"\'"},"x":'),
    })
    const [found] = await server.sql(
      'SELECT b, i, f, n, t, d, at, local, o, j, hex(x) AS x, tags, u FROM kit',
    )
    expect(found).toEqual({
      b: 1,
      i: -5,
      f: 1.5e300,
      n: row.n,
      t: row.t,
      d: '2024-02-29',
      at: '2024-02-29 11:14:15.123456',
      local: '2024-02-29 11:14:15.500000',
      o: '13:14:15.123456',
      j: '{"a":1.50,"b":"\\\\\\"\'"}',
      x: 'DEADBEEF00',
      tags: JSON.stringify(row.tags),
      u: row.u,
    })
    await write(writer, shaped(table, { id: 1 }, recordOf({ id: 1, version: 2 })))
    expect((await server.sql('SELECT b, t, j FROM kit'))[0]).toEqual({ b: null, t: null, j: null })
    // What a type of MariaDB cannot hold is told, and never cut.
    const rejected = await writer.write(
      batchOf([shaped(table, { id: 2, at: 'infinity' }, recordOf({ id: 2, version: 3 }))]),
    )
    expect(rejected[0]!.error).toMatchObject({ kind: 'data', message: expect.stringContaining('infinity') })
  })

  it('keys are told apart by their bytes: case and trailing spaces', async () => {
    const table: Table = {
      ...KIT_TABLE,
      key: ['k', 'id'],
      columns: [
        { name: 'k', type: 'text' },
        { name: 'id', type: 'int4' },
      ],
    }
    const of = (k: string, version: number, isGone = false): LogRecord => ({
      ...recordOf({ version, op: isGone ? 'd' : 'u' }),
      table,
      key: JSON.stringify({ k, id: 1 }),
      after: isGone ? null : JSON.stringify({ k, id: 1 }),
    })
    const writer = await open()
    await write(writer, ...['a', 'A', 'a ', 'ä', `'\\`].map((k, i) => of(k, i + 1)))
    await write(writer, of('A', 10, true), of(`'\\`, 11, true))
    expect(
      (await server.sql<{ k: string }>('SELECT k FROM kit ORDER BY millrace_version')).map(({ k }) => k),
    ).toEqual(['a', 'a ', 'ä'])
  })

  it('a batch larger than a packet goes in parts; a row larger than one says what to set', async () => {
    const writer = await open()
    const name = 'é"\\'.repeat(70_000)
    await write(writer, ...Array.from({ length: 100 }, (_, i) => recordOf({ id: i, name, version: i + 1 })))
    expect(
      (await server.sql<{ n: string }>('SELECT count(*) AS n FROM kit WHERE char_length(name) = 210000'))[0]!
        .n,
    ).toBe('100')
    await write(
      writer,
      ...Array.from({ length: 1_200 }, (_, i) => recordOf({ op: 'd', id: i, version: 1_000 + i })),
    )
    expect((await rows(server)).size).toBe(0)
    const error = await writer
      .write(batchOf([recordOf({ id: 1, name: 'x'.repeat(17 << 20), version: 5_000 })]))
      .then(
        () => null,
        one => one as ConnectorError,
      )
    expect(error).toMatchObject({
      kind: 'config',
      hint: expect.stringMatching(/^SET GLOBAL max_allowed_packet = \d+;/),
    })
    await write(writer, recordOf({ id: 1, version: 5_000 }))
  })

  it('append: each change once; what is known of a delete; a sweep is one of them', async () => {
    const writer = await open({ mode: 'append' })
    await write(
      writer,
      recordOf({ id: 1, version: 1 }),
      recordOf({ op: 'd', id: 2, version: 2 }),
      recordOf({ op: 'sweep', version: 3, below: 3 }),
    )
    const beside = { millrace_origin: 'kit.test.kit/0', millrace_committed_at: '2023-11-14 22:13:20.000' }
    expect(await server.sql('SELECT * FROM kit ORDER BY millrace_version')).toEqual([
      { id: '1', name: 'a', price: '1.50', millrace_op: 'u', millrace_version: '1', ...beside },
      { id: '2', name: null, price: null, millrace_op: 'd', millrace_version: '2', ...beside },
      { id: null, name: null, price: null, millrace_op: 'sweep', millrace_version: '3', ...beside },
    ])
  })

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
    expect(await server.sql('SELECT id, n, t, gone, added FROM kit ORDER BY id')).toEqual([
      { id: '1', n: '5000000000', t: 'a', gone: null, added: '[1]' },
      { id: '2', n: '3', t: '4', gone: 'z', added: null },
    ])
    const foreign = withColumns(['n', 'date'])
    const error = await writer
      .write(batchOf([shaped(foreign, { id: 1 }, recordOf({ id: 1, version: 4 }))]))
      .then(
        () => null,
        one => one as ConnectorError,
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
    await server.sql(sql)
    const refused = await plan().then(
      () => null,
      error => error as ConnectorError,
    )
    expect(refused?.kind).toBe('config')
    expect(refused?.hint).toMatch(hint)
    await server.sql(refused!.hint!)
    expect(await plan()).toMatchObject([{ name: 'kit', exists: true }])
    await write(await open(), recordOf({ id: 1, version: 1 }), recordOf({ id: 1, name: 'b', version: 2 }))
    expect((await rows(server)).get('1')).toMatchObject({ version: 2, document: { name: 'b' } })
  })

  it('plan refuses a key that is compared by a collation; a table of the user has its own types and columns', async () => {
    const table: Table = { ...KIT_TABLE, key: ['name'] }
    await server.sql(
      `CREATE TABLE kit (id bigint, name varchar(50) PRIMARY KEY, price decimal(12,2), notes text DEFAULT 'mine', ${OURS})`,
    )
    const refused = await plan({}, table).then(
      () => null,
      error => error as ConnectorError,
    )
    expect(refused?.message).toContain('two keys of the source may be one')
    await server.sql(refused!.hint!)
    const writer = await open()
    const of = (name: string, version: number): LogRecord => ({
      ...recordOf({ name, version }),
      table,
      key: JSON.stringify({ name }),
    })
    await write(writer, of('a', 1), of('A', 2))
    expect(await server.sql('SELECT name, price, notes FROM kit ORDER BY millrace_version')).toEqual([
      { name: 'a', price: '1.50', notes: 'mine' },
      { name: 'A', price: '1.50', notes: 'mine' },
    ])
  })

  it('a key to which trailing spaces are nothing, or that is generated, is refused', async () => {
    const table: Table = { ...KIT_TABLE, key: ['name'] }
    for (const type of ['varchar(50) COLLATE utf8mb4_bin', 'char(50) COLLATE utf8mb4_nopad_bin']) {
      await server.sql(
        `DROP TABLE IF EXISTS kit; CREATE TABLE kit (id bigint, name ${type} PRIMARY KEY, price text, ${OURS})`,
      )
      const refused = (await plan({}, table).catch(error => error)) as ConnectorError
      expect(refused).toMatchObject({
        kind: 'config',
        message: expect.stringContaining('two keys of the source may be one'),
      })
      await server.sql(refused.hint!)
      await plan({}, table)
    }
    await server.sql(
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
    await server.sql(`CREATE TABLE kit (ID bigint PRIMARY KEY, NAME text, Price text, ${OURS})`)
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }), recordOf({ id: 2, version: 2 }))
    await write(writer, recordOf({ id: 1, name: 'b', version: 3 }), recordOf({ op: 'd', id: 2, version: 4 }))
    expect(await server.sql('SELECT NAME FROM kit')).toEqual([{ NAME: 'b' }])
  })

  it('what a person added to a table of ours is kept: generated, with a default, never null', async () => {
    await write(await open(), recordOf({ id: 1, version: 1 }))
    await server.sql(
      "ALTER TABLE kit ADD COLUMN high varchar(50) AS (upper(name)) STORED, ADD COLUMN seen int NOT NULL DEFAULT 7, ADD COLUMN notes varchar(9) DEFAULT 'mine'",
    )
    await write(await open({}, { epoch: 2 }), recordOf({ id: 1, name: 'b', version: 2 }))
    expect(await server.sql('SELECT name, high, seen, notes FROM kit')).toEqual([
      { name: 'b', high: 'B', seen: 7, notes: 'mine' },
    ])
  })

  it('a row that a trigger, a partition or the size of a page refuses is a dead letter, and the others are written', async () => {
    await server.sql(
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

  it('check names the right that is missing; a wrong password is told without it', async () => {
    await server.sql(
      "CREATE OR REPLACE USER 'writer'@'%' IDENTIFIED BY 'w'; GRANT SELECT ON kept.* TO 'writer'@'%'",
    )
    const check = (password: string) =>
      sink
        .check(sink.config.parse({ url: server.urlOf({ user: 'writer', password }) }) as never, testContext())
        .then(
          () => null,
          error => error as ConnectorError,
        )
    const lacking = await check('w')
    expect(lacking).toMatchObject({
      kind: 'auth',
      message: expect.stringContaining('lacks INSERT, UPDATE, DELETE, CREATE, ALTER'),
    })
    await server.sql(lacking!.hint!)
    expect(await check('w')).toBeNull()
    const wrong = await check('wr0ng')
    expect(wrong?.kind).toBe('auth')
    expect(`${wrong?.message} ${wrong?.hint}`).not.toContain('wr0ng')
  })

  it('forget takes the position and leaves the rows', async () => {
    await write(await open(), recordOf({ id: 1, version: 1 }))
    await sink.forget!(sink.config.parse({ url: server.url }) as never, ['test/sink/0'], testContext())
    expect(await server.sql('SELECT * FROM millrace_progress')).toEqual([])
    expect((await rows(server)).size).toBe(1)
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
    const wide = { ...KIT_TABLE, columns: [...KIT_TABLE.columns, { name: 'more', type: 'text' }] }
    const row = (id: number) => ({ id, name: 'a', price: '1', more: 'x' })
    await Promise.all(
      writers.map((writer, partition) =>
        writer.write(
          batchOf([shaped(wide, row(partition), recordOf({ id: partition, partition, version: 2 }))]),
        ),
      ),
    )
    expect((await server.sql("SELECT id FROM kit WHERE more = 'x'")).length).toBe(4)
  })

  it('TLS: with its authority, for a user who must; without it each mistake is told', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-tls-'))
    try {
      const authority = makeAuthority(folder)
      const { cert, key } = authority.issue('mariadb')
      for (const path of [cert, key, folder]) chmodSync(path, 0o755)
      await using one = await startMariadb({
        settings: { 'ssl-ca': authority.ca, 'ssl-cert': cert, 'ssl-key': key },
      })
      await one.sql("CREATE USER 'safe'@'%' IDENTIFIED BY 'p' REQUIRE SSL; GRANT ALL ON kept.* TO 'safe'@'%'")
      const url = one.urlOf({ user: 'safe', password: 'p' })
      let epoch = 1
      const openWith = (over: object) => openOn(sink, url, over, testContext({ epoch: epoch++ }))
      await using writer = await openWith({ tls: { ca: authority.ca } })
      expect(await writer.write(batchOf([recordOf({ version: 1 })]))).toEqual([])
      expect((await rows(one)).size).toBe(1)
      await (await openWith({ tls: { verify: false } }))[Symbol.asyncDispose]()
      await expect(openWith({})).rejects.toMatchObject({ kind: 'auth' })
      await expect(openWith({ tls: {} })).rejects.toMatchObject({
        kind: 'auth',
        message: expect.stringContaining('certificate'),
      })
      await expect(openWith({ tls: { ca: join(folder, 'none.pem') } })).rejects.toMatchObject({
        kind: 'config',
      })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('its tables full: unavailable, with what to do; nothing of the batch is there, and what fits goes on', async () => {
    await using one = await startMariadb({
      settings: { 'innodb-file-per-table': '0', 'innodb-data-file-path': 'ibdata1:12M:autoextend:max:24M' },
    })
    const half = randomBytes(30_000).toString('hex')
    const large = (id: number) =>
      recordOf({ op: 'c', id, version: id, row: JSON.stringify({ id, name: `${id}${half}`, price: '1' }) })
    const batchFrom = (from: number, count: number) =>
      batchOf(Array.from({ length: count }, (_, i) => large(from + i)))
    const first = await openOn(sink, one.url, {}, testContext())
    expect(await first.write(batchFrom(1, 5))).toEqual([])
    const failure = await first.write(batchFrom(6, 400)).catch(error => error as ConnectorError)
    expect(failure).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('Make room') })
    await first[Symbol.asyncDispose]()
    expect((await rows(one)).size).toBe(5)
    await using second = await openOn(sink, one.url, {}, testContext({ epoch: 2 }))
    expect(await second.position!()).toMatchObject({ next: { 'kit.test.kit': 6 } })
    expect(await second.write(batchFrom(6, 5))).toEqual([])
    expect((await rows(one)).size).toBe(10)
  })

  it('killed under it, three times: whoever opens anew finds position and rows of the same moment', async () => {
    await using one = await startMariadb()
    let epoch = 1
    let done = 0
    for (let round = 0; round < 3; round++) {
      const writer = await openOn(sink, one.url, {}, testContext({ epoch: epoch++ }))
      const killing = new Promise(resolve => setTimeout(resolve, 200 + 150 * round)).then(() => one.kill9())
      const failure = await (async () => {
        for (;;) {
          await writer.write(
            batchOf(
              Array.from({ length: 300 }, (_, i) =>
                recordOf({ op: 'r', id: done * 300 + i, version: done * 300 + i + 1 }),
              ),
            ),
          )
          done++
        }
      })().catch(error => error as ConnectorError)
      expect(failure).toMatchObject({ kind: 'unavailable' })
      await killing
      await writer[Symbol.asyncDispose]()
      await one.start()
      await using next = await openOn(sink, one.url, {}, testContext({ epoch: epoch++ }))
      const position = (await next.position!()) as { next: Record<string, number> } | null
      const count = (position?.next['kit.test.kit'] ?? 1) - 1
      expect((await rows(one)).size, 'the position and the rows are of one transaction').toBe(count)
      expect(count).toBeGreaterThanOrEqual(done * 300)
      done = count / 300
    }
    expect(done).toBeGreaterThan(0)
  })

  it('a frozen server is waited for; the older of two owners is fenced', async () => {
    const old = await open()
    await write(old, recordOf({ id: 1, version: 1 }))
    server.freeze()
    const opening = open({}, { epoch: 2 })
    await new Promise(resolve => setTimeout(resolve, 300))
    server.thaw()
    await write(await opening, recordOf({ id: 2, version: 2 }))
    await expect(old.write(batchOf([recordOf({ id: 3, version: 3 })]))).rejects.toThrow(Fenced)
    expect([...(await rows(server)).keys()]).toEqual(['1', '2'])
  })
})
