/** The sink's options, and how its file is opened. */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import Database from 'libsql'
import { z } from 'zod'
import { sqliteError } from './error.ts'

export const config = z.strictObject({
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
    // Waiting for a lock stops the whole process: longer waits are the task's, with its backoff.
    const database = new Database(path, { timeout: 250 })
    database.exec(
      'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864',
    )
    return database
  } catch (error) {
    throw sqliteError(error, path)
  }
}
