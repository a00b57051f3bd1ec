/**
 * The data directory of one hub, owned by one process (J5):
 *
 *   lock.db            an exclusively locked SQLite file: the lock is the operating system's, so that a pid that was given
 *                      to somebody else (or is 1 in every container) fools nobody; the pid in it is for the message
 *   hub.json           { pid, url } while a hub runs: how commands find its API
 *   state.db           leases, progress, what each pipeline was made as
 *   logs/<name>/       the log of a pipeline;  logs/<name>.dead/  its dead letters
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import Database from 'libsql'
import { ConnectorError } from '../errors.ts'
import { forgetOwners } from '../queue/local.ts'
import { openState, type StateFile } from '../queue/state.ts'

export interface DataDirectory extends Disposable {
  readonly path: string
  readonly state: StateFile
  logPath(pipeline: string): string
  deadPath(pipeline: string): string
  /** Tells commands where the API is, until disposed. */
  announce(url: string): void
}

/** A hub that runs on this directory, as it told; null: none. */
export interface RunningHub {
  readonly pid: number
  readonly url: string
}

/** Throws `config` when another process has it, with its pid. */
export function openDirectory(path: string): DataDirectory {
  const directory = resolve(path)
  try {
    mkdirSync(join(directory, 'logs'), { recursive: true })
  } catch (error) {
    throw new ConnectorError(
      'config',
      `the data directory ${directory} cannot be made: ${(error as Error).message}`,
      { cause: error },
    )
  }
  const unlock = lock(directory)
  const state = openState(join(directory, 'state.db'))
  forgetOwners(state)
  const hubFile = join(directory, 'hub.json')
  return {
    path: directory,
    state,
    logPath: pipeline => join(directory, 'logs', pipeline),
    deadPath: pipeline => join(directory, 'logs', `${pipeline}.dead`),
    announce: url =>
      writeFileSync(hubFile, `${JSON.stringify({ pid: process.pid, url })}\n`, { mode: 0o600 }),
    [Symbol.dispose]() {
      rmSync(hubFile, { force: true })
      state.close()
      unlock()
    },
  }
}

function lock(directory: string): () => void {
  const path = join(directory, 'lock.db')
  const held = new Database(path, { timeout: 200 })
  try {
    // In exclusive mode the lock of the first write stays until the file is closed, by us or by the kernel.
    held.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF')
    held.exec('BEGIN EXCLUSIVE; CREATE TABLE IF NOT EXISTS owner (pid INTEGER); DELETE FROM owner')
    held.prepare('INSERT INTO owner VALUES (?)').run(process.pid)
    held.exec('COMMIT')
    writeFileSync(join(directory, 'owner'), `${process.pid}\n`)
    return () => held.close()
  } catch (error) {
    held.close()
    if (!/locked|busy/i.test((error as Error).message)) throw error
    throw new ConnectorError('config', `another Millrace works in ${directory}${ownerOf(directory)}`, {
      hint: 'Stop it first, or use another --data-dir.',
      cause: error,
    })
  }
}

function ownerOf(directory: string): string {
  try {
    return ` (pid ${readFileSync(join(directory, 'owner'), 'utf8').trim()})`
  } catch {
    return ''
  }
}

/** Who runs on the directory, if it says so and is there. Answers null without touching the lock. */
export function runningHub(path: string): RunningHub | null {
  try {
    const hub = JSON.parse(readFileSync(join(resolve(path), 'hub.json'), 'utf8')) as RunningHub
    process.kill(hub.pid, 0)
    return hub
  } catch {
    return null // no file, or a hub that was killed and could not take it away
  }
}
