/**
 * What Millrace makes in the database: a publication and a replication slot, both of the pipeline's name, and messages in its
 * log. Nothing else is ever written there.
 */
import type pg from 'pg'
import { ConnectorError } from '../../core/errors.ts'
import { postgresError, query, quoteName, quoteTable, quoteText, targetOf } from './connect.ts'

interface TableName {
  readonly schema: string
  readonly name: string
}

/**
 * ONLY: a table that inherits is followed under its own name or not at all; partitions are in it all the same, and publish
 * under their root's name.
 */
export const createPublicationSql = (name: string, tables: readonly TableName[]): string =>
  `CREATE PUBLICATION ${quoteName(name)} FOR TABLE ${tables.map(table => `ONLY ${quoteTable(table)}`).join(', ')} WITH (publish_via_partition_root = true)`

export interface PublicationFound {
  readonly publishes: {
    insert: boolean
    update: boolean
    delete: boolean
    truncate: boolean
    viaRoot: boolean
  }
  readonly tables: readonly (TableName & {
    /** null: before PostgreSQL 15, all. */
    readonly columns: readonly string[] | null
    readonly filter: string | null
  })[]
}

/** null: there is none of this name. */
export async function findPublication(client: pg.ClientBase, name: string): Promise<PublicationFound | null> {
  const [row] = await query<{
    insert: boolean
    update: boolean
    delete: boolean
    truncate: boolean
    viaRoot: boolean
  }>(
    client,
    `SELECT pubinsert AS insert, pubupdate AS update, pubdelete AS delete, pubtruncate AS truncate, pubviaroot AS "viaRoot"
     FROM pg_publication WHERE pubname = $1`,
    [name],
  )
  if (!row) return null
  const tables = await query<{
    schema: string
    name: string
    columns: string[] | null
    filter: string | null
  }>(
    client,
    // attnames and rowfilter are there since 15.
    `SELECT schemaname AS schema, tablename AS name, to_jsonb(t)->'attnames' AS columns, to_jsonb(t)->>'rowfilter' AS filter
     FROM pg_publication_tables t WHERE pubname = $1`,
    [name],
  )
  return { publishes: row, tables }
}

/** What is wrong with a publication that is there, with the statement that mends each. Empty: it serves. */
export function publicationFaults(
  name: string,
  found: PublicationFound,
  tables: readonly (TableName & {
    readonly kind: string
    readonly columns: readonly { readonly name: string }[]
  })[],
): readonly { readonly fault: string; readonly mend: string }[] {
  const faults: { fault: string; mend: string }[] = []
  const { publishes } = found
  const alter = `ALTER PUBLICATION ${quoteName(name)}`
  if (!(publishes.insert && publishes.update && publishes.delete && publishes.truncate))
    faults.push({
      fault: 'does not publish every kind of change',
      mend: `${alter} SET (publish = 'insert, update, delete, truncate');`,
    })
  if (!publishes.viaRoot && tables.some(table => table.kind === 'p'))
    faults.push({
      fault: 'publishes partitions under their own names',
      mend: `${alter} SET (publish_via_partition_root = true);`,
    })
  for (const table of tables) {
    const has = found.tables.find(one => one.schema === table.schema && one.name === table.name)
    const lacks = table.columns.filter(column => has?.columns && !has.columns.includes(column.name))
    if (!has && !(table.kind === 'p' && !publishes.viaRoot))
      faults.push({
        fault: `lacks ${quoteTable(table)}`,
        mend: `${alter} ADD TABLE ONLY ${quoteTable(table)};`,
      })
    else if (has?.filter || lacks.length > 0)
      faults.push({
        fault: has?.filter
          ? `leaves out rows of ${quoteTable(table)}`
          : `leaves out columns of ${quoteTable(table)}: ${lacks.map(one => one.name).join(', ')}`,
        mend: `${alter} DROP TABLE ${quoteTable(table)}; ${alter} ADD TABLE ONLY ${quoteTable(table)};`,
      })
  }
  return faults
}

/** Makes it, or holds the one that is there against the tables: `config` with the statements that mend it. Waits for no lock but the tables'. */
export async function ensurePublication(
  client: pg.ClientBase,
  name: string,
  tables: Parameters<typeof publicationFaults>[2],
): Promise<'created' | 'exists'> {
  const found = await findPublication(client, name)
  if (!found) {
    const sql = createPublicationSql(name, tables)
    try {
      await client.query(sql)
      return 'created'
    } catch (error) {
      const classified = postgresError(error, targetOf(client), `cannot make the publication "${name}"`)
      if (!(classified instanceof ConnectorError) || classified.kind !== 'auth') throw classified
      throw new ConnectorError('auth', classified.message, {
        cause: error,
        hint: `An owner of the tables who may CREATE in the database runs this once; Millrace then uses it: ${sql};`,
      })
    }
  }
  const faults = publicationFaults(name, found, tables)
  if (faults.length === 0) return 'exists'
  throw new ConnectorError(
    'config',
    `the publication "${name}" of ${targetOf(client).text} ${faults.map(one => one.fault).join('; ')}`,
    { hint: faults.map(one => one.mend).join('\n') },
  )
}

export interface SlotState {
  readonly plugin: string | null
  readonly database: string | null
  readonly active: boolean
  readonly activePid: number | null
  readonly confirmedLsn: string | null
  readonly restartLsn: string | null
  /** reserved, extended, unreserved, lost. */
  readonly walStatus: string | null
  /** Bytes left before it may be lost; null: without limit. */
  readonly safeWalBytes: number | null
  /** Bytes of log that the server keeps for it. */
  readonly heldWalBytes: number | null
  /** Why it can never be read again; null: it can. */
  readonly lost: string | null
}

/** null: there is none of this name. */
export async function slotState(client: pg.ClientBase, slot: string): Promise<SlotState | null> {
  const [row] = await query<{ [name: string]: string | null } & { active: boolean; pid: number | null }>(
    client,
    `SELECT plugin, database, active, active_pid AS pid, confirmed_flush_lsn::text AS confirmed, restart_lsn::text AS restart,
       wal_status AS status, safe_wal_size AS safe, to_jsonb(s)->>'invalidation_reason' AS reason,
       to_jsonb(s)->>'conflicting' AS conflicting,
       CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 END AS held
     FROM pg_replication_slots s WHERE slot_name = $1`,
    [slot],
  )
  if (!row) return null
  const isLost = row.status === 'lost' || row.reason || row.conflicting === 'true'
  return {
    plugin: row.plugin ?? null,
    database: row.database ?? null,
    active: row.active,
    activePid: row.pid,
    confirmedLsn: row.confirmed ?? null,
    restartLsn: row.restart ?? null,
    walStatus: row.status ?? null,
    safeWalBytes: row.safe == null ? null : Number(row.safe),
    heldWalBytes: row.held == null ? null : Number(row.held),
    lost: isLost ? (row.reason ?? 'wal_removed') : null,
  }
}

export interface Waiting {
  sleep(ms: number): Promise<void>
  /** Default 10,000. */
  readonly timeoutMs?: number
}

/** Ends whoever reads the slot, be it a zombie of ours, and resolves when it is free (H10). Answers the pids that were ended. */
export async function freeSlot(
  client: pg.ClientBase,
  slot: string,
  { sleep, timeoutMs = 10_000 }: Waiting,
): Promise<number[]> {
  const ended: number[] = []
  for (let waited = 0; ; waited += 20) {
    const state = await slotState(client, slot)
    if (!state?.active || state.activePid === null) return ended
    if (!ended.includes(state.activePid)) {
      await query(client, 'SELECT pg_terminate_backend($1)', [state.activePid])
      ended.push(state.activePid)
    }
    if (waited >= timeoutMs)
      throw new ConnectorError(
        'unavailable',
        `replication slot "${slot}" of ${targetOf(client).text} is still read by process ${state.activePid}, which was told to end`,
      )
    await sleep(20)
  }
}

/** Repeatable. Answers what was dropped, for people. */
export async function dropUpstream(
  client: pg.ClientBase,
  names: { readonly slot: string; readonly publication: string },
  waiting: Waiting,
): Promise<string[]> {
  const dropped: string[] = []
  if (await slotState(client, names.slot)) {
    await freeSlot(client, names.slot, waiting)
    await query(client, 'SELECT pg_drop_replication_slot($1)', [names.slot])
    dropped.push(`replication slot ${names.slot}`)
  }
  if (await findPublication(client, names.publication)) {
    await query(client, `DROP PUBLICATION IF EXISTS ${quoteName(names.publication)}`)
    dropped.push(`publication ${names.publication}`)
  }
  return dropped
}

/**
 * Into the database's log. Transactional: a transaction of its own, delivered at its commit, which waits for no standby; so the
 * client must not be inside one.
 */
export async function emitMessage(
  client: pg.ClientBase,
  isTransactional: boolean,
  prefix: string,
  content: string,
): Promise<void> {
  const select = `SELECT pg_logical_emit_message(${isTransactional}, ${quoteText(prefix)}, ${quoteText(content)})`
  await query(
    client,
    isTransactional ? `BEGIN; SET LOCAL synchronous_commit = local; ${select}; COMMIT` : select,
  )
}
