/** The sink's connection to MySQL or MariaDB: transactions, positions, tables made and widened, rows by statements of many rows. */
import type { Context } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { Table } from '../../core/record.ts'
import { type Mode, OURS, PROGRESS } from './config.ts'
import { type Client, name as quoted, text } from './mysql-client.ts'
import { mysqlError } from './mysql-error.ts'
import { appends, removes, type Target, targetOf, upserts } from './mysql-statements.ts'
import { collationOf, findTable, type Making, needsOf } from './mysql-target.ts'
import type { Claim, Move, Session } from './session.ts'

const STATEMENT_MS = 300_000
const ABORT_MS = 5_000
/** Whoever is frozen inside a transaction holds the position's row: the server ends its connection, so that the next owner gets on. */
const BEGIN = 'SET SESSION wait_timeout = 30; START TRANSACTION'
const END = 'SET SESSION wait_timeout = 28800'

export interface MysqlOptions {
  readonly mode: Mode
  readonly table: string
  readonly key_length: number
}

export const makingOf = (client: Client, { mode, key_length }: MysqlOptions): Making => ({
  mode,
  keyLength: key_length,
  collation: collationOf(client),
})

export function mysqlSession(
  client: Client,
  type: string,
  options: MysqlOptions,
  context: Context,
): Session<Target> {
  let cutTimer: NodeJS.Timeout | undefined
  const onAbort = () => {
    cutTimer = setTimeout(() => client.destroy(), ABORT_MS).unref()
  }
  context.signal.addEventListener('abort', onAbort, { once: true })
  const run = async (sql: string) => {
    const timer = setTimeout(() => client.destroy(), STATEMENT_MS)
    try {
      return await client.run(sql)
    } finally {
      clearTimeout(timer)
    }
  }
  const runAll = async (statements: Iterable<string>) => {
    for (const statement of statements) await run(statement)
  }
  const { maxPacketBytes } = client
  return {
    name: type,
    claim: (task, epoch) => claim(client, task, epoch),
    prepare: (shape, table) => prepare(client, type, shape, table, makingOf(client, options)),
    async begin(move) {
      if (!move) await run(BEGIN)
      return move === null || (await run(`${BEGIN}; ${moveSql(move)}`)).at(-1) === 1
    },
    async commit() {
      await run(`COMMIT; ${END}`)
    },
    async rollback() {
      await run(`ROLLBACK; ${END}`)
    },
    upsert: (target, records) => runAll(upserts(target, records, maxPacketBytes)),
    remove: (target, records) => runAll(removes(target, records, maxPacketBytes)),
    append: (target, records) => runAll(appends(target, records, maxPacketBytes)),
    async sweep(target, origin, below) {
      await run(
        `DELETE FROM ${target.table} WHERE ${OURS.origin} = ${text(origin)} AND ${OURS.version} < ${below}`,
      )
    },
    highest: pipeline => highest(client, pipeline),
    errorOf: error => mysqlError(error, client.server, type),
    async [Symbol.asyncDispose]() {
      context.signal.removeEventListener('abort', onAbort)
      clearTimeout(cutTimer)
      await client[Symbol.asyncDispose]()
    },
  }
}

const moveSql = ({ task, epoch, previous, next }: Move): string =>
  `UPDATE ${PROGRESS} SET position = ${text(next)} WHERE task = ${text(task)} AND epoch = ${epoch} AND position <=> ${previous === null ? 'NULL' : text(previous)}`

async function claim(client: Client, task: string, epoch: number): Promise<Claim> {
  await client.run(
    `CREATE TABLE IF NOT EXISTS ${PROGRESS} (task varchar(255) PRIMARY KEY, position longtext, epoch bigint NOT NULL)
     ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE ${collationOf(client)}`,
  )
  await client.run(`${BEGIN}; INSERT IGNORE INTO ${PROGRESS} (task, epoch) VALUES (${text(task)}, -1)`)
  try {
    const [found] = await client.rows<{ position: string | null; epoch: string | number }>(
      `SELECT position, epoch FROM ${PROGRESS} WHERE task = ${text(task)} FOR UPDATE`,
    )
    const isOurs = Number(found!.epoch) < epoch
    if (isOurs) await client.run(`UPDATE ${PROGRESS} SET epoch = ${epoch} WHERE task = ${text(task)}`)
    return { isOurs, position: found!.position, epoch: Number(found!.epoch) }
  } finally {
    await client.run(`COMMIT; ${END}`)
  }
}

/** One at a time makes and alters tables. Neither database can do it in a transaction. */
const LOCK = "SELECT GET_LOCK('millrace', 20) AS is_ours"

async function prepare(
  client: Client,
  type: string,
  shape: Table,
  table: string,
  making: Making,
): Promise<Target> {
  let found = await findTable(client, table)
  const needed = () => {
    const needs = needsOf(table, found, shape, making)
    if (needs.problems.length > 0) throw problemsError(needs.problems, client, type)
    return needs.statements
  }
  if (needed().length > 0) {
    const [lock] = await client.rows<{ is_ours: number | null }>(LOCK)
    if (Number(lock?.is_ours) !== 1)
      throw new ConnectorError(
        'unavailable',
        `${type} ${client.server.text}: another task alters tables for long`,
      )
    try {
      found = await findTable(client, table) // another task may have been here
      for (const statement of needed()) await alter(client, type, statement)
      found = await findTable(client, table)
    } finally {
      await client.rows("SELECT RELEASE_LOCK('millrace')")
    }
  }
  return targetOf(table, found!, shape, making.mode)
}

/** What a person built on the table, or its rows, may forbid it: no trying again helps. */
async function alter(client: Client, type: string, statement: string): Promise<void> {
  try {
    await client.run(statement)
  } catch (error) {
    const told = mysqlError(error, client.server, type)
    if (!(told instanceof ConnectorError) || !['bug', 'data'].includes(told.kind)) throw told
    throw new ConnectorError('config', told.message, {
      cause: error,
      hint: told.hint ?? `Take away what is in the way, for as long as this takes: ${statement};`,
    })
  }
}

export function problemsError(
  problems: readonly { readonly message: string; readonly hint: string }[],
  client: Client,
  type: string,
): ConnectorError {
  const messages = problems.map(({ message }) => message).join('; ')
  return new ConnectorError(
    'config',
    `${type === 'mariadb' ? 'MariaDB' : 'MySQL'} ${client.server.text}: ${messages}`,
    {
      hint: [...new Set(problems.map(({ hint }) => hint))].join('\n'),
    },
  )
}

async function highest(client: Client, pipeline: string): Promise<number> {
  const tables = await client.rows<{ name: string }>(
    `SELECT v.TABLE_NAME AS name FROM information_schema.COLUMNS v JOIN information_schema.COLUMNS o
       ON o.TABLE_SCHEMA = v.TABLE_SCHEMA AND o.TABLE_NAME = v.TABLE_NAME AND o.COLUMN_NAME = ${text(OURS.origin)}
     WHERE v.TABLE_SCHEMA = ${text(client.server.database)} AND v.COLUMN_NAME = ${text(OURS.version)}`,
  )
  let most = 0
  for (const { name } of tables) {
    const [row] = await client.rows<{ version: string | number | null }>(
      `SELECT max(${OURS.version}) AS version FROM ${quoted(name)} WHERE locate(${text(`${pipeline}.`)}, ${OURS.origin}) > 0`,
    )
    most = Math.max(most, Number(row!.version ?? 0))
  }
  return most
}
