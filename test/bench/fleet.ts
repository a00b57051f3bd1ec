/**
 * What a fleet costs that has next to nothing to do: one hub, two workers, real Kafka and Redis, and 1, 10 and 100 pipelines of two tasks,
 * each with a change a second. Per second: commands that Redis counts, requests of our Kafka clients; and CPU, by process and task.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { table } from '../../core/cli/output.ts'
import { type KafkaCluster, startKafka } from '../servers/kafka.ts'
import { type RedisServer, startRedis } from '../servers/redis.ts'
import { procOf } from './report.ts'

const fileOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const MAIN = process.env.BENCH_PROGRAM ?? fileOf('../../core/cli/main.js')
const PRELOAD = fileOf('./kafka-requests.js')
const WORKERS = 2
const TASKS_A_PIPELINE = 2
const START_MS = 400_000
const SETTLE_MS = 15_000
/** By their keys. */
const REQUESTS: Readonly<Record<string, string>> = {
  0: 'Produce',
  1: 'Fetch',
  2: 'ListOffsets',
  3: 'Metadata',
  12: 'Heartbeat',
  9: 'OffsetFetch',
  24: 'AddPartitionsToTxn',
  25: 'AddOffsetsToTxn',
  26: 'EndTxn',
  28: 'TxnOffsetCommit',
}
const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

interface Servers {
  readonly cluster: KafkaCluster
  readonly redis: RedisServer
}

interface Counted {
  readonly atMs: number
  readonly commands: ReadonlyMap<string, number>
  readonly requests: ReadonlyMap<string, number>
  readonly cpu: {
    readonly hub: number
    readonly workers: number
    readonly redis: number
    readonly kafka: number
  }
}

export async function fleet(seconds: number): Promise<void> {
  await using cluster = await startKafka()
  await using redis = await startRedis()
  const rows: string[][] = [
    [
      'pipelines',
      'tasks',
      'Redis/s',
      'Kafka/s',
      'hub CPU',
      'workers CPU',
      'per task',
      'Redis CPU',
      'Kafka CPU',
      'most of Redis',
      'most of Kafka',
    ],
  ]
  for (const pipelines of [1, 10, 100]) {
    const [before, after] = await measured({ cluster, redis }, pipelines, seconds * 1000)
    rows.push(rowOf(pipelines, before, after))
    process.stdout.write(`${table(rows)}\n\n`)
  }
  process.stdout.write(
    `CPU in ms a second. One hub, ${WORKERS} workers, a change a second and pipeline, over ${seconds} s.\n`,
  )
}

function rowOf(pipelines: number, before: Counted, after: Counted): string[] {
  const seconds = (after.atMs - before.atMs) / 1000
  const rates = (kind: 'commands' | 'requests') =>
    [...after[kind]]
      .map(([name, n]): [string, number] => [name, (n - (before[kind].get(name) ?? 0)) / seconds])
      .sort(([, a], [, b]) => b - a)
  const sum = (all: readonly [string, number][]) => all.reduce((total, [, n]) => total + n, 0).toFixed(0)
  const most = (all: readonly [string, number][]) =>
    all
      .slice(0, 4)
      .map(([name, n]) => `${name} ${n.toFixed(1)}`)
      .join(', ')
  const ms = (name: keyof Counted['cpu']) => ((after.cpu[name] - before.cpu[name]) * 1000) / seconds
  const [commands, requests] = [rates('commands'), rates('requests')]
  const tasks = pipelines * TASKS_A_PIPELINE
  return [
    String(pipelines),
    String(tasks),
    sum(commands),
    sum(requests),
    ms('hub').toFixed(0),
    ms('workers').toFixed(0),
    (ms('workers') / tasks).toFixed(1),
    ms('redis').toFixed(0),
    ms('kafka').toFixed(0),
    most(commands),
    most(requests),
  ]
}

async function measured(
  { cluster, redis }: Servers,
  pipelines: number,
  ms: number,
): Promise<[Counted, Counted]> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  mkdirSync(join(folder, 'pipelines'))
  mkdirSync(join(folder, 'counts'))
  writeFileSync(
    join(folder, 'hub.yaml'),
    `name: bench-${pipelines}\nlog: { type: kafka, brokers: ["${cluster.bootstrap.join('", "')}"] }\nqueue: { type: bullmq, url: "${redis.url}", lock_ms: 30000 }\n`,
  )
  for (let i = 0; i < pipelines; i++)
    writeFileSync(
      join(folder, 'pipelines', `p${i}.yaml`),
      `name: n${pipelines}-p${i}\nsource: { type: generate, rows: 10, changes: 1000000, rate: 1 }\nlog: { partitions: 1 }\nsinks: [{ name: out, type: stdout }]\n`,
    )
  const start = (...args: string[]): ChildProcess =>
    spawn(process.execPath, ['--import', PRELOAD, MAIN, ...args, '--log-level', 'warn'], {
      cwd: folder,
      env: {
        ...process.env,
        BENCH_KAFKA_PORT: cluster.brokers[0]!.url.split(':')[1]!,
        BENCH_KAFKA_FOLDER: join(folder, 'counts'),
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
  const hub = start('hub', '--port', '0')
  const workers = Array.from({ length: WORKERS }, () =>
    start('worker', '--concurrency', String(pipelines * TASKS_A_PIPELINE)),
  )
  const children = [hub, ...workers]
  try {
    const endMs = performance.now() + START_MS
    while (!(await allRun(folder, pipelines)))
      if (performance.now() > endMs) throw new Error(`${pipelines} pipelines do not all run`)
    await pause(SETTLE_MS)
    const count = () => counted({ cluster, redis }, folder, hub, workers)
    const before = await count()
    await pause(ms)
    return [before, await count()]
  } finally {
    for (const one of children) one.kill('SIGTERM')
    await Promise.all(children.map(one => one.exitCode ?? new Promise(resolve => one.once('exit', resolve))))
    rmSync(folder, { recursive: true })
  }
}

async function allRun(folder: string, pipelines: number): Promise<boolean> {
  await pause(500)
  try {
    const { url } = JSON.parse(readFileSync(join(folder, '.millrace', 'hub.json'), 'utf8')) as { url: string }
    const shown = (await (await fetch(`${url}/api/status`)).json()) as {
      pipelines: { tasks: { state: string }[] }[]
    }
    const tasks = shown.pipelines.flatMap(one => one.tasks)
    return tasks.length === pipelines * TASKS_A_PIPELINE && tasks.every(one => one.state === 'running')
  } catch {
    return false // it has not said yet where it is
  }
}

async function counted(
  { cluster, redis }: Servers,
  folder: string,
  hub: ChildProcess,
  workers: readonly ChildProcess[],
): Promise<Counted> {
  const atMs = performance.now()
  const cpuOf = (pid: number | undefined) => procOf(pid!)?.cpuSeconds ?? 0
  const cpu = {
    hub: cpuOf(hub.pid),
    workers: workers.reduce((sum, one) => sum + cpuOf(one.pid), 0),
    redis: cpuOf(redis.pid),
    kafka: cluster.brokers.reduce((sum, one) => sum + cpuOf(one.pid), 0),
  }
  const commands = new Map<string, number>()
  const stats = String(await redis.command('INFO', 'commandstats'))
  for (const [, name, calls] of stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm))
    commands.set(name!, Number(calls))
  const requests = new Map<string, number>()
  for (const { pid, kill } of [hub, ...workers].map(one => ({
    pid: one.pid!,
    kill: () => one.kill('SIGUSR2'),
  })))
    for (const [key, n] of Object.entries(await requestsOf(join(folder, 'counts', String(pid)), kill))) {
      const name = REQUESTS[key] ?? `request ${key}`
      requests.set(name, (requests.get(name) ?? 0) + n)
    }
  return { atMs, commands, requests, cpu }
}

async function requestsOf(path: string, ask: () => void): Promise<Record<string, number>> {
  rmSync(path, { force: true })
  ask()
  for (;;) {
    await pause(20)
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as Record<string, number>
    } catch {} // not written yet
  }
}
