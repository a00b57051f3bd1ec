/**
 * Sink tasks that were let go at the log's limit (J4), in the state file: what they had not read may be gone, and a task that keeps no
 * position would begin behind it. For good, until the pipeline is deleted.
 */
import type { StateFile } from './state.ts'

export interface Detached {
  has(task: string): boolean
  /** On disk when it returns. */
  add(tasks: readonly string[], atMs: number): void
}

/** Read once: one process owns the state file (J5). */
export function detachedTasks(state: StateFile): Detached {
  const rows = state.prepare('SELECT task FROM detached').all() as { task: string }[]
  const known = new Set(rows.map(row => row.task))
  const insert = state.prepare('INSERT INTO detached (task, at_ms) VALUES (?, ?)')
  return {
    has: task => known.has(task),
    add(tasks, atMs) {
      state.transaction(() => {
        for (const task of tasks) insert.run(task, Math.floor(atMs))
      })()
      for (const task of tasks) known.add(task)
    },
  }
}
