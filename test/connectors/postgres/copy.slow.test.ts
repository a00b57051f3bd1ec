/** COPY on a real server: the connection is the driver's again whatever happened. Values are values.slow.test.ts' business. */
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeTables, matchTables, planOf, relationNames } from '../../../connectors/postgres/catalog.ts'
import { connect } from '../../../connectors/postgres/connect.ts'
import { copyRows, selectOf } from '../../../connectors/postgres/copy.ts'
import type { RowPlan } from '../../../connectors/postgres/encode.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'

let server: PostgresServer
let client: pg.Client
let plan: RowPlan
const COUNT = 30_000

beforeAll(async () => {
  server = await startPostgres()
  await server.sql(`CREATE TABLE rows (id int PRIMARY KEY, note text);
    INSERT INTO rows SELECT i, 'note ' || i || repeat('x', 200) FROM generate_series(1, ${COUNT}) i`)
  client = await connect(server)
  const { tables } = matchTables(await relationNames(client), ['public.rows'])
  const [table] = await describeTables(
    client,
    tables.map(({ oid }) => oid),
  )
  plan = planOf(table!, {})
})
afterAll(async () => {
  await client.end()
  await server[Symbol.asyncDispose]()
})

const sql = (where = 'true') => `SELECT ${selectOf(plan)} FROM public.rows WHERE ${where} ORDER BY id`
const isUsable = async (one = client) => expect((await one.query('SELECT 1 AS x')).rows).toEqual([{ x: 1 }])

describe('copyRows', () => {
  it('gives rows and keys, and queries queued behind it run', async () => {
    const copying = copyRows(client, sql('id <= 1000'), plan)
    const behind = client.query('SELECT 7 AS x')
    const { rows, keys, count, tooBig, bytes } = await copying
    expect({ count, tooBig, first: keys[0], last: keys[999] }).toEqual({
      count: 1000,
      tooBig: false,
      first: '{"id":1}',
      last: '{"id":1000}',
    })
    expect(JSON.parse(rows[999]!)).toMatchObject({ id: 1000 })
    expect(bytes).toBeGreaterThan(200_000)
    expect((await behind).rows).toEqual([{ x: 7 }])
    expect((await copyRows(client, sql('false'), plan)).rows).toEqual([])
    await isUsable()
  })

  it('an error of the server rejects, in a transaction and out of it', async () => {
    await expect(copyRows(client, 'SELECT nothing FROM public.rows', plan)).rejects.toMatchObject({
      kind: 'bug',
      message: expect.stringContaining('"nothing" does not exist'),
    })
    await isUsable()
    await client.query('BEGIN')
    await expect(copyRows(client, 'SELECT 1/0 AS id, 1', plan)).rejects.toThrow(/division by zero/)
    await expect(client.query('SELECT 1')).rejects.toThrow(/aborted/)
    await client.query('ROLLBACK')
    await isUsable()
  })

  it('more than the limits is cancelled: nothing is kept, the connection serves on', async () => {
    for (const limits of [{ maxBytes: 1_000_000 }, { maxRows: 10_000 }]) {
      const copied = await copyRows(client, sql(), plan, limits)
      expect(copied).toMatchObject({ tooBig: true, rows: [], keys: [] })
      expect(copied.count).toBeLessThan(COUNT)
      await isUsable()
    }
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    expect(
      await copyRows(client, `SELECT generate_series(1, 100000000), repeat('x', 1000)`, plan, {
        maxBytes: 1_000_000,
      }),
    ).toMatchObject({ tooBig: true })
    await client.query('ROLLBACK')
    await isUsable()
    // At the limit: whether it was the last row or not, the connection must come back.
    for (const maxRows of [COUNT - 1, COUNT]) {
      expect((await copyRows(client, sql(), plan, { maxRows })).tooBig).toBe(maxRows < COUNT)
      await isUsable()
    }
  })

  it('a cancel that comes too late does not hit the next statement', async () => {
    for (let round = 0; round < 60; round++) {
      expect((await copyRows(client, sql('id <= 3'), plan, { maxRows: 2 })).tooBig).toBe(true)
      await client.query('SELECT pg_sleep(0.005)')
    }
  })

  it('one row may be larger than the limit', async () => {
    const copied = await copyRows(client, `SELECT 1, repeat(E'€"\\n', 4000000)`, plan, { maxBytes: 16 << 20 })
    expect(copied).toMatchObject({ tooBig: false, count: 1 })
    expect(JSON.parse(copied.rows[0]!).note).toBe('€"\n'.repeat(4_000_000))
    await isUsable()
  })

  it('an abort cancels the statement', async () => {
    const stop = new AbortController()
    const copying = copyRows(client, 'SELECT 1, pg_sleep(60)::text', plan, { signal: stop.signal })
    setTimeout(() => stop.abort(), 50)
    await expect(copying).rejects.toMatchObject({ kind: 'unavailable' })
    await isUsable()
    await expect(copyRows(client, sql(), plan, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      kind: 'unavailable',
    })
    await isUsable()
  })

  it('hands over in batches while the socket waits; what the caller throws comes back', async () => {
    let busy = 0
    let rows = 0
    const sizes: number[] = []
    const copied = await copyRows(client, sql(), plan, {
      batchRows: 700,
      async onRows(batch) {
        expect(++busy).toBe(1)
        await new Promise(done => setTimeout(done, 1))
        expect(JSON.parse(batch.rows[0]!).id).toBe(rows + 1)
        expect(batch.keys[0]).toBe(`{"id":${rows + 1}}`)
        rows += batch.rows.length
        sizes.push(batch.rows.length)
        busy--
      },
    })
    expect(rows).toBe(COUNT)
    expect(copied).toMatchObject({ count: COUNT, rows: [], tooBig: false })
    expect(Math.max(...sizes)).toBe(700)
    await isUsable()
    for (const at of [1, 43]) {
      let batches = 0
      const broken = copyRows(client, sql(), plan, {
        batchRows: 700,
        onRows() {
          if (++batches === at) throw new Error('the sink is full')
        },
      })
      await expect(broken).rejects.toThrow(/the sink is full/)
      await isUsable()
    }
  })

  it('a plan of another shape is our mistake, and costs the statement only', async () => {
    await expect(copyRows(client, 'SELECT 1, 2, 3', plan)).rejects.toMatchObject({ kind: 'bug' })
    await isUsable()
    await expect(copyRows(client, 'SELECT id FROM public.rows', plan)).rejects.toMatchObject({ kind: 'bug' })
    await isUsable()
  })

  it('a lost connection is `unavailable`: ended by an administrator, cut, and crashed', async () => {
    const slow = `SELECT i, repeat('x', 1000) || CASE WHEN i % 1000 = 0 THEN pg_sleep(0.05)::text ELSE '' END FROM generate_series(1, 1000000) i`
    const one = await connect(server)
    const copying = copyRows(one, slow, plan)
    setTimeout(
      () =>
        void server.sql(
          `SELECT pg_terminate_backend(${(one as unknown as { processID: number }).processID})`,
        ),
      100,
    )
    await expect(copying).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('57P01'),
    })
    await one.end()
    const other = await connect(server)
    const cut = copyRows(other, slow, plan)
    setTimeout(
      () => (other as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy(),
      100,
    )
    await expect(cut).rejects.toMatchObject({ kind: 'unavailable' })
    await other.end()
  })
})
