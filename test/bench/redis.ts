/**
 * The log into Redis, by the real reader, pump and writer, and beside it in the same run the same rows by the same client, pipelined and
 * without anything else: no version, no position, no order between batches.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { redis } from '../../connectors/redis/sink.ts'
import type { Sink } from '../../core/connector.ts'
import { decodeRow } from '../../core/row.ts'
import { startRedis } from '../servers/redis.ts'
import { drained, limitLine, shareLine } from './drained.ts'
import { filledLog, rowOf, spend, type Took } from './filled-log.ts'

const PIPELINED = 1_000
const IN_FLIGHT = 4

async function emptied(url: string): Promise<void> {
  const client = new Redis(url)
  await client.flushall()
  client.disconnect()
}

async function raw(url: string, records: number): Promise<Took> {
  await emptied(url)
  const client = new Redis(url)
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

export async function logToRedis(records: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  try {
    await using server = await startRedis()
    await using log = await filledLog(folder, records)
    await raw(server.url, Math.min(records, 50_000)) // the code is compiled while it runs
    const limit = await raw(server.url, records)
    limitLine('HSET, pipelined, by the same client', limit, records)
    for (const structure of ['hash', 'json', 'stream']) {
      await emptied(server.url)
      const took = await drained(log, redis as unknown as Sink, { url: server.url, structure }, records)
      shareLine(`log to Redis, ${structure}`, took, limit, records)
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
