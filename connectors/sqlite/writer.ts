/**
 * Batches into tables. One write is one transaction:
 *
 *   begin immediate
 *     for each run of records between two sweeps (a sweep is a barrier, S3):
 *       the last record of each id wins; upserts refuse older versions (V4); deletes by id and version
 *     compare-and-set of the task's position on the previous one and the epoch (P2) → Fenced
 *   commit
 *
 * A record that SQLite refuses rolls all back; the records are then tried one by one, to name the bad ones (P1).
 */
import type Database from 'libsql'
import {
  assertLease,
  type Batch,
  type Context,
  type Offset,
  type Rejected,
  type Writer,
} from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'
import { documentOf, idOf } from '../../core/format/document.ts'
import { fillTable } from '../../core/format/template.ts'
import { isMissingColumns, type LogRecord, originOf } from '../../core/record.ts'
import type { SqliteConfig } from './database.ts'
import { sqliteError } from './error.ts'
import { type IndexTable, openTable } from './table.ts'

/** One row to write: document null deletes. */
interface Change {
  readonly id: string
  readonly document: string | null
  readonly version: number
  readonly origin: string
}

interface State {
  readonly database: Database.Database
  readonly options: SqliteConfig
  readonly context: Context
  readonly tables: Map<string, IndexTable>
  /** Text of the position this writer last read or wrote; null: none. */
  previous: string | null
}

export async function openWriter(
  database: Database.Database,
  options: SqliteConfig,
  context: Context,
): Promise<Writer> {
  const state: State = { database, options, context, tables: new Map(), previous: null }
  try {
    database.exec(
      'CREATE TABLE IF NOT EXISTS millrace_progress (task TEXT PRIMARY KEY, position TEXT, epoch BIGINT)',
    )
    state.previous = claim(state)
  } catch (error) {
    database.close()
    throw sqliteError(error, options.path)
  }
  return {
    write: async batch => write(state, batch),
    position: async () => (state.previous === null ? null : (JSON.parse(state.previous) as Offset)),
    highest: async () => highest(state),
    async [Symbol.asyncDispose]() {
      database.close()
    },
  }
}

export function forgetTasks(database: Database.Database, tasks: readonly string[]): void {
  if (!database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'millrace_progress'").get()) return
  const forget = database.prepare('DELETE FROM millrace_progress WHERE task = ?')
  for (const task of tasks) forget.run(task)
}

/** Stores our epoch before the first write (L1) and answers with the position. */
function claim({ database, context }: State): string | null {
  assertLease(context)
  const found = database
    .prepare('SELECT position, epoch FROM millrace_progress WHERE task = ?')
    .get(context.task) as { position: string | null; epoch: number } | undefined
  const claimed = database
    .prepare(
      `INSERT INTO millrace_progress (task, position, epoch) VALUES (?, NULL, ?)
       ON CONFLICT (task) DO UPDATE SET epoch = excluded.epoch WHERE excluded.epoch > millrace_progress.epoch`,
    )
    .run(context.task, context.epoch)
  if (claimed.changes === 0)
    throw new Fenced(`${context.task} has a newer owner, epoch ${found?.epoch}`, found?.epoch)
  return found?.position ?? null
}

function write(state: State, batch: Batch): readonly Rejected[] {
  const { database, context, options } = state
  assertLease(context)
  const offset = JSON.stringify(batch.offset)
  let refused = 0
  database.exec('BEGIN IMMEDIATE')
  try {
    refused = apply(state, batch.records)
    advance(state, offset)
    database.exec('COMMIT')
  } catch (error) {
    database.exec('ROLLBACK')
    state.tables.clear() // tables made in this transaction are gone again
    const told = sqliteError(error, options.path)
    if (!(told instanceof ConnectorError) || (told.kind !== 'data' && told.kind !== 'bug')) throw told
    const rejected = findBad(state, batch.records)
    if (rejected.length === 0) throw told
    return rejected
  }
  state.previous = offset
  context.metrics.add('refused', refused)
  return []
}

/** Answers with how many were refused as older (V4). */
function apply(state: State, records: readonly LogRecord[]): number {
  let refused = 0
  let changes = new Map<IndexTable, Map<string, Change>>()
  for (const record of records) {
    const table = tableOf(state, record)
    if (record.op === 'sweep') {
      refused += flush(changes)
      changes = new Map()
      table.sweep(originOf(record), record.below!)
      continue
    }
    if (isMissingColumns(record)) continue
    const byId = changes.get(table) ?? new Map<string, Change>()
    changes.set(table, byId)
    const change = changeOf(record, state.options)
    byId.delete(change.id) // keeps the order of the last record of each id
    byId.set(change.id, change)
  }
  return refused + flush(changes)
}

function changeOf(record: LogRecord, { numbers }: SqliteConfig): Change {
  const row = record.op === 'd' ? null : record.after
  return {
    id: idOf(record),
    document: row === null ? null : documentOf(row, record.table, numbers),
    version: record.version,
    origin: originOf(record),
  }
}

function flush(changes: ReadonlyMap<IndexTable, ReadonlyMap<string, Change>>): number {
  let refused = 0
  for (const [table, byId] of changes) {
    const upserts: unknown[] = []
    for (const { id, document, version, origin } of byId.values()) {
      if (document === null) table.delete(id, version)
      else upserts.push(id, document, version, origin)
    }
    refused += table.upsert(upserts)
  }
  return refused
}

/** Compared-and-set on the previous position and our epoch: nobody wrote since we looked (P2). */
function advance({ database, context, previous }: State, offset: string): void {
  const moved = database
    .prepare('UPDATE millrace_progress SET position = ? WHERE task = ? AND epoch = ? AND position IS ?')
    .run(offset, context.task, context.epoch, previous)
  if (moved.changes === 1) return
  const now = database.prepare('SELECT epoch FROM millrace_progress WHERE task = ?').get(context.task) as
    | { epoch: number }
    | undefined
  throw new Fenced(
    `the position of ${context.task} was moved by another writer, epoch ${now?.epoch}`,
    now?.epoch,
  )
}

/** Tries each record alone in a transaction that is always rolled back. */
function findBad(state: State, records: readonly LogRecord[]): readonly Rejected[] {
  const rejected: Rejected[] = []
  state.database.exec('BEGIN IMMEDIATE')
  try {
    for (const record of records) {
      state.database.exec('SAVEPOINT one')
      try {
        apply(state, [record])
      } catch (error) {
        rejected.push({ record, stage: 'sqlite', error: asData(error, record) })
        state.tables.clear()
      }
      state.database.exec('ROLLBACK TO one; RELEASE one')
      state.tables.clear()
    }
  } finally {
    state.database.exec('ROLLBACK')
    state.tables.clear()
  }
  return rejected
}

function asData(error: unknown, record: LogRecord): ConnectorError {
  const message = error instanceof Error ? error.message : String(error)
  return new ConnectorError(
    'data',
    `${record.topic}/${record.partition} offset ${record.offset}, key ${record.key}: ${message}`,
    { cause: error },
  )
}

function tableOf(state: State, record: LogRecord): IndexTable {
  const name = fillTable(state.options.table, record.table, record.topic)
  const table = state.tables.get(name) ?? openTable(state.database, name)
  state.tables.set(name, table)
  return table
}

function highest({ database }: State): number {
  const tables = database
    .prepare(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%version INTEGER, origin TEXT%'",
    )
    .all() as { name: string }[]
  let most = 0
  for (const { name } of tables) {
    const row = database
      .prepare(`SELECT max(version) AS version FROM "${name.replaceAll('"', '""')}"`)
      .get() as { version: number | null }
    most = Math.max(most, row.version ?? 0)
  }
  return most
}
