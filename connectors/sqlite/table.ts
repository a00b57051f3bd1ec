/**
 * One table of the index with its full-text index, and the statements on it. The triggers keep the text index, whoever
 * writes.
 */
import type Database from 'libsql'
import { ConnectorError } from '../../core/errors.ts'

/** Rows a statement: calls into the library cost more than the rows. */
const ROWS_PER_STATEMENT = 100
const COLUMNS = 4

export interface IndexTable {
  /** Flat: id, document, version, origin, id, … Older than what is there: nothing (V4). Answers with how many of them were. */
  upsert(flat: readonly unknown[]): number
  delete(id: string, version: number): void
  /** Rows of this origin with a smaller version are gone (S1). */
  sweep(origin: string, below: number): void
}

export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`

export function openTable(database: Database.Database, name: string): IndexTable {
  if (name.startsWith('sqlite_') || name.startsWith('millrace_'))
    throw new ConnectorError('config', `"${name}" cannot be a table of the index: the name is reserved`, {
      hint: 'Give the sink another `table`, as "t_${table}".',
    })
  create(database, name)
  const quoted = identifier(name)
  const upsertOf = (rows: number) =>
    database.prepare(
      `INSERT INTO ${quoted} (id, document, version, origin) VALUES ${Array(rows).fill('(?,?,?,?)').join(',')}
       ON CONFLICT (id) DO UPDATE SET document = excluded.document, version = excluded.version, origin = excluded.origin
       WHERE excluded.version > version`,
    )
  const many = upsertOf(ROWS_PER_STATEMENT)
  const one = upsertOf(1)
  const remove = database.prepare(`DELETE FROM ${quoted} WHERE id = ? AND version < ?`)
  const sweep = database.prepare(`DELETE FROM ${quoted} WHERE origin = ? AND version < ?`)
  return {
    upsert(flat) {
      const step = ROWS_PER_STATEMENT * COLUMNS
      let [at, changes] = [0, 0]
      for (; at + step <= flat.length; at += step) changes += many.run(flat.slice(at, at + step)).changes
      for (; at < flat.length; at += COLUMNS) changes += one.run(flat.slice(at, at + COLUMNS)).changes
      return flat.length / COLUMNS - changes
    },
    delete: (id, version) => void remove.run(id, version),
    sweep: (origin, below) => void sweep.run(origin, below),
  }
}

/**
 * The text index is contentless: it stores no second copy of the documents, so that removing a row takes its old text once more
 * (FTS5's 'delete' command), which the triggers have at hand. `contentless_delete` needs no old text, but is five times slower.
 */
function create(database: Database.Database, name: string): void {
  const table = identifier(name)
  const fts = identifier(`${name}_fts`)
  const text = (row: 'old' | 'new') =>
    `(SELECT group_concat(atom, ' ') FROM json_tree(${row}.document) WHERE type = 'text')`
  const add = `INSERT INTO ${fts} (rowid, text) VALUES (new.rowid, ${text('new')});`
  const remove = `INSERT INTO ${fts} (${fts}, rowid, text) VALUES ('delete', old.rowid, ${text('old')});`
  const trigger = (what: string) => identifier(`${name}_fts_${what}`)
  database.exec(`
    CREATE TABLE IF NOT EXISTS ${table} (id TEXT PRIMARY KEY, document TEXT, version INTEGER, origin TEXT);
    CREATE VIRTUAL TABLE IF NOT EXISTS ${fts} USING fts5(text, content = '');
    CREATE TRIGGER IF NOT EXISTS ${trigger('insert')} AFTER INSERT ON ${table} BEGIN ${add} END;
    CREATE TRIGGER IF NOT EXISTS ${trigger('update')} AFTER UPDATE ON ${table}
      WHEN old.document IS NOT new.document BEGIN ${remove} ${add} END;
    CREATE TRIGGER IF NOT EXISTS ${trigger('delete')} AFTER DELETE ON ${table} BEGIN ${remove} END;`)
}
