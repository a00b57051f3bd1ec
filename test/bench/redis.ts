/**
 * The log into Redis, by the real reader, pump and writer, and beside it in the same run the same rows by the same client, pipelined and
 * without anything else: no version, no position, no order between batches.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { redis } from '../../connectors/redis/sink.ts'
import { prefetched } from '../../core/flow.ts'
import type { FileLog } from '../../core/log/file.ts'
import { pump } from '../../core/pump.ts'
import { decodeRow } from '../../core/row.ts'
import { startRedis } from '../servers/redis.ts'
import { contextOf, filledLog, forEver, rowOf, spend, type Took } from './filled-log.ts'
import { line, procOf } from './report.ts'

const PIPELINED = 1_000
const IN_FLIGHT = 4
const NOTHING_DEAD = {
  add: async () => {
    throw new Error('a record was refused')
  },
}
const NO_PROGRESS = { load: async () => null, save: async () => {} }

async function raw(url: string, records: number): Promise<Took> {
  const client = new Redis(url)
  await client.flushall()
  // What a program has at hand is a row's columns; making them is no part of what is measured.
  const rows = Array.from({ length: records }, (_, id) => {
    const { table, after } = rowOf(id)
    return [`products:${id}`, ...Object.entries(decodeRow(after!, table)).flat().map(String)] as const
  })
  const took = await spend(async () => {
    let at = 0
    await Promise.all(
      Array.from({ length: IN_FLIGHT }, async () => {
        while (at < records) {
          const part = rows.slice(at, at + PIPELINED)
          at += PIPELINED
          const pipeline = client.pipeline()
          for (const row of part) pipeline.call('HSET', ...row)
          await pipeline.exec()
        }
      }),
    )
  })
  client.disconnect()
  return took
}

async function ours(log: FileLog, url: string, structure: string, records: number): Promise<Took> {
  const client = new Redis(url)
  await client.flushall()
  client.disconnect()
  const context = { ...contextOf(1), task: 'shop/redis/0' }
  return spend(async () => {
    await using writer = await redis.open(redis.config.parse({ url, structure }), context)
    const { batch } = redis
    await using reader = await log.reader({
      consumer: 'bench',
      partition: 0,
      from: null,
      signal: forEver,
      untilEnd: true,
      maxRecords: batch!.records,
      maxBytes: batch!.bytes,
    })
    await pump(prefetched(reader), writer, NO_PROGRESS, NOTHING_DEAD)
    const position = (await writer.position!()) as { next: Record<string, number> }
    if (Object.values(position.next)[0] !== records) throw new Error('not all was written')
  })
}

export async function logToRedis(records: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  try {
    await using server = await startRedis()
    await using log = await filledLog(folder, records)
    const rate = ({ seconds }: Took) => records / seconds
    const cpu = ({ cpuSeconds }: Took) => `${((cpuSeconds / records) * 1e6).toFixed(1)} CPU s a million`
    await raw(server.url, Math.min(records, 50_000)) // the code is compiled while it runs
    const limit = await raw(server.url, records)
    line('limit: HSET, pipelined, by the same client', rate(limit), cpu(limit))
    for (const structure of ['hash', 'json', 'stream']) {
      const took = await ours(log, server.url, structure, records)
      line(
        `millrace: log to Redis, ${structure}`,
        rate(took),
        `${cpu(took)}; ${Math.round((100 * rate(took)) / rate(limit))} % of the limit; peak ${procOf(process.pid)?.peakMb} MB`,
      )
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
