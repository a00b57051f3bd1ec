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

/** (1) every committed change once and in order; a row of the snapshot is the state where it stands in the log, none older. */
export async function checkLog(
  server: PostgresServer,
  dataDir: string,
  name: string,
  found: Found,
): Promise<void> {
  // By n: triggers number it when the row is locked or inserted, so that it rises in commit order for each key. seq does not quite:
  // an insert takes its seq before it waits for the delete of the same key.
  const history = await server.sql<{ id: string; seq: string; op: string }>(
    "SELECT id, seq, op FROM soak.history WHERE tbl = 'ledger' ORDER BY n",
  )
  const committed = new Map<string, Change[]>()
  for (const { id, seq, op } of history)
    committed.set(id, [...(committed.get(id) ?? []), { op, seq: Number(seq) }])
  const logged = new Map<string, Change[]>()
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
    for (const { table, op, key, after } of records) {
      if (table.name !== 'ledger' || op === 'sweep') continue
      const id = String((JSON.parse(key) as { id: number }).id)
      const list = logged.get(id) ?? []
      logged.set(id, list)
      list.push({ op, seq: after === null ? -1 : (JSON.parse(after) as { seq: number }).seq })
      if (op === 'r') found.rows++
      else found.changes++
    }
  for (const [id, list] of logged) compareLists(id, list, committed.get(id) ?? [], found)
}

/** What was streamed is the tail of what was committed: from the slot on, each once, none left out. */
function compareLists(id: string, list: readonly Change[], committed: readonly Change[], found: Found): void {
  const streamed = list.filter(change => change.op !== 'r').length
  if (streamed > committed.length) {
    found.doubled.push(`row ${id}: ${streamed} changes in the log, ${committed.length} were committed`)
    return
  }
  /** Index in `committed` of the state the log has brought; -1: the row as it was made, before the ledger began. */
  let at = committed.length - streamed - 1
  for (const { op, seq } of list) {
    if (op === 'r') {
      const state = seq === 0 ? -1 : committed.findIndex(change => change.seq === seq && change.op !== 'd')
      if (state !== at)
        found.backwards.push(
          `row ${id}: the snapshot brings seq ${seq} (change ${state}) where the log stands at change ${at}`,
        )
      continue
    }
    const expected = committed[++at]!
    if (expected.op === op && (op === 'd' || expected.seq === seq)) continue
    found.lost.push(
      `row ${id}: change ${at} is ${op} ${seq} in the log, committed was ${expected.op} ${expected.seq}`,
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
