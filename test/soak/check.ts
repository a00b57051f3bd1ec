/** The three checks after the kills, the expected side by SQL alone. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { openEntryLog, openFileLog } from '../../core/log/file.ts'
import type { ChangeLog, EntryLog } from '../../core/log/log.ts'
import { nodeDisk } from '../../core/log/node-disk.ts'
import { type ChangeRecord, isMissingColumns } from '../../core/record.ts'
import { realClock } from '../../core/worker/clock.ts'
import type { PostgresServer } from '../servers/postgres.ts'
import { type SoakSink, TABLES } from './sinks.ts'

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

/** Of a pipeline that does not run. */
export const logIn = (dataDir: string, name: string): Promise<ChangeLog> =>
  openFileLog({ ...logOptions, directory: join(dataDir, 'logs', name), name, partitions: 1 })
export const deadIn = (dataDir: string, name: string): Promise<EntryLog> =>
  openEntryLog({ ...logOptions, directory: join(dataDir, 'logs', `${name}.dead`), name: `${name}.dead` })

export interface Found {
  changes: number
  rows: number
  documents: number
  readonly lost: string[]
  readonly backwards: string[]
  readonly doubled: string[]
  readonly different: string[]
}

export const nothingFound = (): Found => ({
  changes: 0,
  rows: 0,
  documents: 0,
  lost: [],
  backwards: [],
  doubled: [],
  different: [],
})

/** Each fault in a line. */
export const foundIn = (found: Found): string[] =>
  (['lost', 'backwards', 'doubled', 'different'] as const).flatMap(kind =>
    found[kind].map(text => `${kind}: ${text}`),
  )

/** For a test: of tens of thousands its runner would draw the difference for longer than the test may take. */
export function firstFound(found: Found): string[] {
  const all = foundIn(found)
  return all.length > 20 ? [...all.slice(0, 20), `and ${all.length - 20} more`] : all
}

export const faultsOf = (found: Found): number => foundIn(found).length

/** op 't': the table was emptied. `big`: md5 of the value; undefined: the log says that it is missing. */
interface Change {
  readonly n: number
  readonly op: string
  readonly seq: number
  readonly big: string | null | undefined
}
type Lists = Map<string, Change[]>

const hasNoRow = (op: string): boolean => op === 'd' || op === 't'

/**
 * (1) every committed change once and in order; a row of the snapshot is the state where it stands in the log, none older.
 * `mark`: changes of the history above it were made when the slot stood, so that none of them may be missing at the front.
 */
export async function checkLog(
  server: PostgresServer,
  log: ChangeLog,
  mark: number,
  found: Found,
): Promise<void> {
  const logged = await loggedOf(log, found)
  for (const table of TABLES) {
    const committed = await committedOf(server, table)
    const lists = logged.get(table) ?? new Map<string, Change[]>()
    for (const id of new Set([...committed.keys(), ...lists.keys()])) {
      if (id === EMPTIED) continue
      const all = merged(committed, id)
      const list = merged(lists, id)
      compareLists(`row ${id} of ${table}`, list, all, mark, found)
    }
  }
}

/** The TRUNCATEs of a table are part of the story of each of its rows. */
const EMPTIED = 'emptied'
function merged(lists: Lists, id: string): Change[] {
  const own = lists.get(id) ?? []
  const emptied = lists.get(EMPTIED)
  return emptied ? [...own, ...emptied].sort((a, b) => a.n - b.n) : own
}

function add(lists: Lists, id: string, change: Change): void {
  const list = lists.get(id)
  if (list) list.push(change)
  else lists.set(id, [change])
}

/**
 * By n: it is numbered when the row is locked or inserted, so that it rises in commit order for each key. seq does not quite: an
 * insert takes its seq before it waits for the delete of the same key.
 */
async function committedOf(server: PostgresServer, table: string): Promise<Lists> {
  const rows = await server.sql<{ n: string; id: string; seq: string; op: string; big: string | null }>(
    'SELECT n, id, seq, op, big FROM soak.history WHERE tbl = $1 ORDER BY n',
    [table],
  )
  const lists: Lists = new Map()
  for (const { n, id, seq, op, big } of rows)
    add(lists, op === 't' ? EMPTIED : id, { n: Number(n), seq: Number(seq), op, big })
  return lists
}

/** Of each table, in the log's order. */
async function loggedOf(log: ChangeLog, found: Found): Promise<Map<string, Lists>> {
  const tables = new Map<string, Lists>()
  await using reader = await log.reader({
    consumer: 'check',
    partition: 0,
    from: null,
    signal: new AbortController().signal,
    untilEnd: true,
  })
  for await (const { records } of reader)
    for (const record of records) {
      const lists = tables.get(record.table.name) ?? new Map<string, Change[]>()
      tables.set(record.table.name, lists)
      if (record.op === 'r') found.rows++
      else found.changes++
      if (record.op === 'sweep') add(lists, EMPTIED, { n: record.version, op: 't', seq: -1, big: null })
      else add(lists, String((JSON.parse(record.key) as { id: number }).id), changeOf(record, record.version))
    }
  return tables
}

function changeOf(record: ChangeRecord, n: number): Change {
  if (record.after === null) return { n, op: record.op, seq: -1, big: null }
  const { seq, big } = JSON.parse(record.after) as { seq: number; big?: string | null }
  const hash = typeof big === 'string' ? createHash('md5').update(big).digest('hex') : null
  return { n, op: record.op, seq, big: isMissingColumns(record) ? undefined : hash }
}

const shown = (list: readonly Change[], at: number): string =>
  list
    .slice(Math.max(0, at - 4), at + 5)
    .map(({ op, seq }) => `${op}${seq}`)
    .join(' ')

/** What was streamed is the tail of what was committed: from the slot on, each once, none left out. */
function compareLists(
  row: string,
  list: readonly Change[],
  committed: readonly Change[],
  mark: number,
  found: Found,
): void {
  const streamed = list.filter(change => change.op !== 'r').length
  const needed = committed.filter(change => change.n > mark).length
  const said = `${streamed} changes in the log, ${committed.length} were committed, ${needed} of them surely after the slot was made`
  const ends = `; log ends ${shown(list, list.length)}, history ends ${shown(committed, committed.length)}`
  if (streamed > committed.length) {
    found.doubled.push(`${row}: ${said}${ends}`)
    return
  }
  if (streamed < needed) {
    found.lost.push(`${row}: ${said}${ends}`)
    return
  }
  /** Index in `committed` of the state the log has brought; -1: the row as it was made, before the ledger began. */
  let at = committed.length - streamed - 1
  for (const [i, { op, seq, big }] of list.entries()) {
    const around = `; log …${shown(list, i)}…, history …${shown(committed, at)}…`
    if (op === 'r') {
      const state = seq === 0 ? -1 : committed.findIndex(one => one.seq === seq && !hasNoRow(one.op))
      if (state !== at)
        found.backwards.push(
          `${row}: the snapshot brings seq ${seq} (change ${state}) where the log stands at change ${at}${around}`,
        )
      else if (at >= 0 && committed[at]!.big !== big)
        found.different.push(`${row}: the big value of the snapshot is not that of seq ${seq}`)
      continue
    }
    const expected = committed[++at]!
    if (expected.op !== op || (!hasNoRow(op) && expected.seq !== seq)) {
      found.lost.push(
        `${row}: change ${at} is ${op} ${seq} in the log, committed was ${expected.op} ${expected.seq}${around}`,
      )
      return
    }
    if (!hasNoRow(op) && !isBigOf(big, committed, at))
      found.different.push(`${row}: the big value of ${op} ${seq} is none of those from then on${around}`)
  }
}

/** A value that was not touched is read again later: it may be one that came afterwards, and be missing where the row is gone. */
function isBigOf(big: string | null | undefined, committed: readonly Change[], at: number): boolean {
  const later = committed.slice(at)
  if (big === undefined) return later.some(({ op }) => hasNoRow(op))
  return later.some(change => !hasNoRow(change.op) && change.big === big)
}

/** (2) the sink is the source. */
export async function checkSink(
  server: PostgresServer,
  sink: SoakSink,
  folder: string,
  found: Found,
): Promise<void> {
  for (const [table, columns] of [
    ['ledger', "'id', id, 'seq', seq, 'note', note, 'big', big, 'x', x"],
    ['extra', "'id', id, 'seq', seq, 'v', v"],
  ] as const) {
    const rows = await server.sql<{ id: string; document: string }>(
      `SELECT id::text, jsonb_build_object(${columns})::text AS document FROM soak.${table}`,
    )
    const held = new Map(await sink.documents(folder, table))
    for (const { id, document } of rows) {
      found.documents++
      const other = held.get(id)
      if (other === undefined) found.different.push(`${table} ${id} is missing in the sink: ${document}`)
      else if (!isDeepStrictEqual(JSON.parse(other), JSON.parse(document)))
        found.different.push(`${table} ${id}: the sink holds ${short(other)}, the source ${short(document)}`)
      held.delete(id)
    }
    for (const id of held.keys()) found.different.push(`${table} ${id} is a ghost: ${short(held.get(id)!)}`)
  }
}

const short = (document: string): string =>
  JSON.stringify(JSON.parse(document), (_, value) => (typeof value === 'string' ? value.slice(0, 20) : value))

/** (3) nothing was set aside. */
export async function checkDead(dead: EntryLog, found: Found): Promise<void> {
  for await (const entry of dead.entries())
    found.different.push(`dead letter ${entry.key}: ${entry.value.slice(0, 200)}`)
}

/** Nothing stays upstream of a pipeline that was deleted. */
export async function checkGone(server: PostgresServer, found: Found): Promise<void> {
  const left = await server.sql<{ name: string }>(
    'SELECT slot_name AS name FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication',
  )
  for (const { name } of left) found.different.push(`${name} still stands in the server after delete`)
}
