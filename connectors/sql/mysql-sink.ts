/** What the sinks `mysql` and `mariadb` are, but for their names and the vendor's client. */
import { z } from 'zod'
import { type Context, defineSink, type SinkTarget, type TableAtSink } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { fillTable } from '../../core/format/template.ts'
import { PROGRESS, sqlOptions } from './config.ts'
import { type Client, type Connect, connectMysql, mysqlConnection, serverOf, text } from './mysql-client.ts'
import { mysqlError } from './mysql-error.ts'
import { makingOf, mysqlSession, problemsError } from './mysql-session.ts'
import { findTable, needsOf, wantedColumns } from './mysql-target.ts'
import { openSqlWriter } from './writer.ts'

const config = z.strictObject({
  ...mysqlConnection,
  ...sqlOptions,
  key_length: z.int().min(1).max(768).default(255).meta({
    title: 'Key length',
    description:
      'Characters of a text column of the key, in tables that are made here: an index cannot hold more than 3,072 bytes.',
  }),
})
type Config = z.output<typeof config>

const BATCH = { records: 10_000, bytes: 8 << 20 }

export const mysqlSink = ({
  type,
  title,
  connect,
}: {
  type: 'mysql' | 'mariadb'
  title: string
  connect: Connect
}) => {
  const connected = async <T>(options: Config, work: (client: Client) => Promise<T>): Promise<T> => {
    await using client = await connectMysql(options, type, connect)
    try {
      return await work(client)
    } catch (error) {
      throw mysqlError(error, client.server, type)
    }
  }
  return defineSink({
    name: type,
    summary: `Keeps rows as rows of ${title} tables, or appends every change, exactly once.`,
    config,
    examples: [
      { title: 'A copy of each table', config: { url: '${env:TARGET_URL}' } },
      {
        title: 'Every change as a row',
        config: { url: '${env:TARGET_URL}', mode: 'append', table: '${schema}_${table}_changes', tls: {} },
      },
    ],
    batch: BATCH,
    keyed: ({ mode }) => mode === 'upsert',
    delivery: () => 'exactly_once',
    target: (options, table) => {
      const { host, port, database } = serverOf(options, type)
      return `${host}:${port}/${database} ${fillTable(options.table, table, `${table.schema}.${table.name}`)}`
    },
    check: options => connected(options, client => check(client, type)),
    plan: (options, tables) => connected(options, client => plan(client, type, options, tables)),
    async open(options: Config, context: Context) {
      return openSqlWriter(
        mysqlSession(await connectMysql(options, type, connect), type, options, context),
        options,
        context,
      )
    },
    forget: (options, tasks) =>
      connected(options, async client => {
        if (tasks.length === 0 || !(await findTable(client, PROGRESS))) return
        await client.run(`DELETE FROM ${PROGRESS} WHERE task IN (${tasks.map(text).join(', ')})`)
      }),
  })
}

/** What the grants say is for people; what they allow is known by whether a table can be made that goes at once. */
async function check(client: Client, type: string): Promise<void> {
  const [facts] = await client.rows<{ isReadOnly: number }>('SELECT @@global.read_only AS isReadOnly')
  if (Number(facts!.isReadOnly) === 1)
    throw new ConnectorError('config', `${type} ${client.server.text}: this server is read only`, {
      hint: 'Name the primary in `url`.',
    })
  const grants = (await client.rows<Record<string, string>>('SHOW GRANTS')).map(row => Object.values(row)[0]!)
  const lists = grants.map(grant => /^GRANT (.*?) ON (?!PROXY)/.exec(grant)?.[1]?.toUpperCase() ?? '')
  const needed = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'CREATE', 'ALTER']
  const missing = needed.filter(
    right => !lists.some(list => list.includes('ALL PRIVILEGES') || list.split(/,\s*/).includes(right)),
  )
  // A role brings rights that its name alone does not tell.
  const isByRole = grants.some(grant => !/ ON /.test(grant) && /^GRANT /.test(grant))
  if (missing.length > 0 && !isByRole)
    throw new ConnectorError('auth', `${type} ${client.server.text}: the user lacks ${missing.join(', ')}`, {
      hint: `GRANT ${needed.join(', ')} ON ${client.server.database}.* TO '${client.server.user}'@'%';`,
    })
}

async function plan(
  client: Client,
  type: string,
  options: Config,
  tables: readonly TableAtSink[],
): Promise<readonly SinkTarget[]> {
  const making = makingOf(client, options)
  const targets: SinkTarget[] = []
  const problems: { message: string; hint: string }[] = []
  for (const { table, topic } of tables) {
    const name = fillTable(options.table, table, topic)
    const found = await findTable(client, name)
    const needs = needsOf(name, found, table, making)
    problems.push(...needs.problems)
    targets.push({
      name,
      tables: [`${table.schema}.${table.name}`],
      exists: found !== null,
      definition: {
        mode: options.mode,
        key: table.key,
        columns: Object.fromEntries(wantedColumns(table, making)),
      },
      differences: needs.differences,
    })
  }
  if (problems.length > 0) throw problemsError(problems, client, type)
  return targets
}
