/** The sink's connection: transactions, positions, tables made and widened, rows by COPY or by one statement for each table. */
import pg from 'pg'
import type { Context } from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'
import type { LogRecord, Table } from '../../core/record.ts'
import { type Mode, OURS, PROGRESS } from '../sql/config.ts'
import { appendRow } from '../sql/rows.ts'
import type { Claim, Move, Session } from '../sql/session.ts'
import { connect, query, quoteName, quoteTable, quoteText, targetOf as serverOf } from './connect.ts'
import { copyIn } from './copy-in.ts'
import { codeOf, postgresError } from './error.ts'
import { needsOf } from './evolve.ts'
import type { SinkConfig } from './sink-config.ts'
import {
  appendOurs,
  copyRows,
  removeValues,
  type Target,
  targetOf,
  upsertOurs,
  upsertValues,
} from './statements.ts'
import { findTable } from './target.ts'
import { inside } from './wire.ts'

/** Fewer rows are quicker by one statement than by a COPY in a savepoint. */
const COPY_FROM_ROWS = 200
const MAX_BACKOFF = 64
/** A statement that takes longer is given up with its connection. */
const STATEMENT_MS = 300_000
/** How long a statement may go on when the task is to end. */
const ABORT_MS = 5_000

/**
 * Whoever is frozen inside a transaction holds the position's row: the server ends it, so that the next owner gets on. A commit that
 * is acknowledged must be durable, whatever the role's settings.
 */
const SETTINGS = `SET lock_timeout = '20s'; SET idle_in_transaction_session_timeout = '30s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`

export const progressTable = (schema: string): string => quoteTable({ schema, name: PROGRESS })

export async function openSession(options: SinkConfig, context: Context): Promise<Session<Target>> {
  const client = await connect(options, { applicationName: `millrace ${context.task}` })
  const cut = () => inside(client).connection.stream.destroy()
  let cutTimer: NodeJS.Timeout | undefined
  const onAbort = () => {
    cutTimer = setTimeout(cut, ABORT_MS).unref()
  }
  context.signal.addEventListener('abort', onAbort, { once: true })
  const run = async <R>(work: Promise<R>): Promise<R> => {
    const timer = setTimeout(cut, STATEMENT_MS)
    try {
      return await work
    } finally {
      clearTimeout(timer)
    }
  }
  const close = async () => {
    context.signal.removeEventListener('abort', onAbort)
    clearTimeout(cutTimer)
    const timer = setTimeout(cut, ABORT_MS)
    await client.end().catch(() => undefined)
    clearTimeout(timer)
  }
  try {
    await run(query(client, SETTINGS))
  } catch (error) {
    await close()
    throw error
  }
  return sessionOn(client, options, run, close)
}

type Run = <R>(work: Promise<R>) => Promise<R>

function sessionOn(
  client: pg.Client,
  { schema, mode }: SinkConfig,
  run: Run,
  close: () => Promise<void>,
): Session<Target> {
  const ask = (text: string, values: readonly unknown[] = []) => run(client.query(text, [...values]))
  const progress = progressTable(schema)
  const copy = (target: Target, records: readonly LogRecord[]) =>
    run(
      mode === 'append'
        ? copyIn(client, target.copy, copyRows(target, records, appendOurs(), appendRow))
        : copyIn(
            client,
            target.copy,
            copyRows(target, records, upsertOurs(), record => record.after!),
          ),
    )
  return {
    name: 'postgres',
    claim: (task, epoch) => run(claim(client, schema, task, epoch)),
    prepare: (shape, name) => run(prepare(client, { schema, name }, shape, mode)),
    begin: move => run(begin(client, progress, move)),
    async commit() {
      await ask('COMMIT')
    },
    async rollback() {
      await ask('ROLLBACK')
    },
    async upsert(target, records, isFresh) {
      if (isFresh && records.length >= COPY_FROM_ROWS && target.waiting-- <= 0)
        if (await copied(ask, () => copy(target, records), target)) return
      await ask(target.upsert, upsertValues(target, records))
    },
    async remove(target, records) {
      await ask(target.remove, removeValues(target, records))
    },
    append: copy,
    async sweep(target, origin, below) {
      await ask(target.sweep, [origin, below])
    },
    highest: pipeline => run(highest(client, schema, pipeline)),
    errorOf: error => sinkError(error, client),
    [Symbol.asyncDispose]: close,
  }
}

/** False: a row of them is there already, and nothing was written. */
async function copied(
  ask: (text: string) => Promise<unknown>,
  copy: () => Promise<void>,
  target: Target,
): Promise<boolean> {
  await ask('SAVEPOINT millrace_copy')
  try {
    await copy()
    await ask('RELEASE SAVEPOINT millrace_copy')
    target.backoff = 1
    return true
  } catch (error) {
    if (codeOf(error) !== '23505') throw error
    await ask('ROLLBACK TO SAVEPOINT millrace_copy')
    target.waiting = target.backoff
    target.backoff = Math.min(2 * target.backoff, MAX_BACKOFF)
    return false
  }
}

async function begin(client: pg.Client, progress: string, move: Move | null): Promise<boolean> {
  if (!move) {
    await client.query('BEGIN')
    return true
  }
  const { task, epoch, previous, next } = move
  const results: unknown = await client.query(
    `BEGIN; UPDATE ${progress} SET position = ${quoteText(next)} WHERE task = ${quoteText(task)} AND epoch = ${epoch} AND position ${
      previous === null ? 'IS NULL' : `= ${quoteText(previous)}`
    }`,
  )
  return (results as pg.QueryResult[])[1]!.rowCount === 1
}

/** One at a time makes and alters tables: two that do the same would trip over each other. */
const LOCK = "SELECT pg_advisory_xact_lock(hashtext('millrace'), hashtext('tables'))"

async function inTransaction<R>(client: pg.Client, work: () => Promise<R>): Promise<R> {
  await client.query('BEGIN')
  try {
    const result = await work()
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined)
    throw error
  }
}

const isThere = async (client: pg.ClientBase, table: string): Promise<boolean> =>
  (await query<{ is: boolean }>(client, 'SELECT to_regclass($1) IS NOT NULL AS is', [table]))[0]!.is

async function claim(client: pg.Client, schema: string, task: string, epoch: number): Promise<Claim> {
  const table = progressTable(schema)
  if (!(await isThere(client, table)))
    await inTransaction(client, async () => {
      await client.query(LOCK)
      await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoteName(schema)}`)
      await client.query(
        `CREATE TABLE IF NOT EXISTS ${table} (task text PRIMARY KEY, position text, epoch int8 NOT NULL)`,
      )
    })
  const [ours] = await query<{ position: string | null }>(
    client,
    `INSERT INTO ${table} AS p (task, epoch) VALUES ($1, $2) ON CONFLICT (task) DO UPDATE SET epoch = excluded.epoch
     WHERE excluded.epoch > p.epoch RETURNING position`,
    [task, epoch],
  )
  if (ours) return { isOurs: true, position: ours.position, epoch }
  const [found] = await query<{ epoch: string }>(client, `SELECT epoch FROM ${table} WHERE task = $1`, [task])
  return { isOurs: false, position: null, epoch: Number(found?.epoch ?? 0) }
}

async function prepare(
  client: pg.Client,
  place: { readonly schema: string; readonly name: string },
  shape: Table,
  mode: Mode,
): Promise<Target> {
  const look = () => findTable(client, place.schema, place.name)
  let found = await look()
  const refuse = () => {
    const needs = needsOf(place, found, shape, mode)
    if (needs.problems.length > 0) throw problemsError(needs.problems, client)
    return needs
  }
  if (refuse().statements.length > 0)
    found = await inTransaction(client, async () => {
      await client.query(LOCK)
      found = await look() // another task may have been here
      for (const statement of refuse().statements) await alter(client, statement)
      return look()
    })
  return targetOf(place, found!, shape, mode)
}

/** What a person built on the table (a view, a generated column) may forbid it: no trying again helps. */
async function alter(client: pg.Client, statement: string): Promise<void> {
  try {
    await client.query(statement)
  } catch (error) {
    const told = sinkError(error, client)
    const isKnown = told instanceof ConnectorError && ['unavailable', 'auth'].includes(told.kind)
    if (isKnown && codeOf(error) !== '0A000') throw told
    throw new ConnectorError('config', told.message, {
      cause: error,
      hint: `Take away what is in the way, for as long as this takes: ${statement};`,
    })
  }
}

export function problemsError(
  problems: readonly { readonly message: string; readonly hint: string }[],
  client: pg.ClientBase,
): ConnectorError {
  const at = `PostgreSQL ${serverOf(client).text}`
  return new ConnectorError('config', `${at}: ${problems.map(({ message }) => message).join('; ')}`, {
    hint: [...new Set(problems.map(({ hint }) => hint))].join('\n'),
  })
}

async function highest(client: pg.ClientBase, schema: string, pipeline: string): Promise<number> {
  const tables = await query<{ schema: string; name: string }>(
    client,
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute v ON v.attrelid = c.oid AND v.attname = $2 JOIN pg_attribute o ON o.attrelid = c.oid AND o.attname = $3
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition`,
    [schema, OURS.version, OURS.origin],
  )
  let most = 0
  for (const table of tables) {
    const [row] = await query<{ version: string | null }>(
      client,
      `SELECT max(${OURS.version}) AS version FROM ${quoteTable(table)} WHERE strpos(${OURS.origin}, $1) > 0`,
      [`${pipeline}.`],
    )
    most = Math.max(most, Number(row!.version ?? 0))
  }
  return most
}

/** Of values alone: what a type, a check or a trigger refuses. What a row of another record may have caused is no fault of the values. */
const OF_VALUES = /^(22...|2200.|23502|23514|54000|42804|P0001|P0004)$/
/** Of the batch's rows together. */
const TWICE = '21000'
const OF_OTHER_ROWS: Readonly<Record<string, string>> = {
  '23505':
    'Another row holds the value. It may go away by itself when another partition has caught up; else two partitions swap values: drop the constraint, or run the log with one partition.',
  '23P01': 'Drop the exclusion constraint: rows of several partitions arrive in no common order.',
  '23503': 'Drop the foreign key: rows of several tables arrive in no common order.',
}
/** Somebody altered or dropped a table under us: the task looks anew. */
const ALTERED = /^(42P01|42703|42P10|3F000|0A000)$/

export function sinkError(error: unknown, client: pg.ClientBase): Error {
  if (error instanceof ConnectorError && error.kind !== 'bug') return error
  if (error instanceof Fenced) return error
  const from = error instanceof ConnectorError && error.cause !== undefined ? error.cause : error
  const code = codeOf(from)
  const told = postgresError(from, serverOf(client), 'could not be written')
  const as = (kind: 'data' | 'unavailable', hint?: string) =>
    new ConnectorError(kind, told.message, { cause: from, ...(hint === undefined ? {} : { hint }) })
  if (from instanceof pg.DatabaseError) {
    if (OF_VALUES.test(code)) return as('data')
    if (code === TWICE)
      return new ConnectorError('config', told.message, {
        cause: from,
        hint: 'Two keys of the source are one to the table: its key is of a type or has a collation that takes different texts for the same.',
      })
    if (code in OF_OTHER_ROWS) return as('unavailable', OF_OTHER_ROWS[code])
    if (ALTERED.test(code)) return as('unavailable', 'A table was altered or dropped; it is looked at anew.')
  }
  return told
}
