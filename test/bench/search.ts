/**
 * PostgreSQL to a search index, flat, with the ceiling in the same run: the same documents, rendered beforehand, sent by a loader that
 * does nothing else (5 MB bodies, two connections). Both share the machine with the cluster and, in our case, with the database.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type PostgresServer, startPostgres } from '../servers/postgres.ts'
import { type SearchServer, type SearchServerKind, startSearch } from '../servers/search.ts'
import { startPgsync } from './pgsync.ts'
import { line, procOf, type Spent, thousands } from './report.ts'
import { makeTable, SETTINGS } from './table.ts'

const MAIN = fileURLToPath(new URL('../../core/cli/main.js', import.meta.url))

interface Bench {
  readonly database: PostgresServer
  readonly cluster: SearchServer
  readonly folder: string
}

const INDEX = 'bench-t'
const yaml = ({ database, cluster }: Bench): string => `name: bench
source: { type: postgres, url: "${database.url}", tables: [bench.t], heartbeat_ms: 500 }
sinks:
  - { type: ${cluster.kind.startsWith('open') ? 'opensearch' : 'elasticsearch'}, url: "${cluster.url}" }
`

/** Whoever brings the rows into an index of his own. */
interface Follower {
  readonly name: string
  readonly index: string
  start(isFollowing: boolean): ChildProcess
}

const millrace = ({ folder }: Bench): Follower => ({
  name: 'millrace',
  index: INDEX,
  start: isFollowing =>
    spawn(
      process.execPath,
      [MAIN, 'run', 'p.yaml', '--log-level', 'warn', ...(isFollowing ? [] : ['--until-caught-up'])],
      { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] },
    ),
})

/** Resolves when it has ended, with what it had used when last looked at. */
function spentBy(child: ChildProcess): Promise<Spent> {
  let last: Spent = { peakMb: 0, cpuSeconds: 0 }
  const poll = setInterval(() => {
    const now = procOf(child.pid!)
    if (now && now.peakMb > 0) last = now // one that has ended has no memory
  }, 50)
  return new Promise<Spent>(resolve =>
    child.once('exit', () => {
      clearInterval(poll)
      resolve(last)
    }),
  )
}

const countOf = async (
  { cluster }: Bench,
  { index }: Follower,
  query: object = { match_all: {} },
): Promise<number> => {
  await cluster.request('POST', `/${index}/_refresh`)
  const { body } = await cluster.request('POST', `/${index}/_count`, { query })
  return (body as { count?: number }).count ?? 0
}

export async function postgresToSearch(kind: SearchServerKind, rows: number): Promise<void> {
  await using database = await startPostgres({ settings: SETTINGS })
  await using cluster = await startSearch(kind, { heapMb: 1024, javaOptions: ['-XX:TieredStopAtLevel=4'] })
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  const bench: Bench = { database, cluster, folder }
  await makeTable(database, rows)
  writeFileSync(join(folder, 'p.yaml'), yaml(bench))
  const ours = millrace(bench)
  await warm(bench, ours)
  const rate = await snapshot(bench, ours, rows)
  const limit = await ceiling(bench, rows)
  line('  ratio to the ceiling', null, `${Math.round((rate / limit) * 100)} %`)
  await updates(bench, ours, Math.min(50_000, rows), -1)
  await latency(bench, ours, 20)
  await beside(bench, rows)
  rmSync(folder, { recursive: true })
}

/**
 * The cluster's code is compiled while it runs: the first load is the slowest for whoever comes first. So the first is ours, whole, and
 * counts for nothing.
 */
async function warm(bench: Bench, follower: Follower): Promise<void> {
  await spentBy(follower.start(false))
  const deleting = [MAIN, 'delete', 'bench', '--yes', '--file', 'p.yaml']
  const { status, stderr } = spawnSync(process.execPath, deleting, { cwd: bench.folder, encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  await bench.cluster.request('DELETE', `/${follower.index}`)
}

/** The same by pgsync. */
async function beside(bench: Bench, rows: number): Promise<void> {
  const { database, cluster, folder } = bench
  const pgsync = await startPgsync(database, cluster, folder)
  if (typeof pgsync === 'string') return line(`pgsync: skipped, ${pgsync}`, null)
  await using _ = pgsync
  const peer: Follower = { ...pgsync, name: 'pgsync' }
  await snapshot(bench, peer, rows)
  await updates(bench, peer, Math.min(50_000, rows), -2)
  await latency(bench, peer, 20)
}

async function snapshot(bench: Bench, follower: Follower, rows: number): Promise<number> {
  const from = performance.now()
  const { cpuSeconds, peakMb } = await spentBy(follower.start(false))
  const seconds = (performance.now() - from) / 1000
  mustBe(follower, await countOf(bench, follower), rows, 'rows')
  line(
    `${follower.name}: snapshot of ${thousands(rows)} rows into ${bench.cluster.kind}`,
    rows / seconds,
    `${((cpuSeconds / rows) * 1e6).toFixed(1)} CPU s a million, peak ${peakMb} MB`,
  )
  return rows / seconds
}

/** A peer may fall short; that is a figure, too. */
function mustBe({ name }: Follower, found: number, wanted: number, of: string): void {
  if (found === wanted) return
  const short = `${name}: ${found} documents of ${wanted} ${of}`
  if (name === 'millrace') throw new Error(short)
  line(short, null)
}

/** Bulk bodies of 5 MB, as SQL gives the rows. */
async function rendered({ database }: Bench, rows: number): Promise<string[]> {
  const found = await database.sql<{ text: string }>(
    `SELECT '{"index":{"_id":"' || id || '","version":1,"version_type":"external"}}' || chr(10) || row_to_json(t)::text || chr(10) AS text FROM bench.t t LIMIT ${rows}`,
  )
  const bodies: string[] = []
  let body = ''
  for (const { text } of found) {
    body += text
    if (body.length < 5_000_000) continue
    bodies.push(body)
    body = ''
  }
  if (body !== '') bodies.push(body)
  return bodies
}

async function load({ cluster }: Bench, index: string, bodies: readonly string[]): Promise<void> {
  const { body } = await cluster.request('GET', `/${INDEX}`)
  const mappings = (body as { [name: string]: { mappings?: object } })[INDEX]?.mappings
  if (mappings) await cluster.request('PUT', `/${index}`, { mappings })
  const agent = new Agent({ keepAlive: true, maxSockets: 2 })
  const left = [...bodies]
  const send = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const sending = request(
        new URL(`/${index}/_bulk?filter_path=errors`, cluster.url),
        { method: 'POST', agent, headers: { 'content-type': 'application/x-ndjson' } },
        response => {
          response.resume()
          response.on('end', () =>
            response.statusCode === 200 ? resolve() : reject(new Error(`${response.statusCode}`)),
          )
        },
      )
      sending.on('error', reject)
      sending.end(text)
    })
  await Promise.all(
    [1, 2].map(async () => {
      for (let text = left.pop(); text !== undefined; text = left.pop())
        await send(text).catch(() => {
          left.push(text!) // a circuit breaker: again
        })
    }),
  )
  agent.destroy()
}

async function ceiling(bench: Bench, rows: number): Promise<number> {
  const bodies = await rendered(bench, rows)
  const from = performance.now()
  await load(bench, 'ceiling', bodies)
  const rate = rows / ((performance.now() - from) / 1000)
  line('  limit: the same documents by a bulk loader', rate)
  await bench.cluster.request('DELETE', '/ceiling')
  return rate
}

/** Made while nobody follows, one row a transaction. */
async function updates(bench: Bench, follower: Follower, changes: number, stock: number): Promise<void> {
  const { database } = bench
  await database.sql('SET synchronous_commit = off')
  await database.sql(
    `DO $$ BEGIN FOR i IN 1..${changes} LOOP UPDATE bench.t SET stock = ${stock}, at = clock_timestamp() WHERE id = i; COMMIT; END LOOP; END $$`,
  )
  await database.sql('RESET synchronous_commit')
  const from = performance.now()
  const { cpuSeconds, peakMb } = await spentBy(follower.start(false))
  const seconds = (performance.now() - from) / 1000
  mustBe(follower, await countOf(bench, follower, { term: { stock } }), changes, 'updates')
  line(
    `${follower.name}: ${thousands(changes)} single-row updates, from the start of the process`,
    changes / seconds,
    `${((cpuSeconds / changes) * 1e6).toFixed(1)} CPU s a million, peak ${peakMb} MB`,
  )
}

/** From the commit to a search that finds it, at a refresh of 50 ms. */
async function latency(bench: Bench, follower: Follower, seconds: number): Promise<void> {
  const { database, cluster } = bench
  const { name, index } = follower
  const refreshMs = 50
  await cluster.request('PUT', `/${index}/_settings`, { index: { refresh_interval: `${refreshMs}ms` } })
  const child = follower.start(true)
  const ended = spentBy(child)
  const base = name === 'millrace' ? 1_000_000 : 2_000_000
  const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
  await pause(3_000)
  const found: number[] = []
  const looking: Promise<void>[] = []
  for (let i = 1; i <= seconds * 50; i++) {
    const due = pause(20)
    await database.sql(`UPDATE bench.t SET stock = ${base + i} WHERE id = ${i}`)
    const committedMs = performance.now()
    if (i % 5 === 0)
      looking.push(
        (async () => {
          for (;;) {
            const { body } = await cluster.request('POST', `/${index}/_search`, {
              size: 0,
              query: { term: { stock: base + i } },
            })
            if ((body as { hits: { total: { value: number } } }).hits.total.value > 0) break
            await pause(5)
          }
          found.push(performance.now() - committedMs)
        })(),
      )
    await due
  }
  await Promise.all(looking)
  child.kill('SIGINT')
  await ended
  found.sort((a, b) => a - b)
  const at = (p: number) => Math.round(found[Math.min(found.length - 1, Math.floor(found.length * p))]!)
  line(
    `${name}: commit to searchable at 50/s, refresh ${refreshMs} ms`,
    null,
    `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`,
  )
}
