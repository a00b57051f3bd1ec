/**
 * The state file of a data directory (SQLite): leases, progress of sinks that keep none, tasks that were detached, what each
 * pipeline was made as.
 * `synchronous=FULL`, else a power loss moves leases and progress back (J6). Formats carry a version; a newer one is refused.
 *
 *   leases       task PK, owner, epoch, until_ms (monotonic of the owner; a hint for messages, ended by the directory's lock)
 *   progress     task PK, position, epoch
 *   detached     task PK, at_ms                            version 2: who does not know it would let such a task jump
 *   pipelines    name PK, fingerprint (what may not change), made_ms
 */
import Database from 'libsql'
import { ConnectorError } from '../errors.ts'

export const STATE_VERSION = 2

export type StateFile = Database.Database

export function openState(path: string): StateFile {
  const state = new Database(path, { timeout: 5_000 })
  state.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
  const { user_version: version } = state.prepare('PRAGMA user_version').get() as { user_version: number }
  if (version > STATE_VERSION) {
    state.close()
    throw new ConnectorError(
      'config',
      `${path} was written by a newer Millrace: format ${version}, this one knows ${STATE_VERSION}`,
      {
        hint: 'Start the newer Millrace, or another --data-dir.',
      },
    )
  }
  state.exec(`
    CREATE TABLE IF NOT EXISTS leases (task TEXT PRIMARY KEY, owner TEXT, epoch INTEGER NOT NULL, until_ms REAL NOT NULL);
    CREATE TABLE IF NOT EXISTS progress (task TEXT PRIMARY KEY, position TEXT, epoch INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS detached (task TEXT PRIMARY KEY, at_ms INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS pipelines (name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, made_ms INTEGER NOT NULL);
    PRAGMA user_version = ${STATE_VERSION}`)
  return state
}
