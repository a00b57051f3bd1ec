/** Rows as rows of PostgreSQL tables, exactly once: they and the task's position change in one transaction. */
import type pg from 'pg'
import { type Context, defineSink, type SinkTarget, type TableAtSink } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { fillTable } from '../../core/format/template.ts'
import { openSqlWriter } from '../sql/writer.ts'
import { connect, parseUrl, query, quoteName, targetOf } from './connect.ts'
import { needsOf, wantedColumns } from './evolve.ts'
import { type SinkConfig, sinkConfig } from './sink-config.ts'
import { openSession, problemsError, progressTable, sinkError } from './sink-session.ts'
import { findTable } from './target.ts'

/** A commit waits for the disk: many rows share it. */
const BATCH = { records: 10_000, bytes: 8 << 20 }

async function connected<T>(options: SinkConfig, doing: string, work: (client: pg.Client) => Promise<T>) {
  const client = await connect(options, { applicationName: `millrace ${doing}` })
  try {
    return await work(client)
  } catch (error) {
    throw sinkError(error, client)
  } finally {
    await client.end()
  }
}

export const postgresSink = defineSink({
  name: 'postgres',
  summary: 'Keeps rows as rows of PostgreSQL tables, or appends every change, exactly once.',
  config: sinkConfig,
  examples: [
    {
      title: 'A copy of each table, made and kept as the source has it',
      config: { url: '${env:TARGET_URL}', schema: 'shop' },
    },
    {
      title: 'Every change as a row, in tables of their own',
      config: { url: '${env:TARGET_URL}', schema: 'history', mode: 'append', table: '${schema}_${table}' },
    },
  ],
  batch: BATCH,
  keyed: ({ mode }) => mode === 'upsert',
  delivery: () => 'exactly_once',
  target: (options, table) => {
    const { host, port, database } = parseUrl(options.url)
    return `${host}:${port}/${database} ${options.schema}.${fillTable(options.table, table, `${table.schema}.${table.name}`)}`
  },
  check: options => connected(options, 'check', client => check(client, options)),
  plan: (options, tables) => connected(options, 'plan', client => plan(client, options, tables)),
  async open(options: SinkConfig, context: Context) {
    return openSqlWriter(await openSession(options, context), options, context)
  },
  forget: (options, tasks) =>
    connected(options, 'delete', async client => {
      const table = progressTable(options.schema)
      const [found] = await query<{ is: boolean }>(client, 'SELECT to_regclass($1) IS NOT NULL AS is', [
        table,
      ])
      if (found!.is) await query(client, `DELETE FROM ${table} WHERE task = ANY($1::text[])`, [[...tasks]])
    }),
})

async function check(client: pg.Client, { schema }: SinkConfig): Promise<void> {
  const [row] = await query<Record<'isReplica' | 'mayMake' | 'isThere' | 'mayUse' | 'mayMove', boolean>>(
    client,
    `SELECT pg_is_in_recovery() AS "isReplica", has_database_privilege(current_database(), 'CREATE') AS "mayMake", n.oid IS NOT NULL AS "isThere",
       coalesce(has_schema_privilege(n.oid, 'USAGE') AND (p.oid IS NOT NULL OR has_schema_privilege(n.oid, 'CREATE')), false) AS "mayUse",
       coalesce(has_table_privilege(p.oid, 'SELECT') AND has_table_privilege(p.oid, 'INSERT') AND has_table_privilege(p.oid, 'UPDATE')
         AND has_table_privilege(p.oid, 'DELETE'), true) AS "mayMove"
     FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = $1 LEFT JOIN pg_class p ON p.relnamespace = n.oid AND p.relname = 'millrace_progress'`,
    [schema],
  )
  const { isReplica, mayMake, isThere, mayUse, mayMove } = row!
  const { text, user, database } = targetOf(client)
  const refuse = (kind: 'auth' | 'config', message: string, hint: string): never => {
    throw new ConnectorError(kind, `PostgreSQL ${text}: ${message}`, { hint })
  }
  const who = quoteName(user)
  if (isReplica) refuse('config', 'this server is a replica', 'Name the primary in `url`.')
  if (!isThere && !mayMake)
    refuse(
      'auth',
      `role "${user}" may not make the schema ${schema}`,
      `CREATE SCHEMA ${quoteName(schema)} AUTHORIZATION ${who};  or: GRANT CREATE ON DATABASE ${quoteName(database)} TO ${who};`,
    )
  if (isThere && !mayUse)
    refuse(
      'auth',
      `role "${user}" may not make tables in schema ${schema}`,
      `GRANT USAGE, CREATE ON SCHEMA ${quoteName(schema)} TO ${who};`,
    )
  if (!mayMove)
    refuse(
      'auth',
      `role "${user}" may not keep positions in ${schema}.millrace_progress`,
      `GRANT SELECT, INSERT, UPDATE, DELETE ON ${progressTable(schema)} TO ${who};`,
    )
}

async function plan(
  client: pg.Client,
  options: SinkConfig,
  tables: readonly TableAtSink[],
): Promise<readonly SinkTarget[]> {
  const { schema, mode } = options
  const targets: SinkTarget[] = []
  const problems: { message: string; hint: string }[] = []
  for (const { table, topic } of tables) {
    const place = { schema, name: fillTable(options.table, table, topic) }
    const found = await findTable(client, schema, place.name)
    const needs = needsOf(place, found, table, mode)
    problems.push(...needs.problems)
    if (found && !found.mayWrite)
      problems.push({
        message: `role "${targetOf(client).user}" may not write ${schema}.${place.name}`,
        hint: `GRANT SELECT, INSERT, UPDATE, DELETE ON ${quoteName(schema)}.${quoteName(place.name)} TO ${quoteName(targetOf(client).user)};`,
      })
    if (found && !found.mayAlter && needs.statements.length > 0)
      problems.push({
        message: `${schema}.${place.name} belongs to another role, and has to be altered: ${needs.differences.join(', ')}`,
        hint: `${needs.statements.join(';\n')};`,
      })
    targets.push({
      name: `${schema}.${place.name}`,
      tables: [`${table.schema}.${table.name}`],
      exists: found !== null,
      definition: { mode, key: table.key, columns: Object.fromEntries(wantedColumns(table, mode)) },
      differences: needs.differences,
    })
  }
  if (problems.length > 0) throw problemsError(problems, client)
  return targets
}
