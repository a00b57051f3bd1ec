/** PostgreSQL to the durable log, and to the SQLite index, with the raw limit beside them in the same run. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describeTables, matchTables, planOf, relationNames } from '../../connectors/postgres/catalog.ts'
import { connect } from '../../connectors/postgres/connect.ts'
import { copyRows, selectOf } from '../../connectors/postgres/copy.ts'
import { type PostgresServer, startPostgres } from '../servers/postgres.ts'
import { line, procOf, thousands } from './report.ts'
import { makeTable, row, SETTINGS } from './table.ts'

const HERE = fileURLToPath(new URL('.', import.meta.url))

interface Figures {
  readonly records: number
  readonly after: number
  readonly firstMs: number
  readonly ms: number
  readonly cpuSeconds: number
  readonly peakMb: number
  readonly p50: number | null
  readonly p99: number | null
}

const ofFigures = ({ cpuSeconds, peakMb }: Figures): string =>
  `${cpuSeconds.toFixed(1)} CPU s, peak ${peakMb} MB`

function startChild(
  server: PostgresServer,
  directory: string,
  records: number,
): { child: ChildProcess; next(): Promise<Figures> } {
  const child = spawn(
    process.execPath,
    [join(HERE, 'child.js'), server.url, directory, 'bench.*', String(records)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const lines: string[] = []
  let wake = () => {}
  child.stdout!.on('data', text => {
    lines.push(...String(text).split('\n').filter(Boolean))
    wake()
  })
  const next = async (): Promise<Figures> => {
    while (lines.length === 0)
      await new Promise<void>(resolve => {
        wake = resolve
      })
    return JSON.parse(lines.shift()!) as Figures
  }
  return { child, next }
}

const ended = (child: ChildProcess): Promise<void> =>
  new Promise(resolve => (child.exitCode === null ? child.once('exit', () => resolve()) : resolve()))

async function fresh(server: PostgresServer, rows: number): Promise<string> {
  await makeTable(server, rows)
  await server.sql('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active')
  await server.sql('DROP PUBLICATION IF EXISTS millrace_bench')
  return mkdtempSync(join(tmpdir(), 'millrace-bench-'))
}

/** What COPY gives: to psql, and to our parser without a log behind it. */
async function copyLimits(server: PostgresServer, rows: number): Promise<number> {
  const psql = spawnSync('psql', ['--version'])
  if (psql.status === 0) {
    const start = performance.now()
    spawnSync('bash', ['-c', 'psql "$0" -c "COPY (SELECT * FROM bench.t) TO STDOUT" > /dev/null', server.url])
    line('  limit: COPY by psql', rows / ((performance.now() - start) / 1000))
  } else line('  limit: COPY by psql: skipped, psql is not installed', null)
  const client = await connect({ url: server.url })
  const { tables } = matchTables(await relationNames(client), ['bench.t'])
  const [table] = await describeTables(client, [tables[0]!.oid])
  const plan = planOf(table!, {})
  const start = performance.now()
  await copyRows(client, `SELECT ${selectOf(plan)} FROM bench.t`, plan, {
    onRows: () => {},
    batchRows: 50_000,
  })
  const rate = rows / ((performance.now() - start) / 1000)
  await client.end()
  line('  limit: COPY and parse, without a log', rate)
  return rate
}

async function snapshot(server: PostgresServer, rows: number): Promise<void> {
  const folder = await fresh(server, rows)
  const { child, next } = startChild(server, join(folder, 'log'), 0)
  const figures = await next()
  await ended(child)
  const rate = figures.records / ((figures.ms - figures.firstMs) / 1000)
  const whole = figures.records / (figures.ms / 1000)
  line(`snapshot of ${thousands(rows)} rows into the durable log`, whole, ofFigures(figures))
  line(
    '  start of the process to first record durable',
    null,
    `${Math.round(figures.firstMs)} ms; after it ${thousands(rate)}/s`,
  )
  const limit = await copyLimits(server, rows)
  line('  ratio to COPY and parse', null, `${Math.round((whole / limit) * 100)} %`)
  rmSync(folder, { recursive: true })
}

/** Changes made while nobody follows; the slot keeps them. */
async function backlog(server: PostgresServer, changes: number, perTransaction: number): Promise<void> {
  const folder = await fresh(server, 0)
  const first = startChild(server, join(folder, 'log'), 0)
  await first.next()
  await ended(first.child)
  await server.sql("SELECT pg_create_logical_replication_slot('bench_limit', 'pgoutput')")
  await server.sql('SET synchronous_commit = off')
  await server.sql(
    `DO $$ BEGIN FOR i IN 1..${Math.floor(changes / perTransaction)} LOOP INSERT INTO bench.t SELECT ${row('k')} FROM generate_series(i::bigint * ${perTransaction}, i::bigint * ${perTransaction} + ${perTransaction} - 1) k; COMMIT; END LOOP; END $$`,
  )
  await server.sql('RESET synchronous_commit') // the connection is kept: later commits must reach the log at once
  const [{ end } = { end: '' }] = await server.sql<{ end: string }>(
    'SELECT pg_current_wal_insert_lsn()::text AS end',
  )
  const second = startChild(
    server,
    join(folder, 'log'),
    Math.floor(changes / perTransaction) * perTransaction,
  )
  const figures = await second.next()
  await ended(second.child)
  line(
    `backlog of ${thousands(changes)} changes, ${perTransaction} a transaction`,
    figures.after / ((figures.ms - figures.firstMs) / 1000),
    ofFigures(figures),
  )
  recvlogical(server, changes, end)
  rmSync(folder, { recursive: true })
}

function recvlogical(server: PostgresServer, changes: number, end: string): void {
  const program = ['/usr/lib/postgresql/15/bin/pg_recvlogical', '/usr/bin/pg_recvlogical'].find(existsSync)
  if (!program) {
    line('  limit: pg_recvlogical: skipped, not installed', null)
    return
  }
  const start = performance.now()
  spawnSync(
    program,
    [
      '-d',
      server.url,
      '-S',
      'bench_limit',
      '--start',
      '-f',
      '/dev/null',
      '-E',
      end,
      '-o',
      'proto_version=1',
      '-o',
      'publication_names=millrace_bench',
    ],
    { timeout: 120_000 },
  )
  line('  limit: pg_recvlogical to /dev/null', changes / ((performance.now() - start) / 1000))
}

async function latency(server: PostgresServer, seconds: number): Promise<void> {
  const folder = await fresh(server, 0)
  const changes = seconds * 200
  const { child, next } = startChild(server, join(folder, 'log'), changes)
  await next()
  for (let i = 1; i <= changes; i++) {
    const due = new Promise(resolve => setTimeout(resolve, 5))
    await server.sql(`INSERT INTO bench.t VALUES (${row(String(i))})`)
    await due
  }
  const figures = await next()
  await ended(child)
  line(
    'commit to durable in the log, live, at most 200/s',
    null,
    `p50 ${figures.p50} ms, p99 ${figures.p99} ms`,
  )
  rmSync(folder, { recursive: true })
}

export async function postgresToLog(rows: number): Promise<void> {
  await using server = await startPostgres({ settings: { ...SETTINGS, wal_level: 'logical' } })
  await snapshot(server, rows)
  await backlog(server, Math.floor(rows * 0.3), 1)
  await backlog(server, rows, 100)
  await latency(server, 10)
}

export async function postgresToSqlite(rows: number): Promise<void> {
  await using server = await startPostgres({ settings: { ...SETTINGS, wal_level: 'logical' } })
  const folder = await fresh(server, rows)
  writeFileSync(
    join(folder, 'p.yaml'),
    `name: bench\nsource: { type: postgres, url: "${server.url}", tables: [bench.t] }\nsinks: [{ type: sqlite, path: index.db }]\n`,
  )
  const start = performance.now()
  const child = spawn(
    process.execPath,
    [join(HERE, '../../core/cli/main.js'), 'run', 'p.yaml', '--until-caught-up', '--log-level', 'warn'],
    { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] },
  )
  let last = procOf(child.pid!)
  const poll = setInterval(() => {
    const now = procOf(child.pid!)
    if (now && now.peakMb > 0) last = now // one that has ended has no memory
  }, 50)
  await ended(child)
  clearInterval(poll)
  line(
    `end to end: ${thousands(rows)} rows into sqlite with full text`,
    rows / ((performance.now() - start) / 1000),
    `${last?.cpuSeconds.toFixed(1)} CPU s, peak ${last?.peakMb} MB`,
  )
  await copyLimits(server, rows)
  rmSync(folder, { recursive: true })
}
