/**
 * Big values that an update did not touch, and that PostgreSQL therefore did not send (unchanged TOAST, H9). They are read again,
 * only they, in a snapshot that sees the record's transaction: an earlier one could show what the value was before it. A row that
 * is gone leaves them `missing`: its delete follows.
 */
import type pg from 'pg'
import type { Context } from '../../core/connector.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { joinRow, plain, splitRow } from '../../core/row.ts'
import { snapshotOf } from './catalog.ts'
import { query, quoteName, quoteTable, quoteText } from './connect.ts'
import { copyRows } from './copy.ts'
import type { RowPlan } from './encode.ts'

export interface Unchanged {
  readonly columns: readonly string[]
  readonly plan: RowPlan
  readonly xid: bigint
}

const ROWS_PER_QUERY = 500

/** The records with their gaps filled. `gaps` loses what was filled. */
export async function fillGaps(
  records: readonly ChangeRecord[],
  gaps: Map<ChangeRecord, Unchanged>,
  client: pg.Client,
  context: Context,
): Promise<readonly ChangeRecord[]> {
  const open = records.filter(record => gaps.has(record))
  if (open.length === 0) return records
  const filled = new Map<ChangeRecord, ChangeRecord>()
  const xids = open.map(record => gaps.get(record)!.xid)
  const tables = [...new Set(open.map(record => quoteTable(record.table)))]
  await inSnapshot(client, context, xids, tables, async () => {
    for (const group of groupsOf(open, gaps))
      for (const [record, whole] of await readAgain(group, gaps, client)) filled.set(record, whole)
  })
  for (const record of open) gaps.delete(record)
  return records.map(record => filled.get(record) ?? record)
}

/** Runs `read` in a snapshot that sees every one of `xids`: a commit is decoded before it is visible. */
async function inSnapshot(
  client: pg.Client,
  { clock, signal }: Context,
  xids: readonly bigint[],
  tables: readonly string[],
  read: () => Promise<void>,
): Promise<void> {
  for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 200)) {
    await query(client, 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    try {
      // The lock first, the snapshot second: a rewrite that commits between them would leave this snapshot an empty table.
      await query(client, `LOCK TABLE ${tables.join(', ')} IN ACCESS SHARE MODE`)
      const [row] = await query<{ snapshot: string }>(
        client,
        'SELECT pg_current_snapshot()::text AS snapshot',
      )
      const snapshot = snapshotOf(row!.snapshot)
      if (xids.every(xid => snapshot.sees(xid))) return await read()
    } finally {
      await query(client, 'ROLLBACK')
    }
    if (signal.aborted) return
    await clock.sleep(waitMs, signal)
  }
}

/** By shape and columns, so that one statement reads many rows. */
function groupsOf(
  open: readonly ChangeRecord[],
  gaps: ReadonlyMap<ChangeRecord, Unchanged>,
): ChangeRecord[][] {
  const groups = new Map<RowPlan, Map<string, ChangeRecord[]>>()
  for (const record of open) {
    const { plan, columns } = gaps.get(record)!
    const ofPlan = groups.get(plan) ?? new Map<string, ChangeRecord[]>()
    groups.set(plan, ofPlan)
    const id = columns.join('\0')
    ofPlan.set(id, [...(ofPlan.get(id) ?? []), record])
  }
  const cut = (list: ChangeRecord[]) =>
    Array.from({ length: Math.ceil(list.length / ROWS_PER_QUERY) }, (_, i) =>
      list.slice(i * ROWS_PER_QUERY, (i + 1) * ROWS_PER_QUERY),
    )
  return [...groups.values()].flatMap(ofPlan => [...ofPlan.values()].flatMap(cut))
}

async function readAgain(
  records: readonly ChangeRecord[],
  gaps: ReadonlyMap<ChangeRecord, Unchanged>,
  client: pg.Client,
): Promise<Map<ChangeRecord, ChangeRecord>> {
  const { plan, columns } = gaps.get(records[0]!)!
  const found = await valuesOf([...new Set(records.map(record => record.key))], columns, plan, client)
  return new Map(records.map(record => [record, completed(record, columns, found.get(record.key) ?? null)]))
}

/** Key → the row's key and wanted columns, as JSON text. */
async function valuesOf(
  keys: readonly string[],
  columns: readonly string[],
  plan: RowPlan,
  client: pg.Client,
): Promise<Map<string, string>> {
  const { table } = plan
  const wanted = [...table.key, ...columns]
  const narrow: RowPlan = {
    table: { ...table, columns: wanted.map(name => table.columns.find(column => column.name === name)!) },
    columns: wanted.map(name => plan.columns.find(column => column?.name === name)!),
    key: plan.key.map((key, index) => ({ ...key, index })),
  }
  const names = table.key.map(quoteName)
  const rows = keys.map(
    key =>
      `(${splitRow(key)
        .values.map(raw => quoteText(plain(raw)))
        .join(',')})`,
  )
  // The literals are unknown until compared, so that each takes its column's type.
  const condition =
    rows.length === 1 ? `(${names.join(',')}) = ${rows[0]}` : `(${names.join(',')}) IN (${rows.join(',')})`
  const copied = await copyRows(
    client,
    `SELECT ${wanted.map(quoteName).join(',')} FROM ${quoteTable(table)} WHERE ${condition}`,
    narrow,
  )
  return new Map(copied.keys.map((key, i) => [key, copied.rows[i]!]))
}

/** The missing columns in their places; `found` null: the row is gone, and the record says what is missing. */
function completed(record: ChangeRecord, columns: readonly string[], found: string | null): ChangeRecord {
  if (found === null)
    return { ...record, source: `${record.source.slice(0, -1)},"missing":${JSON.stringify(columns)}}` }
  const had = splitRow(record.after!)
  const read = splitRow(found)
  const values = new Map(read.names.map((name, i) => [name, read.values[i]!]))
  for (const [i, name] of had.names.entries()) values.set(name, had.values[i]!)
  const names = inOrder(record.table).filter(name => values.has(name))
  return { ...record, after: joinRow({ names, values: names.map(name => values.get(name)!) }) }
}

const inOrder = ({ columns }: Table): string[] => columns.map(column => column.name)
