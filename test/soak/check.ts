/** The three checks after the kills, the expected side by SQL alone. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import Database from 'libsql'
import { openEntryLog, openFileLog } from '../../core/log/file.ts'
import { nodeDisk } from '../../core/log/node-disk.ts'
import { realClock } from '../../core/worker/clock.ts'
import type { PostgresServer } from '../servers/postgres.ts'

const silent = { debug() {}, info() {}, warn() {}, error() {} }
const logOptions = {
  disk: nodeDisk,
  clock: realClock,
  log: silent,
  compression: 'lz4' as const,
  limitBytes: Number.POSITIVE_INFINITY,
  lingerMs: 0,
  batchBytes: 1e6,
}

export interface Found {
  changes: number
  rows: number
  readonly lost: string[]
  readonly backwards: string[]
  readonly doubled: string[]
  readonly different: string[]
}

interface Change {
  readonly op: string
  readonly seq: number
}

/** (1) every committed change once and in order, nothing steps back. */
export async function checkLog(
  server: PostgresServer,
  dataDir: string,
  name: string,
  found: Found,
): Promise<void> {
  const history = await server.sql<{ id: string; seq: string; op: string }>(
    "SELECT id, seq, op FROM soak.history WHERE tbl = 'ledger' ORDER BY seq, CASE op WHEN 'd' THEN 0 ELSE 1 END",
  )
  const expected = new Map<string, Change[]>()
  for (const { id, seq, op } of history)
    expected.set(id, [...(expected.get(id) ?? []), { op, seq: Number(seq) }])
  const streamed = new Map<string, Change[]>()
  const last = new Map<string, number>()
  await using log = await openFileLog({
    ...logOptions,
    directory: join(dataDir, 'logs', name),
    name,
    partitions: 1,
  })
  await using reader = await log.reader({
    consumer: 'check',
    partition: 0,
    from: null,
    signal: new AbortController().signal,
    untilEnd: true,
  })
  for await (const { records } of reader)
    for (const record of records) {
      if (record.table.name !== 'ledger' || record.op === 'sweep') continue
      const { id } = JSON.parse(record.key) as { id: number }
      const key = String(id)
      const seq = record.after === null ? null : (JSON.parse(record.after) as { seq: number }).seq
      if (record.op === 'r') {
        found.rows++
        if (seq! < (last.get(key) ?? 0))
          found.backwards.push(`row ${key}: the snapshot brings seq ${seq} behind ${last.get(key)}`)
        last.set(key, Math.max(seq!, last.get(key) ?? 0))
        continue
      }
      found.changes++
      const list = streamed.get(key) ?? []
      streamed.set(key, list)
      list.push({ op: record.op, seq: seq ?? -1 })
      // A delete says no seq: it is above whatever it deletes.
      if (seq !== null && seq <= (last.get(key) ?? 0) && list.length > 1)
        found.doubled.push(`row ${key}: seq ${seq} behind ${last.get(key)}`)
      last.set(key, seq ?? (last.get(key) ?? 0) + 0.5)
    }
  for (const [key, list] of streamed) compareLists(key, list, expected.get(key) ?? [], found)
}

/** What was streamed is the tail of what was committed: from the slot on, each once, none left out. */
function compareLists(
  key: string,
  list: readonly Change[],
  committed: readonly Change[],
  found: Found,
): void {
  if (list.length > committed.length) {
    found.doubled.push(`row ${key}: ${list.length} changes in the log, ${committed.length} were committed`)
    return
  }
  const tail = committed.slice(committed.length - list.length)
  for (const [i, { op, seq }] of list.entries()) {
    const same = tail[i]!.op === op && (op === 'd' || tail[i]!.seq === seq)
    if (same) continue
    found.lost.push(
      `row ${key}: change ${i} of ${list.length} is ${op} ${seq}, committed was ${tail[i]!.op} ${tail[i]!.seq}`,
    )
    return
  }
}

/** (2) the sink is the source. */
export async function checkSink(server: PostgresServer, index: string, found: Found): Promise<void> {
  for (const [table, columns] of [
    ['ledger', "'id', id, 'seq', seq, 'note', note, 'big', big"],
    ['extra', "'id', id, 'seq', seq, 'v', v"],
  ] as const) {
    const rows = await server.sql<{ id: string; document: string }>(
      `SELECT id::text, jsonb_build_object(${columns})::text AS document FROM soak.${table}`,
    )
    const held = documents(index, table)
    for (const { id, document } of rows) {
      const other = held.get(id)
      if (other === undefined) found.different.push(`${table} ${id} is missing in the sink`)
      else if (!isDeepStrictEqual(JSON.parse(other), JSON.parse(document)))
        found.different.push(
          `${table} ${id}: the sink holds ${other.slice(0, 80)}, the source ${document.slice(0, 80)}`,
        )
      held.delete(id)
    }
    for (const id of held.keys()) found.different.push(`${table} ${id} is a ghost`)
  }
}

function documents(index: string, table: string): Map<string, string> {
  const database = new Database(index, { timeout: 5_000 })
  try {
    const rows = database.prepare(`SELECT id, document FROM ${table}`).all() as {
      id: string
      document: string
    }[]
    return new Map(rows.map(row => [row.id, row.document]))
  } finally {
    database.close()
  }
}

/** (3) nothing was set aside. */
export async function checkDead(dataDir: string, name: string, found: Found): Promise<void> {
  await using dead = await openEntryLog({
    ...logOptions,
    directory: join(dataDir, 'logs', `${name}.dead`),
    name: `${name}.dead`,
  })
  for await (const entry of dead.entries())
    found.different.push(`dead letter ${entry.key}: ${entry.value.slice(0, 200)}`)
}

/** Polled while everything is killed: no row of the sink ever goes back. */
export function versionWatch(index: string, found: Found): () => void {
  const seen = new Map<string, number>()
  return () => {
    if (!existsSync(index)) return
    let database: Database.Database | undefined
    try {
      database = new Database(index, { timeout: 200 })
      for (const { id, version } of database.prepare('SELECT id, version FROM ledger').all() as {
        id: string
        version: number
      }[]) {
        if (version < (seen.get(id) ?? 0))
          found.backwards.push(`sink row ${id} fell from version ${seen.get(id)} to ${version}`)
        seen.set(id, version)
      }
    } catch {
      // not made yet, or locked at this moment
    } finally {
      database?.close()
    }
  }
}
