/**
 * Looks into the index while everything around it is killed: no row ever goes back, and how far the snapshot is. Opens it
 * read-only, so that it neither recovers nor checkpoints what the program was killed in the middle of.
 */
import { existsSync } from 'node:fs'
import Database from 'libsql'

const POLL_MS = 100
export const TABLES = ['ledger', 'extra'] as const

export interface Watch {
  /** Documents of the ledger in the index when last looked at. */
  readonly held: () => number
  readonly polls: () => number
  stop(): Promise<void>
}

/** `onFirst` is called until it succeeds once, after the index held a first row: from then on the slot is the final one. */
export function watchIndex(path: string, backwards: string[], onFirst: () => Promise<void>): Watch {
  const seen = { ledger: new Map<string, number>(), extra: new Map<string, number>() }
  let held = 0
  let polls = 0
  let stopped = false
  let isMarked = false
  const look = () => {
    const database = new Database(`file:${path}?mode=ro`, { timeout: 50 })
    try {
      for (const table of TABLES) {
        const rows = database.prepare(`SELECT id, version FROM ${table}`).all() as {
          id: string
          version: number
        }[]
        if (table === 'ledger') held = rows.length
        for (const { id, version } of rows) {
          const before = seen[table].get(id) ?? 0
          if (version < before)
            backwards.push(`row ${id} of ${table} in the sink fell from version ${before} to ${version}`)
          else if (version > before) seen[table].set(id, version)
        }
      }
      polls++
    } finally {
      database.close()
    }
  }
  const loop = async () => {
    while (!stopped) {
      await new Promise(resolve => setTimeout(resolve, POLL_MS))
      if (!existsSync(path)) continue
      try {
        look()
      } catch {
        // a table is not made yet, or the file is locked at this moment
      }
      if (isMarked || held === 0) continue
      isMarked = await onFirst().then(
        () => true,
        () => false, // the server is away
      )
    }
  }
  const looping = loop()
  return {
    held: () => held,
    polls: () => polls,
    stop() {
      stopped = true
      return looping
    },
  }
}
