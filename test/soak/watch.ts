/** Looks into the sink while everything around it is killed: no row ever goes back, and how far the snapshot is. */
import { type SoakSink, TABLES } from './sinks.ts'

const POLL_MS = 100

export interface Watch {
  /** Documents of the ledger in the sink when last looked at. */
  readonly held: () => number
  readonly polls: () => number
  stop(): Promise<void>
}

/** `onFirst` is called until it succeeds once, after the sink held a first row: from then on the slot is the final one. */
export function watchSink(
  sink: SoakSink,
  folder: string,
  backwards: string[],
  onFirst: () => Promise<void>,
): Watch {
  const seen = { ledger: new Map<string, number>(), extra: new Map<string, number>() }
  let held = 0
  let polls = 0
  let stopped = false
  let isMarked = false
  const look = async () => {
    for (const table of TABLES)
      for (const [id, version] of await sink.versions(folder, table)) {
        const before = seen[table].get(id) ?? 0
        if (version < before)
          backwards.push(`row ${id} of ${table} in the sink fell from version ${before} to ${version}`)
        else if (version > before) seen[table].set(id, version)
      }
    polls++
    held = await sink.held(folder)
  }
  const loop = async () => {
    while (!stopped) {
      await new Promise(resolve => setTimeout(resolve, POLL_MS))
      await look().catch(() => {}) // nothing is made yet, the file is locked at this moment, the server is away
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
