/**
 * What a sink that takes nothing costs: the program runs with a standard output that nobody reads, and a database that is written
 * to all the while. Its memory must stay where it was, the log must take every change, and the slot must let go of them.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type PostgresServer, startPostgres } from '../servers/postgres.ts'

const MAIN = fileURLToPath(new URL('../../core/cli/main.js', import.meta.url))
const ROWS_A_TRANSACTION = 100
const TRANSACTIONS_A_SECOND = 20

const memoryOf = (pid: number): { now: number; peak: number } => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const of = (name: string) =>
    Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) / 1024)
  return { now: of('VmRSS'), peak: of('VmHWM') }
}

const heldBytes = async (server: PostgresServer): Promise<number> => {
  const [row] = await server.sql<{ held: string | null }>(
    'SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::int8 AS held FROM pg_replication_slots',
  )
  return Number(row?.held ?? 0)
}

export async function stoppedSink(minutes: number): Promise<void> {
  await using server = await startPostgres()
  await server.sql(
    'CREATE SCHEMA bench; CREATE TABLE bench.t (id bigserial PRIMARY KEY, note text, at timestamptz DEFAULT now())',
  )
  await server.sql(
    'INSERT INTO bench.t (note) SELECT md5(i::text) || md5((i + 1)::text) FROM generate_series(1, 200000) i',
  )
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  writeFileSync(
    join(folder, 'p.yaml'),
    `name: bench\nsource: { type: postgres, url: "${server.url}", tables: [bench.t] }\nsinks: [{ type: stdout }]\n`,
  )
  const child = spawn(process.execPath, [MAIN, 'run', 'p.yaml', '--log-level', 'warn'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child.stdout!.pause()
  const ended = new Promise<number | null>(resolve => child.once('exit', resolve))
  const end = Date.now() + minutes * 60_000
  let changes = 0
  let saidMs = 0
  while (Date.now() < end && child.exitCode === null) {
    const due = new Promise(resolve => setTimeout(resolve, 1000 / TRANSACTIONS_A_SECOND))
    await server.sql(
      `INSERT INTO bench.t (note) SELECT md5(random()::text) || md5(random()::text) FROM generate_series(1, ${ROWS_A_TRANSACTION})`,
    )
    changes += ROWS_A_TRANSACTION
    await due
    if (Date.now() - saidMs < 60_000) continue
    saidMs = Date.now()
    const { now, peak } = memoryOf(child.pid!)
    process.stdout.write(
      `${Math.round((saidMs - end) / 60_000 + minutes)} min: ${changes} changes, ${now} MB now, peak ${peak} MB; the slot holds ${await heldBytes(server)} bytes\n`,
    )
  }
  const { now, peak } = memoryOf(child.pid!)
  process.stdout.write(
    `sink stopped for ${minutes} min, ${changes} changes after 200,000 rows: ${now} MB, peak ${peak} MB; the slot holds ${await heldBytes(server)} bytes\n`,
  )
  child.kill('SIGINT')
  process.stdout.write(`ended with ${await ended}\n`)
  rmSync(folder, { recursive: true })
}
