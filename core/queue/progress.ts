/**
 * Progress of sinks that keep no position of their own, in the state file: saved after the sink's write, compared-and-set on
 * the previous offset and the epoch (P2). A crash between write and save replays one batch, which such a sink says it does.
 */
import type { Context, Offset } from '../connector.ts'
import { Fenced } from '../errors.ts'
import type { Progress } from '../pump.ts'
import type { StateFile } from './state.ts'

export function stateProgress(state: StateFile, context: Context): Progress {
  const { task, epoch } = context
  let previous: string | null = null
  const read = state.prepare('SELECT position, epoch FROM progress WHERE task = ?')
  return {
    async load() {
      const found = read.get(task) as { position: string | null; epoch: number } | undefined
      const claimed = state
        .prepare(
          `INSERT INTO progress (task, position, epoch) VALUES (?, NULL, ?)
           ON CONFLICT (task) DO UPDATE SET epoch = excluded.epoch WHERE excluded.epoch > progress.epoch`,
        )
        .run(task, epoch)
      if (claimed.changes === 0)
        throw new Fenced(`${task} has a newer owner, epoch ${found?.epoch}`, found?.epoch)
      previous = found?.position ?? null
      return previous === null ? null : (JSON.parse(previous) as Offset)
    },
    async save(offset) {
      const position = JSON.stringify(offset)
      const saved = state
        .prepare('UPDATE progress SET position = ? WHERE task = ? AND epoch = ? AND position IS ?')
        .run(position, task, epoch, previous)
      if (saved.changes === 0)
        throw new Fenced(
          `the progress of ${task} was moved by another owner`,
          (read.get(task) as { epoch: number } | undefined)?.epoch,
        )
      previous = position
    },
  }
}
