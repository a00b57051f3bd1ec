/**
 * The product's part of a bench, in a process of its own, so that CPU and memory are its own: PostgreSQL into the durable log.
 * `node child.js URL DIRECTORY TABLE RECORDS`: prints a line of JSON when it has caught up, and one when so many records came after.
 */
import { setMaxListeners } from 'node:events'
import { readFileSync } from 'node:fs'
import { postgres } from '../../connectors/postgres/source.ts'
import type { Batch, Context } from '../../core/connector.ts'
import { openFileLog } from '../../core/log/file.ts'
import { nodeDisk } from '../../core/log/node-disk.ts'
import { pump } from '../../core/pump.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { realClock } from '../../core/worker/clock.ts'
import { boundHeapGrowth } from '../../core/worker/heap.ts'
import { numbers } from '../../core/worker/metrics.ts'

boundHeapGrowth()
const [url, directory, table, wanted] = process.argv.slice(2)
const started = performance.now()
const log = { debug() {}, info() {}, warn() {}, error() {} }
const stop = new AbortController()
setMaxListeners(0, stop.signal) // as a task does
const context: Context = {
  pipeline: 'bench',
  task: 'bench/source',
  epoch: Date.now(),
  deadlineMs: () => Number.POSITIVE_INFINITY,
  signal: stop.signal,
  log,
  clock: realClock,
  metrics: numbers(),
}

const peakMb = (): number =>
  Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024)
const say = (fields: object) => process.stdout.write(`${JSON.stringify(fields)}\n`)

const file = await openFileLog({
  directory: directory!,
  disk: nodeDisk,
  clock: realClock,
  log,
  name: 'bench',
  partitions: 1,
  compression: 'lz4',
  limitBytes: Number.POSITIVE_INFINITY,
  lingerMs: 0,
  batchBytes: 1 << 20,
})
const writer = await file.writer(context, 0)
const from = (await writer.position?.()) ?? null
const reader = await postgres.open(
  postgres.config.parse({ url, tables: [table], heartbeat_ms: 0 }),
  from,
  context,
)

let records = 0
let firstMs = 0
let lastMs = 0
let afterCatchUp = 0
let caughtUp = from !== null
const latencies: number[] = []

function durable(batch: Batch<ChangeRecord>): void {
  lastMs = performance.now() - started
  if (batch.records.length > 0 && firstMs === 0) firstMs = lastMs
  records += batch.records.length
  if (caughtUp) {
    afterCatchUp += batch.records.length
    const nowMs = Date.now()
    // The row says when it was written: `at` is the clock right before the commit.
    for (const { after } of batch.records) {
      const at = after?.match(/"at":"([^"]+)"/)?.[1]
      if (at) latencies.push(nowMs - Date.parse(at))
    }
  }
  const report = () => {
    const { user, system } = process.cpuUsage()
    latencies.sort((a, b) => a - b)
    const at = (p: number) =>
      latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * p))] ?? null
    say({
      records,
      after: afterCatchUp,
      firstMs,
      ms: lastMs,
      cpuSeconds: (user + system) / 1e6,
      peakMb: peakMb(),
      p50: at(0.5),
      p99: at(0.99),
    })
  }
  if (batch.caughtUp && !caughtUp) {
    caughtUp = true
    report()
    if (Number(wanted) === 0) stop.abort()
  }
  if (Number(wanted) > 0 && afterCatchUp >= Number(wanted)) {
    report()
    stop.abort()
  }
}

let current: Batch<ChangeRecord> | undefined
const watched = {
  async *[Symbol.asyncIterator]() {
    for await (const batch of reader) {
      current = batch
      yield batch
    }
  },
  async commit(offset: never) {
    await reader.commit?.(offset)
    durable(current!)
  },
  [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
}
const none = { load: async () => null, save: async () => {} }
await pump(watched, writer, none, { add: async () => {} })
await reader[Symbol.asyncDispose]()
await file[Symbol.asyncDispose]()
process.exit(0)
