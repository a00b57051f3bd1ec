/**
 * A SQLite file as search index: the sink of a machine that has no Elasticsearch. Exactly once: rows and the task's position
 * change in one transaction (P1, P2).
 *
 *   <table>                 id TEXT PRIMARY KEY, document TEXT, version INTEGER, origin TEXT
 *   <table>_fts             FTS5 over every text in the document; kept by triggers, so that it can never drift
 *   millrace_progress       task TEXT PRIMARY KEY, position TEXT, epoch BIGINT
 *
 * Search it with any SQLite:
 *   SELECT id, document FROM products WHERE rowid IN (SELECT rowid FROM products_fts WHERE products_fts MATCH 'lamp')
 */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'libsql'
import { z } from 'zod'
import { type Context, defineSink, type Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { fillTarget } from '../../core/format/document.ts'
import { sqliteError } from './error.ts'
import { search } from './search.ts'
import { openWriter } from './writer.ts'

const config = z.strictObject({
  path: z
    .string()
    .min(1)
    .meta({ title: 'Path', description: 'The SQLite file; made when missing, with its folders.' }),
  table: z.string().min(1).default('${table}').meta({
    title: 'Table',
    description: 'Where rows go; `${table}`, `${schema}` and `${topic}` are filled per record.',
  }),
  numbers: z.enum(['literals', 'strings']).default('literals').meta({
    title: 'Numbers',
    description: '`numeric` columns in documents: JSON numbers with all digits, or strings.',
  }),
})
export type SqliteConfig = z.output<typeof config>

/** Opens the file with the settings that make a commit durable (J6). */
export function openDatabase(path: string): Database.Database {
  try {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
    const database = new Database(path, { timeout: 5_000 })
    database.exec(
      'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864',
    )
    return database
  } catch (error) {
    throw sqliteError(error, path)
  }
}

export const sqlite = defineSink({
  name: 'sqlite',
  summary: 'Keeps rows as documents in a SQLite file with full-text search (FTS5), exactly once.',
  config,
  examples: [
    { title: 'One table for each source table', config: { path: '.millrace/shop.db' } },
    { title: 'Schema in the name', config: { path: '.millrace/shop.db', table: '${schema}_${table}' } },
  ],
  keyed: true,
  delivery: () => 'exactly_once',
  target: ({ path, table }, of) => `${path}#${fillTarget(table, of, `${of.schema}.${of.name}`)}`,
  async check({ path }) {
    const isOld = existsSync(path)
    if (!isOld) return
    const database = openDatabase(path)
    try {
      database.prepare('SELECT count(*) FROM sqlite_master').get()
    } catch (error) {
      throw sqliteError(error, path)
    } finally {
      database.close()
    }
  },
  async open(options: SqliteConfig, context: Context): Promise<Writer> {
    return openWriter(openDatabase(options.path), options, context)
  },
  async search({ path }, words, limit) {
    if (!existsSync(path))
      throw new ConnectorError('unavailable', `there is no index at ${path} yet`, {
        hint: 'Start the pipeline first: millrace up',
      })
    const database = openDatabase(path)
    try {
      return search(database, words, limit)
    } finally {
      database.close()
    }
  },
})
