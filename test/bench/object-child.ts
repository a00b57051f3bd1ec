/**
 * The product's part of the bench of objects, in a process of its own, so that CPU and memory are its own: the log into a store.
 * `node object-child.js fill DIRECTORY ROWS`, then `node object-child.js drain DIRECTORY SINK CONFIG`, which prints a line of JSON.
 */
import { connectors } from '../../connectors/index.ts'
import type { Context, Sink } from '../../core/connector.ts'
import { prefetched, ticking } from '../../core/flow.ts'
import { type FileLog, openFileLog } from '../../core/log/file.ts'
import type { LogOffset } from '../../core/log/log.ts'
import { nodeDisk } from '../../core/log/node-disk.ts'
import { pump } from '../../core/pump.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { realClock } from '../../core/worker/clock.ts'
import { boundHeapGrowth } from '../../core/worker/heap.ts'
import { numbers } from '../../core/worker/metrics.ts'
import { procOf } from './report.ts'

boundHeapGrowth()
const [act, directory, ...more] = process.argv.slice(2)
const log = { debug() {}, info() {}, warn() {}, error() {} }
const stop = new AbortController()
const context: Context = {
  pipeline: 'bench',
  task: 'bench/object/0',
  epoch: Date.now(),
  deadlineMs: () => Number.POSITIVE_INFINITY,
  signal: stop.signal,
  log,
  clock: realClock,
  metrics: numbers(),
}

const TABLE: Table = {
  schema: 'bench',
  name: 't',
  key: ['id'],
  columns: [
    { name: 'id', type: 'int8' },
    { name: 'name', type: 'text' },
    { name: 'price', type: 'numeric' },
    { name: 'active', type: 'bool' },
    { name: 'at', type: 'timestamptz' },
    { name: 'note', type: 'text' },
    { name: 'stock', type: 'int4' },
    { name: 'weight', type: 'float8' },
  ],
}

const rowOf = (id: number): ChangeRecord => ({
  op: 'c',
  table: TABLE,
  key: `{"id":${id}}`,
  before: null,
  after: `{"id":${id},"name":"product number ${id}","price":"${id % 1000}.${10 + (id % 90)}","active":${id % 3 === 0},"at":"2026-06-15T14:00:${10 + (id % 50)}.123456Z","note":"a note that makes the row about two hundred bytes long, ${(Math.imul(id, 2654435761) >>> 0).toString(16)}","stock":${id % 1000},"weight":${id / 7}}`,
  source: `{"connector":"postgres","name":"bench","schema":"bench","table":"t","txId":${7000 + (id >> 4)},"ts_us":1750000000000000,"snapshot":false}`,
  commitMs: 1_750_000_000_000 + id,
  readMs: 1_750_000_000_005 + id,
  below: null,
})

const opened = (): Promise<FileLog> =>
  openFileLog({
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

const BATCH = 10_000
async function fill(rows: number): Promise<void> {
  const file = await opened()
  const writer = await file.writer({ ...context, task: 'bench/source' }, 0)
  for (let at = 0; at < rows; at += BATCH)
    await writer.write({
      records: Array.from({ length: Math.min(BATCH, rows - at) }, (_, i) => rowOf(at + i)),
      offset: { at },
    })
  await file[Symbol.asyncDispose]()
}

async function drain(name: string, config: string): Promise<void> {
  const sink = connectors.sinks.get(name) as Sink
  const file = await opened()
  const ends = await file.ends()
  const writer = await sink.open(sink.config.parse(JSON.parse(config)) as never, context)
  const inner = await file.reader({
    consumer: context.task,
    partition: 0,
    from: null,
    signal: stop.signal,
    maxRecords: sink.batch!.records,
    maxBytes: sink.batch!.bytes,
  })
  const reader = ticking(prefetched(inner), realClock, 100)
  const commit = reader.commit!
  const from = performance.now()
  const cpu = process.cpuUsage()
  reader.commit = async offset => {
    await commit(offset)
    const { next } = offset as unknown as LogOffset
    if (!ends.every(({ topic, end }) => (next[topic] ?? 0) >= end)) return
    const { user, system } = process.cpuUsage(cpu)
    const seconds = (performance.now() - from) / 1000
    const { peakMb } = procOf(process.pid)!
    process.stdout.write(`${JSON.stringify({ seconds, cpuSeconds: (user + system) / 1e6, peakMb })}\n`)
    stop.abort()
  }
  await pump(reader, writer, { load: async () => null, save: async () => {} }, { async add() {} })
  await writer[Symbol.asyncDispose]()
  await file[Symbol.asyncDispose]()
}

await (act === 'fill' ? fill(Number(more[0])) : drain(more[0]!, more[1]!))
