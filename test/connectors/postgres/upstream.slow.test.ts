import { afterAll, beforeAll, expect, it } from 'vitest'
import { connect } from '../../../connectors/postgres/connect.ts'
import { createSlot, tellingWaits } from '../../../connectors/postgres/slot.ts'
import { testContext } from '../../conform/context.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'

let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres()
})
afterAll(() => server[Symbol.asyncDispose]())

it('a slot that waits for a transaction goes with its maker: the next start finds nobody reading it (H10)', async () => {
  const other = await server.client()
  await other.query('BEGIN; CREATE TABLE held (id int)') // its end is what the slot waits for
  const slots = () => server.sql("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'waits'")
  const maker = await connect({ url: server.url })
  const made = createSlot(maker, 'waits', testContext()).catch(() => 'lost')
  await expect.poll(slots, { timeout: 5_000 }).toHaveLength(1)
  const { connection } = maker as unknown as { connection: { stream: { destroy(): void } } }
  connection.stream.destroy() // as kill -9 does
  expect(await made).toBe('lost')
  await expect.poll(slots, { timeout: 2_000 }).toEqual([])
  await other.query('ROLLBACK')
})

/** How the server comes to keep a wrong view of its catalog: see slot.ts. */
it('a slot made while a table is rewritten can be read, from its first change on (H1)', async () => {
  await server.sql(
    'CREATE TABLE rewritten (id int PRIMARY KEY, v int); CREATE TABLE beside (id int); CREATE PUBLICATION rewritten FOR TABLE rewritten',
  )
  const [first, rewriter, writer] = [await server.client(), await server.client(), await server.client()]
  const waiting = (pid: number) => server.sql('SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted', [pid])
  const pidOf = async (client: typeof first) =>
    (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid
  await first.query('BEGIN; INSERT INTO beside VALUES (1)')
  const maker = await connect({ url: server.url })
  const pid = await pidOf(maker as unknown as typeof first)
  const made = createSlot(maker, 'rewritten', testContext())
  await expect.poll(() => waiting(pid), { timeout: 5_000 }).toHaveLength(1) // the first stage waits for `first`
  await rewriter.query('BEGIN; ALTER TABLE rewritten ALTER v TYPE bigint')
  await first.query('COMMIT')
  const rewriterPid = await pidOf(rewriter)
  const isHeldBy = () => server.sql('SELECT 1 WHERE $1 = ANY (pg_blocking_pids($2))', [rewriterPid, pid])
  await expect.poll(isHeldBy, { timeout: 5_000 }).toHaveLength(1) // the second stage waits for `rewriter`
  await writer.query('BEGIN; INSERT INTO beside VALUES (2)')
  await rewriter.query('COMMIT')
  await writer.query('INSERT INTO rewritten VALUES (1, 1)')
  await new Promise(resolve => setTimeout(resolve, 100)) // `made` waits for the writer: its change would be read with the wrong view
  await writer.query('COMMIT')
  const { lsn } = await made
  await server.sql('INSERT INTO rewritten VALUES (2, 5000000000)')
  const changes = await server.sql<{ lsn: string }>(
    "SELECT lsn FROM pg_logical_slot_get_binary_changes('rewritten', NULL, NULL, 'proto_version', '1', 'publication_names', 'rewritten')",
  )
  expect(changes).toHaveLength(4) // begin, relation, insert, commit
  const [after] = await server.sql('SELECT $1::pg_lsn < pg_current_wal_lsn() AS here', [lsn])
  expect(after, 'the position is one of this log').toEqual({ here: true })
  expect(await server.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE '%_passing'")).toEqual([])
  await maker.end()
})

it('says which transaction the making of a slot waits for', async () => {
  const holder = await server.client()
  await holder.query("SET application_name = 'forgetful'; BEGIN; CREATE TABLE forgotten (id int)")
  const said: string[] = []
  const log = { debug() {}, info() {}, error() {}, warn: (_: object, text: string) => void said.push(text) }
  const maker = await connect({ url: server.url })
  const context = testContext({ log })
  const made = tellingWaits(() => connect({ url: server.url }), context, createSlot(maker, 'told', context))
  await expect.poll(() => said, { timeout: 20_000 }).toHaveLength(1)
  expect(said[0]).toMatch(
    /test waits for .* process \d+ \(postgres, forgetful\), open for \d+ s\. .*pg_terminate_backend/,
  )
  await holder.query('ROLLBACK')
  await made
  await maker.end()
})
