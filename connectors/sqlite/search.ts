/** Full-text search over every table of the index: words in, documents out, best first (bm25 by FTS5). */
import type Database from 'libsql'
import type { SearchResult } from '../../core/connector.ts'
import type { Json } from '../../core/record.ts'
import { identifier } from './table.ts'

/** Each word as a quoted FTS5 prefix, so that no character of a person's text is taken for query syntax. */
export const matchOf = (words: string): string =>
  words
    .split(/\s+/)
    .filter(word => /[\p{L}\p{N}]/u.test(word))
    .map(word => `"${word.replaceAll('"', '""')}"*`)
    .join(' ')

interface Found {
  readonly id: string
  readonly document: string
  readonly version: number
  readonly rank: number
}

export function search(database: Database.Database, words: string, limit: number): SearchResult {
  const match = matchOf(words)
  if (match === '') return { total: 0, hits: [] }
  const tables = database
    .prepare(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%fts5(text, content%'",
    )
    .all() as { name: string }[]
  let total = 0
  const found: (Found & { table: string })[] = []
  for (const { name } of tables) {
    const fts = identifier(name)
    const table = name.slice(0, -'_fts'.length)
    total += (
      database.prepare(`SELECT count(*) AS n FROM ${fts} WHERE ${fts} MATCH ?`).get(match) as { n: number }
    ).n
    const rows = database
      .prepare(
        `SELECT t.id, t.document, t.version, f.rank FROM (SELECT rowid, rank FROM ${fts} WHERE ${fts} MATCH ? ORDER BY rank LIMIT ?) f
         JOIN ${identifier(table)} t ON t.rowid = f.rowid`,
      )
      .all(match, limit) as Found[]
    found.push(...rows.map(row => ({ ...row, table })))
  }
  found.sort((a, b) => a.rank - b.rank)
  const hits = found.slice(0, limit).map(({ table, id, document, version }) => ({
    table,
    id,
    document: JSON.parse(document) as Json,
    version,
  }))
  return { total, hits }
}
