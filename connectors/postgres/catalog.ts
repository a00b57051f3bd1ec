/** What the database says of itself and of its tables. Reads the system catalogs only; changes nothing. */
import type pg from 'pg'
import { ConnectorError } from '../../core/errors.ts'
import { matchesTable, type PostgresConfig, takesColumn } from './config.ts'
import { connect, query } from './connect.ts'
import { type RowPlan, rowPlan } from './encode.ts'
import { arrayOf, isKnownType, type PgType, TEXT, typeOf } from './values.ts'

export const OLDEST_VERSION = 14

export interface SystemIdentity {
  /** Made by initdb: 64 bits, as text. */
  readonly systemId: string
  readonly timeline: number
  /** How far the server has written. */
  readonly lsn: string
}

/** IDENTIFY_SYSTEM on a replication connection: the timeline is the current one, whatever the last checkpoint says. */
export async function identifySystem(config: { readonly url: string }): Promise<SystemIdentity> {
  const client = await connect(config, { replication: true })
  try {
    const [row] = await query<{ systemid: string; timeline: number; xlogpos: string }>(
      client,
      'IDENTIFY_SYSTEM',
    )
    return { systemId: row!.systemid, timeline: Number(row!.timeline), lsn: row!.xlogpos }
  } finally {
    await client.end()
  }
}

export interface ServerFacts {
  /** 18. */
  readonly major: number
  readonly version: string
  readonly isReplica: boolean
  /** Microseconds since 1970. */
  readonly nowUs: number
  readonly startedUs: number
  readonly encoding: string
}

/** Throws `config` below version 14, whose pgoutput knows no messages. */
export async function serverFacts(client: pg.ClientBase): Promise<ServerFacts> {
  const [row] = await query<{ [name: string]: string }>(
    client,
    `SELECT current_setting('server_version_num') AS number, current_setting('server_version') AS version,
       pg_is_in_recovery()::text AS replica, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now,
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8 AS started, current_setting('server_encoding') AS encoding`,
  )
  const { number, version, replica, now, started, encoding } = row! as Record<
    'number' | 'version' | 'replica' | 'now' | 'started' | 'encoding',
    string
  >
  const major = Math.floor(Number(number) / 10_000)
  if (major < OLDEST_VERSION) throw tooOld(version)
  return {
    major,
    version,
    isReplica: replica === 'true',
    nowUs: Number(now),
    startedUs: Number(started),
    encoding,
  }
}

export const tooOld = (version: string): ConnectorError =>
  new ConnectorError('config', `PostgreSQL ${version} is too old: ${OLDEST_VERSION} or newer is needed`, {
    hint: 'Before 14 logical messages do not reach subscribers; upgrade the server (pg_upgrade).',
  })

export interface Column {
  readonly name: string
  /** As declared: a domain's own oid, as Relation messages have it. */
  readonly oid: number
  /** With domains resolved. */
  readonly type: PgType
}

/** Where rows lie: the table itself, or each leaf partition. */
export interface Leaf {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** r; f for a foreign table, whose changes nobody sees. */
  readonly kind: string
  /** Changes with every rewrite. */
  readonly filenode: number
  readonly blocks: number
}

export interface CatalogTable {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: 'r' | 'p'
  /** p permanent, u unlogged, t temporary. */
  readonly persistence: 'p' | 'u' | 't'
  readonly identity: 'd' | 'n' | 'f' | 'i'
  /** Of the replica identity's index, else of the primary key, in key order; empty: none. */
  readonly key: readonly string[]
  /** Without generated columns, in the order of the table. */
  readonly columns: readonly Column[]
  /** Never read: their values are not in the log. */
  readonly generated: readonly string[]
  readonly rows: number
  readonly leaves: readonly Leaf[]
}

/** Anything that rows can be read from, by name. */
export interface Name {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** pg_class.relkind */
  readonly kind: string
  /** Partitioned tables above it. */
  readonly ancestors: readonly number[]
}

/** Tables, views and so on outside the system's schemas. */
export async function relationNames(client: pg.ClientBase): Promise<Name[]> {
  const rows = await query<{
    oid: number
    schema: string
    name: string
    kind: string
    ancestors: number[] | null
  }>(
    client,
    `SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind,
       CASE WHEN c.relispartition THEN array(SELECT p.relid::oid FROM pg_partition_ancestors(c.oid) p WHERE p.relid <> c.oid) END AS ancestors
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
     ORDER BY 2, 3`,
  )
  return rows.map(({ ancestors, ...row }) => ({ ...row, ancestors: ancestors ?? [] }))
}

export interface Matched {
  readonly tables: readonly Name[]
  /** Patterns that match nothing that can be followed, with what they match instead. */
  readonly missing: readonly { readonly pattern: string; readonly instead: readonly Name[] }[]
}

/** Ordinary and partitioned tables by the patterns. A partition comes with its parent, and alone only if that is not matched. */
export function matchTables(names: readonly Name[], patterns: readonly string[]): Matched {
  const found = new Map<number, Name>()
  const missing: { pattern: string; instead: Name[] }[] = []
  for (const pattern of patterns) {
    const all = names.filter(({ schema, name }) => matchesTable(pattern, schema, name))
    const tables = all.filter(({ kind }) => kind === 'r' || kind === 'p')
    for (const table of tables) found.set(table.oid, table)
    if (tables.length === 0) missing.push({ pattern, instead: all })
  }
  const tables = [...found.values()].filter(({ ancestors }) => !ancestors.some(oid => found.has(oid)))
  return {
    tables: tables.sort((a, b) => (`${a.schema}.${a.name}` < `${b.schema}.${b.name}` ? -1 : 1)),
    missing,
  }
}

/** Of these, those that still exist, in the order of `oids`. */
export async function describeTables(
  client: pg.ClientBase,
  oids: readonly number[],
): Promise<CatalogTable[]> {
  if (oids.length === 0) return []
  const tables = await query<TableRow>(client, TABLES, [oids])
  const columns = await query<ColumnRow>(client, COLUMNS, [oids])
  const leaves = await query<LeafRow>(client, LEAVES, [oids])
  const types = await resolveTypes(client, [...new Set(columns.map(column => column.type))])
  return oids.flatMap(oid => {
    const table = tables.find(one => one.oid === oid)
    if (!table) return []
    const own = columns.filter(column => column.table === oid)
    const below = leaves.filter(leaf => leaf.root === oid)
    return {
      ...table,
      key: table.key ?? [],
      columns: own
        .filter(column => !column.isGenerated)
        .map(({ name, type }) => ({ name, oid: type, type: types.get(type) ?? TEXT })),
      generated: own.filter(column => column.isGenerated).map(({ name }) => name),
      rows: below.reduce((sum, leaf) => sum + rowsOf(leaf), 0),
      leaves: below.map(({ root: _, tuples: __, ...leaf }) => ({
        ...leaf,
        filenode: leaf.filenode ?? 0,
        blocks: Number(leaf.blocks),
      })),
    }
  })
}

type TableRow = Omit<CatalogTable, 'key' | 'columns' | 'generated' | 'rows' | 'leaves'> & {
  key: string[] | null
}
const TABLES = `
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relpersistence AS persistence, c.relreplident AS identity,
  (SELECT array_agg(a.attname::text ORDER BY k.place)
   FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place), pg_attribute a
   WHERE i.indrelid = c.oid AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END
     AND k.place <= i.indnkeyatts AND a.attrelid = c.oid AND a.attnum = k.number) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1::oid[]) AND c.relkind IN ('r', 'p')`

interface ColumnRow {
  table: number
  name: string
  type: number
  isGenerated: boolean
}
const COLUMNS = `
SELECT attrelid AS table, attname AS name, atttypid AS type, attgenerated <> '' AS "isGenerated" FROM pg_attribute
WHERE attrelid = ANY($1::oid[]) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum`

type LeafRow = Omit<Leaf, 'blocks' | 'filenode'> & {
  root: number
  tuples: number
  blocks: string
  filenode: number | null
}
/** pg_partition_tree of an ordinary table is itself since 12. Partitioned tables among the leaves hold no rows. */
const LEAVES = `
SELECT root.oid AS root, c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.reltuples::float8 AS tuples,
  pg_relation_filenode(c.oid) AS filenode,
  CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int ELSE 0 END AS blocks
FROM unnest($1::oid[]) AS root(oid) JOIN pg_class t ON t.oid = root.oid
CROSS JOIN LATERAL (
  SELECT p.relid::oid AS oid FROM pg_partition_tree(root.oid) p WHERE t.relkind = 'p' AND p.isleaf
  UNION ALL SELECT root.oid WHERE t.relkind = 'r') leaf
JOIN pg_class c ON c.oid = leaf.oid AND c.relkind <> 'p' JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2`

/** A row of a table that was never analysed: a hundred of them fit a block, as a guess. */
const rowsOf = ({ tuples, blocks }: LeafRow): number =>
  tuples >= 0 ? Math.round(tuples) : Number(blocks) * 60

/** By oid: domains down to their base, arrays by their element. */
export async function resolveTypes(
  client: pg.ClientBase,
  oids: readonly number[],
): Promise<ReadonlyMap<number, PgType>> {
  const unknown = oids.filter(oid => !isKnownType(oid))
  const types = new Map(oids.filter(isKnownType).map(oid => [oid, typeOf(oid)]))
  if (unknown.length === 0) return types
  const rows = await query<{ of: number; base: number; element: number | null; delimiter: string | null }>(
    client,
    `WITH RECURSIVE base AS (
       SELECT oid AS of, oid, typtype, typbasetype FROM pg_type WHERE oid = ANY($1::oid[])
       UNION ALL SELECT b.of, t.oid, t.typtype, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd')
     SELECT base.of, base.oid AS base, e.oid AS element, e.typdelim AS delimiter
     FROM base LEFT JOIN pg_type e ON e.typarray = base.oid WHERE base.typtype <> 'd'`,
    [unknown],
  )
  // A domain's base or an array's element may be a domain or an array again; each round is one step down.
  const next = rows.flatMap(({ base, of, element }) => [
    ...(element === null ? [] : [element]),
    ...(base === of ? [] : [base]),
  ])
  const below = await resolveTypes(client, [...new Set(next)])
  for (const { of, base, element, delimiter } of rows) {
    if (isKnownType(base)) types.set(of, typeOf(base))
    else if (element !== null) types.set(of, arrayOf(below.get(element) ?? TEXT, delimiter ?? ','))
    else types.set(of, TEXT)
  }
  return types
}

/**
 * Of the columns of `wire` (a Relation's), or, without it, of the taken columns: for COPY. The log may be older than the
 * catalog: a column that is gone since is taken as the wire has it. `types` (resolveTypes of the wire's oids) tells apart
 * domains and arrays of such a column; without it they are text.
 */
export function planOf(
  table: CatalogTable,
  columns: PostgresConfig['columns'],
  wire?: readonly { readonly name: string; readonly oid: number }[],
  types?: ReadonlyMap<number, PgType>,
): RowPlan {
  const { schema, name, key, generated } = table
  const isTaken = (column: string) =>
    !generated.includes(column) && (key.includes(column) || takesColumn(columns, schema, name, column))
  const of = wire ?? table.columns.filter(column => isTaken(column.name))
  return rowPlan(
    schema,
    name,
    key,
    of.map(({ name: column, oid }) => {
      const known = table.columns.find(one => one.name === column && one.oid === oid)
      return { name: column, type: known?.type ?? types?.get(oid) ?? typeOf(oid), isTaken: isTaken(column) }
    }),
  )
}

export interface PgSnapshot {
  readonly xmin: bigint
  readonly xmax: bigint
  /** Whether its rows are in what this snapshot reads. `xid` of 64 bits, of a whole transaction. */
  sees(xid: bigint): boolean
}

/** pg_current_snapshot()'s text: "xmin:xmax:xip,xip". */
export function snapshotOf(text: string): PgSnapshot {
  const parts = text.match(/^(\d+):(\d+):([\d,]*)$/)
  if (!parts) throw new ConnectorError('bug', `not a snapshot: ${text}`)
  const xmin = BigInt(parts[1]!)
  const xmax = BigInt(parts[2]!)
  const running = new Set(parts[3] === '' ? [] : parts[3]!.split(',').map(BigInt))
  return { xmin, xmax, sees: xid => xid < xmin || (xid < xmax && !running.has(xid)) }
}

/** Transactions that have not ended for a snapshot taken now, those that wait for a standby with their commit written included. */
export async function runningTransactions(client: pg.ClientBase): Promise<readonly bigint[]> {
  const rows = await query<{ xid: string }>(
    client,
    'SELECT pg_snapshot_xip(pg_current_snapshot())::text AS xid',
  )
  return rows.map(({ xid }) => BigInt(xid))
}

/** The 32 bits of a message as the 64-bit xid nearest to `reference` (any recent one: a snapshot's xmax). */
export function widenXid(xid: number, reference: bigint): bigint {
  const epoch = 1n << 32n
  const near = (reference & ~(epoch - 1n)) | BigInt(xid)
  if (near > reference + (epoch >> 1n)) return near >= epoch ? near - epoch : near
  return near + (epoch >> 1n) < reference ? near + epoch : near
}
