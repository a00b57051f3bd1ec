/**
 * The log into PostgreSQL, by the real reader, pump and writer, and beside it in the same run the same rows by the same client: a plain
 * COPY of ready lines into a table with the same columns and the same key, without any position, one transaction for each batch.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { copyIn } from '../../connectors/postgres/copy-in.ts'
import { postgresSink } from '../../connectors/postgres/sink.ts'
import type { Sink } from '../../core/connector.ts'
import type { FileLog } from '../../core/log/file.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { decodeRow } from '../../core/row.ts'
import { startPostgres } from '../servers/postgres.ts'
import { drained, limitLine, shareLine } from './drained.ts'
import { filledLog, rowOf, spend, type Took } from './filled-log.ts'

const BATCH = postgresSink.batch!.records

async function raw(url: string, records: number): Promise<Took> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(`DROP SCHEMA IF EXISTS raw CASCADE; CREATE SCHEMA raw; CREATE TABLE raw.products
    (id text PRIMARY KEY, name text, description text, price text, updated_at text, millrace_version int8, millrace_origin text)`)
  // What a program has at hand is a row's columns; making their lines is no part of what is measured.
  const batches: Buffer[] = []
  for (let at = 0; at < records; at += BATCH) {
    let text = ''
    for (let id = at; id < Math.min(at + BATCH, records); id++) {
      const { table, after } = rowOf(id)
      text += `${Object.values(decodeRow(after!, table)).join('\t')}\t${1_750_000_000_000_000 + id}\tshop.shop.products/0\n`
    }
    batches.push(Buffer.from(text))
  }
  const took = await spend(async () => {
    for (const batch of batches) await copyIn(client, 'COPY raw.products FROM STDIN', [batch])
  })
  await client.end()
  return took
}

const snapshotOf = (record: ChangeRecord): ChangeRecord => ({ ...record, op: 'r' })

export async function logToPostgres(records: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  try {
    await using server = await startPostgres({ settings: { fsync: 'on', max_wal_size: '8GB' } })
    await using snapshot = await filledLog(join(folder, 'snapshot'), records, snapshotOf)
    await using updates = await filledLog(join(folder, 'updates'), records)
    await raw(server.url, Math.min(records, 50_000)) // the code is compiled while it runs
    const limit = await raw(server.url, records)
    limitLine('COPY of ready lines, by the same client', limit, records)
    const into = (log: FileLog) =>
      drained(log, postgresSink as unknown as Sink, { url: server.url, schema: 'kept' }, records)
    shareLine('log to PostgreSQL, snapshot rows', await into(snapshot), limit, records)
    shareLine('log to PostgreSQL, an update of each', await into(updates), limit, records)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
