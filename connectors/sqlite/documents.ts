/** Reads a whole table of an index, for comparing it with its source. */
import Database from 'libsql'
import { identifier } from './table.ts'

/** id → document (JSON text). A table that is not there is empty. */
export function readDocuments(path: string, table: string): ReadonlyMap<string, string> {
  const database = new Database(path, { timeout: 5_000 })
  try {
    if (!database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(table))
      return new Map()
    const rows = database.prepare(`SELECT id, document FROM ${identifier(table)}`).all() as {
      id: string
      document: string
    }[]
    return new Map(rows.map(row => [row.id, row.document]))
  } finally {
    database.close()
  }
}
