/**
 * PostgreSQL to Kafka by the program itself, on a log of Kafka and without sinks, and by Debezium after it: the same database, the same
 * broker, both on loopback of this machine. Ceilings in the same run: the same records, written by a client that does nothing else.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Kafka, KafkaMessage } from 'kafkajs'
import { type KafkaCluster, missingForKafka, startKafka } from '../servers/kafka.ts'
import { type PostgresServer, startPostgres } from '../servers/postgres.ts'
import { ServerProcess } from '../servers/process.ts'
import { debezium, missingForDebezium, producerPerformance } from './debezium.ts'
import {
  arrivals,
  clientOf,
  type Filled,
  type Follower,
  filled,
  openTopic,
  recordsOf,
  writtenBare,
} from './kafka-topic.ts'
import { line, thousands } from './report.ts'
import { makeTable, SETTINGS } from './table.ts'

const MAIN = fileURLToPath(new URL('../../core/cli/main.js', import.meta.url))

const CHANGES = 100_000
const CHANGES_A_SECOND = 200
const SECONDS = 10
/** Records that the ceilings write; more would be memory of this process only. */
const SAMPLE = 100_000

interface Bench {
  readonly database: PostgresServer
  readonly cluster: KafkaCluster
  readonly kafka: Kafka
  readonly rows: number
  readonly folder: string
}

type Found = Map<string, Filled>

export async function postgresToKafka(rows: number): Promise<void> {
  const missing = missingForKafka()
  if (missing) return line(`skipped: ${missing}`, null)
  await using database = await startPostgres({ settings: SETTINGS })
  await using cluster = await startKafka({ heapMb: 1024, javaOptions: ['-XX:TieredStopAtLevel=4'] })
  const kafka = clientOf(cluster)
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  const bench: Bench = { database, cluster, kafka, rows, folder }
  try {
    await ceilings(bench, await warm(bench))
    const ours = await measured(bench, millrace(bench, 'millrace'), null)
    const left = missingForDebezium()
    if (left) return line(`the peer is left out: ${left}`, null)
    const files = join(folder, 'debezium')
    mkdirSync(files)
    await measured(
      bench,
      await debezium({ database, brokers: cluster.bootstrap, folder: files, table: 'bench.t' }),
      ours,
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The real program, as a user starts it. `prefix` of its topics: one that was deleted a moment ago may linger. */
function millrace({ database, cluster, folder }: Bench, prefix: string): Follower {
  const home = join(folder, prefix)
  mkdirSync(home)
  writeFileSync(
    join(home, 'p.yaml'),
    `name: bench\nsource: { type: postgres, url: "${database.url}", tables: [bench.t] }\nsinks: []\n`,
  )
  writeFileSync(
    join(home, 'hub.yaml'),
    `name: ${prefix}\nlog: { type: kafka, brokers: ${JSON.stringify(cluster.bootstrap)}, topic_prefix: ${prefix}. }\n`,
  )
  // With --cpu-prof for the bench there is a profile of each run of it, too. It says nothing at its start: the shell does.
  const run = [process.execPath, ...process.execArgv, MAIN, 'run', 'p.yaml', '--log-level', 'warn']
  const program = new ServerProcess({
    directory: home,
    program: '/bin/sh',
    arguments: ['-c', 'echo it starts; exec "$@"', 'sh', ...run],
    listens: /^it starts$/,
    isReady: async () => true,
  })
  return {
    name: 'millrace',
    topic: `${prefix}.bench.bench.t`,
    pid: () => program.pid,
    start: () => program.start(),
    stop: () => program.stop(),
    async remove() {
      const args = [MAIN, 'delete', 'bench', '--yes', '--file', 'p.yaml']
      const { status, stderr } = spawnSync(process.execPath, args, { cwd: home, encoding: 'utf8' })
      if (status !== 0) throw new Error(stderr)
    },
    log: () => program.log,
  }
}

/** The broker's code is compiled while it runs: whoever comes first would pay. So the first is ours, whole, and counts for nothing. */
async function warm(bench: Bench): Promise<readonly KafkaMessage[]> {
  const { cluster, kafka, rows } = bench
  await makeTable(bench.database, bench.rows)
  const first = millrace(bench, 'warm')
  await using topic = await openTopic(kafka, first.topic)
  try {
    const { last } = await filled(cluster, first, topic, 0, rows)
    return (await recordsOf(cluster, first.topic, 0, last.end, SAMPLE)).sample
  } finally {
    await first.stop()
    await first.remove()
  }
}

async function ceilings({ kafka, cluster, folder }: Bench, sample: readonly KafkaMessage[]): Promise<void> {
  const topic = 'ceiling'
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 1 }] })
  const bytes = sample.reduce((sum, { value }) => sum + (value?.length ?? 0), 0) / sample.length
  line(
    'each record of a snapshot',
    null,
    `${Math.round(bytes)} bytes; ${cpus().length} cores, load average ${loadavg()[0]!.toFixed(1)}`,
  )
  const { rate, cpuSeconds } = await writtenBare(kafka, topic, sample)
  line('  limit: the same records by kafkajs alone', rate, `${cpuSeconds.toFixed(1)} CPU s a million`)
  if (missingForDebezium() === null) {
    const file = join(folder, 'values')
    writeFileSync(file, sample.map(({ value }) => String(value)).join('\n'))
    const java = await producerPerformance({
      brokers: cluster.bootstrap,
      topic,
      records: 4 * sample.length,
      file,
    })
    line("  limit: the same values by Kafka's own load program", java)
  }
  await admin.disconnect()
}

async function measured(bench: Bench, follower: Follower, beside: Found | null): Promise<Found> {
  const { cluster, kafka, rows, database } = bench
  await using topic = await openTopic(kafka, follower.topic)
  const found: Found = new Map()
  const changes = Math.floor(Math.min(CHANGES, rows) / 100) * 100
  const phase = async (name: string, from: number, records: number) => {
    const one = await filled(cluster, follower, topic, from, records)
    found.set(name, one)
    tell(`${follower.name}: ${name}`, one, records)
    const other = beside?.get(name)
    if (other) compare(other, one)
    return one
  }
  try {
    await makeTable(bench.database, bench.rows)
    let { last } = await phase(`snapshot of ${thousands(rows)} rows`, 0, rows)
    await follower.stop()
    await mustHold(bench, follower, 0, last.end, rows)
    for (const perTransaction of [1, 100]) {
      const from = await topic.end()
      await backlog(database, changes, perTransaction)
      const name = `${thousands(changes)} updates, ${perTransaction} a transaction`
      last = (await phase(name, from, changes)).last
      await mustHold(bench, follower, from, last.end, changes)
      if (perTransaction === 1) await follower.stop()
    }
    await latency(bench, follower)
  } finally {
    await follower.stop()
    await follower.remove()
  }
  return found
}

function tell(what: string, { share, first, last }: Filled, records: number): void {
  const million = records / 1e6
  const rest = (1 - share) * million
  const figures = [
    `first after ${(first.ms / 1000).toFixed(1)} s, then ${thousands((rest * 1e9) / (last.ms - first.ms))}/s`,
    `CPU s a million ${(last.cpuSeconds / million).toFixed(1)}, after the first ${((last.cpuSeconds - first.cpuSeconds) / rest).toFixed(1)}`,
    `broker ${(last.brokerCpuSeconds / million).toFixed(1)}`,
    `peak ${last.peakMb} MB`,
  ]
  line(what, records / (last.ms / 1000), figures.join('; '))
}

/** How many times the peer's. */
function compare(ours: Filled, peer: Filled): void {
  const rest = ({ share, first, last }: Filled, of: (mark: Filled['last']) => number) =>
    (of(last) - of(first)) / (1 - share)
  const times = (of: (mark: Filled['last']) => number) =>
    `${(of(peer.last) / of(ours.last)).toFixed(1)} times, after the first record ${(rest(peer, of) / rest(ours, of)).toFixed(1)}`
  line(
    '  millrace: rows in a second of the clock',
    null,
    times(mark => mark.ms),
  )
  line(
    '  millrace: rows in a second of its CPU',
    null,
    times(mark => mark.cpuSeconds),
  )
  line('  millrace: peak memory', null, `1/${(peer.last.peakMb / ours.last.peakMb).toFixed(1)}`)
}

/** A peer may bring some twice, at least once is what it promises; that is a figure, too. */
async function mustHold(
  { cluster }: Bench,
  { name, topic }: Follower,
  from: number,
  to: number,
  wanted: number,
): Promise<void> {
  const { count } = await recordsOf(cluster, topic, from, to)
  if (count === wanted) return
  const other = `${name}: ${thousands(count)} records of ${thousands(wanted)}`
  if (name === 'millrace' || count < wanted) throw new Error(other)
  line(`  ${other}`, null)
}

/** Made while nobody follows. */
async function backlog(database: PostgresServer, changes: number, perTransaction: number): Promise<void> {
  await database.sql('SET synchronous_commit = off')
  await database.sql(
    `DO $$ BEGIN FOR i IN 1..${changes / perTransaction} LOOP UPDATE bench.t SET stock = stock + 1, at = clock_timestamp() WHERE id > (i - 1) * ${perTransaction} AND id <= i * ${perTransaction}; COMMIT; END LOOP; END $$`,
  )
  await database.sql('RESET synchronous_commit') // the connection is kept: later commits must reach the log at once
  await database.sql('CHECKPOINT')
}

/** From the commit, as the database dates it, to a consumer. */
async function latency({ database, kafka, rows }: Bench, { name, topic, log }: Follower): Promise<void> {
  const base = 1_000_000
  const measuredChanges = CHANGES_A_SECOND * SECONDS
  const found = new Map<number, number>()
  let warmed = 0
  await using _ = await arrivals(kafka, topic, ({ value }, nowMs) => {
    if (!value) return
    const { after, source } = JSON.parse(String(value)) as {
      after: { stock: number } | null
      source: { ts_us: number }
    }
    const stock = after?.stock ?? 0
    if (stock === -1) warmed++
    else if (stock >= base) found.set(stock, nowMs - source.ts_us / 1000)
  })
  const client = await database.client()
  const change = (stock: number, i: number) =>
    client.query({
      name: 'change',
      text: 'UPDATE bench.t SET stock = $1, at = clock_timestamp() WHERE id = $2',
      values: [stock, (i % rows) + 1],
    })
  const pace = async (from: number, i: number) => {
    const waitMs = from + (i * 1000) / CHANGES_A_SECOND - performance.now()
    if (waitMs > 0.5) await new Promise(resolve => setTimeout(resolve, waitMs))
  }
  // First until the consumer has joined, and for two seconds more: follower, broker and consumer are compiled while they run.
  const warmMs = performance.now()
  for (let i = 0; warmed < 2 * CHANGES_A_SECOND; i++) {
    if (i > 60 * CHANGES_A_SECOND)
      throw new Error(`${name}: nothing arrives:\n${log().slice(-40).join('\n')}`)
    await pace(warmMs, i)
    await change(-1, i)
  }
  const from = performance.now()
  for (let i = 0; i < measuredChanges; i++) {
    await pace(from, i)
    await change(base + i, i)
  }
  const rate = measuredChanges / ((performance.now() - from) / 1000)
  const until = performance.now() + 10_000
  while (found.size < measuredChanges && performance.now() < until)
    await new Promise(resolve => setTimeout(resolve, 50))
  if (found.size < measuredChanges) throw new Error(`${name}: ${found.size} of ${measuredChanges} arrived`)
  const sorted = [...found.values()].sort((a, b) => a - b)
  const at = (part: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!.toFixed(1)
  line(
    `${name}: commit to a read_committed consumer, ${Math.round(rate)}/s`,
    null,
    `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, at most ${at(1)} ms`,
  )
}
