/**
 * Looks whether a source could work, and changes nothing. Without a connection there is one thing to say; with one, everything
 * that is wrong is said at once, each with the statement or setting that mends it, so that a person needs one round.
 */
import type pg from 'pg'
import { ConnectorError } from '../../core/errors.ts'
import {
  type CatalogTable,
  describeTables,
  matchTables,
  OLDEST_VERSION,
  relationNames,
  tooOld,
} from './catalog.ts'
import { columnProblems, missingProblem, type Problem, problem, shapeProblems } from './check-tables.ts'
import type { PostgresConfig } from './config.ts'
import { connect, query, quoteName, quoteTable, targetOf } from './connect.ts'
import { createPublicationSql, findPublication, publicationFaults, slotState } from './upstream.ts'

/** Slot and publication of the pipeline; both may be there already. */
export interface UpstreamNames {
  readonly slot: string
  readonly publication: string
}

/** Resolves when nothing was found. One ConnectorError for all problems; its kind is the one that needs a person first. */
export async function check(config: PostgresConfig, names: UpstreamNames): Promise<void> {
  const client = await connect(config, { applicationName: 'millrace check' })
  try {
    const problems = await findProblems(client, config, names)
    if (problems.length > 0) throw together(problems, client)
  } finally {
    await client.end()
  }
}

const ORDER = ['config', 'offset_lost', 'auth', 'unavailable'] as const

function together(problems: readonly Problem[], client: pg.ClientBase): ConnectorError {
  const kind = ORDER.find(one => problems.some(problem => problem.kind === one))!
  const at = `PostgreSQL ${targetOf(client).text}`
  const [first] = problems
  if (problems.length === 1)
    return new ConnectorError(kind, `${at}: ${first!.message}`, { hint: first!.hint })
  const list = problems.map((problem, i) => `${i + 1}. ${problem.message}`).join('\n')
  const hints = problems.map((problem, i) => `${i + 1}. ${problem.hint}`).join('\n')
  return new ConnectorError(kind, `${at}: ${problems.length} problems\n${list}`, { hint: hints })
}

interface Facts {
  readonly number: number
  readonly version: string
  readonly walLevel: string
  readonly maxSlots: number
  readonly maxSenders: number
  readonly slots: number
  readonly senders: number
  readonly isReplica: boolean
  readonly role: string
  readonly database: string
  readonly isSuperuser: boolean
  readonly mayReplicate: boolean
  readonly mayCreate: boolean
}

async function factsOf(client: pg.ClientBase): Promise<Facts> {
  const [row] = await query<Record<keyof Facts, never>>(
    client,
    `SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version,
       current_setting('wal_level') AS "walLevel", current_setting('max_replication_slots')::int AS "maxSlots",
       current_setting('max_wal_senders')::int AS "maxSenders", (SELECT count(*)::int FROM pg_replication_slots) AS slots,
       (SELECT count(*)::int FROM pg_stat_replication) AS senders, pg_is_in_recovery() AS "isReplica",
       current_user::text AS role, current_database()::text AS database, rolsuper AS "isSuperuser",
       rolsuper OR rolreplication AS "mayReplicate",
       rolsuper OR has_database_privilege(current_database(), 'CREATE') AS "mayCreate"
     FROM pg_roles WHERE rolname = current_user`,
  )
  return row! as unknown as Facts
}

export async function findProblems(
  client: pg.ClientBase,
  config: PostgresConfig,
  names: UpstreamNames,
): Promise<Problem[]> {
  const facts = await factsOf(client)
  if (facts.number < OLDEST_VERSION * 10_000) {
    const { message, hint } = tooOld(facts.version)
    return [{ kind: 'config', message, hint: hint! }]
  }
  const relations = await relationNames(client)
  const matched = matchTables(relations, config.tables)
  const tables = await describeTables(
    client,
    matched.tables.map(({ oid }) => oid),
  )
  return [
    ...serverProblems(facts),
    ...(await slotProblems(client, facts, names.slot)),
    ...matched.missing.map(({ pattern, instead }) =>
      missingProblem(pattern, instead, relations, facts.database),
    ),
    ...tables.flatMap(shapeProblems),
    ...columnProblems(config, tables),
    ...(await rightProblems(client, facts, tables)),
    ...(await publicationProblems(client, facts, tables, names.publication)),
  ]
}

function serverProblems({ walLevel, isReplica, mayReplicate, role, maxSenders, senders }: Facts): Problem[] {
  const found: Problem[] = []
  if (walLevel !== 'logical')
    found.push(
      problem(
        'config',
        `wal_level is "${walLevel}", and must be "logical"`,
        'ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL (a managed one has a parameter, like rds.logical_replication = 1).',
      ),
    )
  if (isReplica)
    found.push(
      problem(
        'config',
        'this server is a replica',
        'Name the primary in `url`: a publication and messages are written there.',
      ),
    )
  if (!mayReplicate)
    found.push(
      problem(
        'auth',
        `role "${role}" may not replicate`,
        `ALTER ROLE ${quoteName(role)} REPLICATION; (on Amazon RDS: GRANT rds_replication TO ${quoteName(role)};)`,
      ),
    )
  // Of a role without rights the view shows no others' senders; then this is found when the stream begins.
  if (walLevel === 'logical' && senders >= maxSenders)
    found.push(
      problem(
        'unavailable',
        `all ${maxSenders} replication connections are in use (max_wal_senders)`,
        `ALTER SYSTEM SET max_wal_senders = ${maxSenders + 10}; then restart PostgreSQL, or end one: SELECT pid, application_name FROM pg_stat_replication;`,
      ),
    )
  return found
}

async function slotProblems(client: pg.ClientBase, facts: Facts, slot: string): Promise<Problem[]> {
  const state = await slotState(client, slot)
  if (!state) {
    if (facts.slots < facts.maxSlots || facts.walLevel !== 'logical') return []
    return [
      problem(
        'unavailable',
        `all ${facts.maxSlots} replication slots are in use (max_replication_slots)`,
        `ALTER SYSTEM SET max_replication_slots = ${facts.maxSlots + 10}; then restart PostgreSQL, or drop one that nobody reads: SELECT slot_name FROM pg_replication_slots WHERE NOT active; SELECT pg_drop_replication_slot('…');`,
      ),
    ]
  }
  const found: Problem[] = []
  if (state.plugin !== 'pgoutput' || state.database !== facts.database)
    found.push(
      problem(
        'config',
        `replication slot "${slot}" is another's: plugin ${state.plugin}, database ${state.database}`,
        `Name the pipeline otherwise, or drop the slot: SELECT pg_drop_replication_slot('${slot}');`,
      ),
    )
  if (state.lost !== null)
    found.push(
      problem(
        'offset_lost',
        `replication slot "${slot}" can never be read again: ${state.lost}`,
        'A new snapshot is needed: delete the pipeline and start it again. To keep more: max_slot_wal_keep_size.',
      ),
    )
  if (state.active) found.push(await inUse(client, slot, state.activePid))
  return found
}

async function inUse(client: pg.ClientBase, slot: string, pid: number | null): Promise<Problem> {
  const [who] = await query<{ name: string | null; address: string | null; user: string | null }>(
    client,
    `SELECT application_name AS name, client_addr::text AS address, usename::text AS user FROM pg_stat_activity WHERE pid = $1`,
    [pid],
  )
  const said = [
    who?.name ? `"${who.name}"` : null,
    who?.user ? `role ${who.user}` : null,
    who?.address ? `from ${who.address}` : null,
  ]
  return problem(
    'unavailable',
    `replication slot "${slot}" is read by process ${pid}: ${said.filter(one => one !== null).join(', ') || 'another role'}`,
    `Is this pipeline running elsewhere? Stop it there; or end the reader: SELECT pg_terminate_backend(${pid});`,
  )
}

async function rightProblems(
  client: pg.ClientBase,
  { role }: Facts,
  tables: readonly CatalogTable[],
): Promise<Problem[]> {
  const oids = tables.flatMap(table => [table.oid, ...table.leaves.map(leaf => leaf.oid)])
  const rows = await query<{
    schema: string
    name: string
    usage: boolean
    reads: boolean
    isSecured: boolean
  }>(
    client,
    `SELECT n.nspname AS schema, c.relname AS name, has_schema_privilege(n.oid, 'USAGE') AS usage,
       has_table_privilege(c.oid, 'SELECT') AS reads, row_security_active(c.oid) AS "isSecured"
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1::oid[]) ORDER BY 1, 2`,
    [oids],
  )
  const who = quoteName(role)
  const found: Problem[] = []
  const schemas = [...new Set(rows.filter(row => !row.usage).map(row => row.schema))]
  for (const schema of schemas)
    found.push(
      problem(
        'auth',
        `role "${role}" may not use schema ${schema}`,
        `GRANT USAGE ON SCHEMA ${quoteName(schema)} TO ${who};`,
      ),
    )
  for (const row of rows) {
    const said = `${row.schema}.${row.name}`
    if (!row.reads)
      found.push(
        problem(
          'auth',
          `role "${role}" may not read ${said}`,
          `GRANT SELECT ON ${quoteTable(row)} TO ${who};`,
        ),
      )
    else if (row.isSecured)
      found.push(
        problem(
          'auth',
          `row security hides rows of ${said} from role "${role}", in the snapshot but not in the changes`,
          `ALTER ROLE ${who} BYPASSRLS;`,
        ),
      )
  }
  return found
}

async function publicationProblems(
  client: pg.ClientBase,
  { role, database, isSuperuser, mayCreate }: Facts,
  tables: readonly CatalogTable[],
  publication: string,
): Promise<Problem[]> {
  if (tables.length === 0) return []
  const found = await findPublication(client, publication)
  if (found)
    return publicationFaults(publication, found, tables).map(({ fault, mend }) =>
      problem('config', `publication "${publication}" ${fault}`, mend),
    )
  if (isSuperuser) return []
  const rows = await query<{ schema: string; name: string }>(
    client,
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY($1::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1, 2`,
    [tables.map(({ oid }) => oid)],
  )
  if (mayCreate && rows.length === 0) return []
  const lacks = [
    ...(mayCreate ? [] : [`CREATE on database "${database}"`]),
    ...rows.map(row => `ownership of ${row.schema}.${row.name}`),
  ]
  return [
    problem(
      'auth',
      `role "${role}" may not make the publication "${publication}": it lacks ${lacks.join(', ')}`,
      `An owner of the tables runs this once, and Millrace then uses it: ${createPublicationSql(publication, tables)};`,
    ),
  ]
}
