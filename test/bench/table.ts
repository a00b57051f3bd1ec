/** The table that benches read: rows of about two hundred bytes, and the server that has it. */
import type { PostgresServer } from '../servers/postgres.ts'

/** As a server that keeps what it was told. */
export const SETTINGS = { fsync: 'on', shared_buffers: '512MB', max_wal_size: '8GB' }

/** The columns of row `i`, an SQL expression, for VALUES or SELECT. */
export const row = (i: string): string =>
  `${i}, 'product number ' || ${i}, (${i} % 100000) / 100.0, ${i} % 3 = 0, clock_timestamp(), 'a note that makes the row about two hundred bytes long, ' || md5((${i})::text) || md5((${i} + 1)::text), (${i} % 500)::int, ${i} * 0.5`

/** bench.t, made anew, with so many rows, nothing of it left to be written. */
export async function makeTable(database: PostgresServer, rows: number): Promise<void> {
  await database.sql('DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench')
  await database.sql(
    'CREATE TABLE bench.t (id bigint PRIMARY KEY, name text, price numeric(10,2), active boolean, at timestamptz, note text, stock int, weight float8)',
  )
  if (rows > 0)
    await database.sql(`INSERT INTO bench.t SELECT ${row('i')} FROM generate_series(1, ${rows}) i`)
  await database.sql('VACUUM ANALYZE bench.t')
  await database.sql('CHECKPOINT')
}
