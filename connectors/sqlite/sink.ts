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
import { existsSync } from 'node:fs'
import { type Context, defineSink, type Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { fillTable } from '../../core/format/template.ts'
import { config, openDatabase, type SqliteConfig } from './database.ts'
import { sqliteError } from './error.ts'
import { search } from './search.ts'
import { forgetTasks, openWriter } from './writer.ts'

export const sqlite = defineSink({
  name: 'sqlite',
  summary: 'Keeps rows as documents in a SQLite file with full-text search (FTS5), exactly once.',
  config,
  examples: [
    { title: 'One table for each source table', config: { path: '.millrace/shop.db' } },
    { title: 'Schema in the name', config: { path: '.millrace/shop.db', table: '${schema}_${table}' } },
  ],
  keyed: () => true,
  delivery: () => 'exactly_once',
  target: ({ path, table }, of) => `${path}#${fillTable(table, of, `${of.schema}.${of.name}`)}`,
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
  async forget({ path }, tasks) {
    if (!existsSync(path)) return
    const database = openDatabase(path)
    try {
      forgetTasks(database, tasks)
    } catch (error) {
      throw sqliteError(error, path)
    } finally {
      database.close()
    }
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
