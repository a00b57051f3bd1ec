/**
 * The log into MariaDB, by the real reader, pump and writer, and beside it in the same run the same rows by the same client: ready INSERT
 * statements of many rows into a table with the same columns and the same key, without any position, one transaction for each batch.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mysql from 'mysql2/promise'
import { mariadb } from '../../connectors/mariadb/sink.ts'
import type { Sink } from '../../core/connector.ts'
import type { FileLog } from '../../core/log/file.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { decodeRow } from '../../core/row.ts'
import { startMariadb } from '../servers/mariadb.ts'
import { drained, limitLine, shareLine } from './drained.ts'
import { filledLog, rowOf, spend, type Took } from './filled-log.ts'

const sink = mariadb as unknown as Sink
const ROWS_PER_STATEMENT = 1_000

async function raw(url: string, records: number): Promise<Took> {
  const client = await mysql.createConnection({ uri: url, multipleStatements: true, charset: 'utf8mb4' })
  await client.query(`DROP DATABASE IF EXISTS raw; CREATE DATABASE raw CHARACTER SET utf8mb4; CREATE TABLE raw.products
    (id varchar(255) COLLATE utf8mb4_bin PRIMARY KEY, name longtext, description longtext, price longtext, updated_at longtext,
     millrace_version bigint, millrace_origin text)`)
  const statements: string[] = []
  for (let at = 0; at < records; at += ROWS_PER_STATEMENT) {
    const rows = Array.from({ length: Math.min(ROWS_PER_STATEMENT, records - at) }, (_, i) => {
      const { table, after } = rowOf(at + i)
      const values = Object.values(decodeRow(after!, table)).map(value => mysql.escape(String(value)))
      return `(${values.join()},${1_750_000_000_000_000 + at + i},'shop.shop.products/0')`
    })
    statements.push(`INSERT INTO raw.products VALUES ${rows.join()}`)
  }
  const inOne = Math.ceil((sink.batch?.records ?? 5_000) / ROWS_PER_STATEMENT)
  const took = await spend(async () => {
    for (let i = 0; i < statements.length; i += inOne) {
      await client.query('START TRANSACTION')
      for (const statement of statements.slice(i, i + inOne)) await client.query(statement)
      await client.query('COMMIT')
    }
  })
  await client.end()
  return took
}

const snapshotOf = (record: ChangeRecord): ChangeRecord => ({ ...record, op: 'r' })

export async function logToMariadb(records: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  try {
    await using server = await startMariadb({ settings: { 'innodb-buffer-pool-size': '512M' } })
    await using snapshot = await filledLog(join(folder, 'snapshot'), records, snapshotOf)
    await using updates = await filledLog(join(folder, 'updates'), records)
    await raw(server.url, Math.min(records, 50_000)) // the code is compiled while it runs
    const limit = await raw(server.url, records)
    limitLine('INSERT of many ready rows, by the same client', limit, records)
    const into = (log: FileLog) => drained(log, sink, { url: server.url }, records)
    shareLine('log to MariaDB, snapshot rows', await into(snapshot), limit, records)
    shareLine('log to MariaDB, an update of each', await into(updates), limit, records)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
