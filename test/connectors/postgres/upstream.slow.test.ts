import { afterAll, beforeAll, expect, it } from 'vitest'
import { connect } from '../../../connectors/postgres/connect.ts'
import { createSlot } from '../../../connectors/postgres/upstream.ts'
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
  const made = createSlot(maker, 'waits').catch(() => 'lost')
  await expect.poll(slots, { timeout: 5_000 }).toHaveLength(1)
  const { connection } = maker as unknown as { connection: { stream: { destroy(): void } } }
  connection.stream.destroy() // as kill -9 does
  expect(await made).toBe('lost')
  await expect.poll(slots, { timeout: 2_000 }).toEqual([])
  await other.query('ROLLBACK')
})
