/** An embedded log that a bench fills and drains in its own process: rows of about 200 bytes, as varied as real ones. */
import { join } from 'node:path'
import type { Context, Log } from '../../core/connector.ts'
import type { FileLog } from '../../core/log/file.ts'
import { openFileLog } from '../../core/log/file.ts'
import { nodeDisk } from '../../core/log/node-disk.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { realClock } from '../../core/worker/clock.ts'

const TABLE: Table = {
  schema: 'shop',
  name: 'products',
  key: ['id'],
  columns: ['id', 'name', 'description', 'price', 'updated_at'].map(name => ({ name, type: 'text' })),
}
const WORDS =
  'amber basin cedar delta ember fjord grove heath inlet jetty knoll ledge marsh north ochre'.split(' ')
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} }
export const forEver = new AbortController().signal

/** Not one text over and over: lz4 would make nothing of it. */
export function rowOf(id: number): ChangeRecord {
  let seed = (id * 2654435761) >>> 0
  const word = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return WORDS[(seed >>> 16) % WORDS.length]!
  }
  const text = Array.from({ length: 14 }, word).join(' ')
  const price = `${id % 1000}.${10 + (id % 90)}`
  return {
    op: 'u',
    table: TABLE,
    key: `{"id":${id}}`,
    before: null,
    after: `{"id":${id},"name":"${word()} ${id}","description":"${text}","price":"${price}","updated_at":"2025-06-15T14:00:${10 + (id % 50)}.123456Z"}`,
    source: `{"connector":"postgres","name":"shop","schema":"shop","table":"products","txId":${7000 + (id >> 4)},"lsn":"0/${(16_000_000 + id * 200).toString(16)}","ts_us":1750000000000000,"snapshot":false}`,
    commitMs: 1_750_000_000_000 + (id >> 4),
    readMs: 1_750_000_000_005 + (id >> 4),
    below: null,
  }
}

export const contextOf = (epoch: number): Context => ({
  pipeline: 'shop',
  task: 'shop/source',
  epoch,
  deadlineMs: () => Number.POSITIVE_INFINITY,
  signal: forEver,
  log: silent,
  clock: realClock,
  metrics: { add() {}, set() {} },
})

export const openIn = (directory: string): Promise<FileLog> =>
  openFileLog({
    directory,
    disk: nodeDisk,
    clock: realClock,
    log: silent,
    name: 'shop',
    partitions: 1,
    compression: 'lz4',
    limitBytes: Number.POSITIVE_INFINITY,
    lingerMs: 0,
    batchBytes: 1 << 20,
  })

export interface Took {
  readonly seconds: number
  readonly cpuSeconds: number
}

export async function spend(act: () => Promise<void>): Promise<Took> {
  const cpu = process.cpuUsage()
  const start = performance.now()
  await act()
  const { user, system } = process.cpuUsage(cpu)
  return { seconds: (performance.now() - start) / 1000, cpuSeconds: (user + system) / 1e6 }
}

const BATCH = 10_000

/** Rows 0 to `records` - 1, each once. */
export async function filledLog(
  folder: string,
  records: number,
  as: (record: ChangeRecord) => ChangeRecord = record => record,
): Promise<FileLog> {
  const log = await openIn(join(folder, 'log'))
  await using writer = await log.writer(contextOf(1), 0)
  for (let at = 0; at < records; at += BATCH) {
    const rows = Array.from({ length: Math.min(BATCH, records - at) }, (_, i) => as(rowOf(at + i)))
    await writer.write({ records: rows, offset: { at } })
  }
  return log
}
