/** Where the logs of a hub's pipelines are: files of the data directory, or topics of a Kafka cluster. */
import { rmSync } from 'node:fs'
import type { Clock, Context, Log } from '../connector.ts'
import { openEntryLog, openFileLog } from '../log/file.ts'
import type { ChangeLog, EntryLog, Retention } from '../log/log.ts'
import { nodeDisk } from '../log/node-disk.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { Progress } from '../pump.ts'
import { stateProgress } from '../queue/progress.ts'
import type { DataDirectory } from './directory.ts'

/** Closed together. */
export interface PipelineLogs extends AsyncDisposable {
  readonly changes: ChangeLog
  readonly dead: EntryLog
  /** Lag tools look at it: sinks that keep their position themselves report it there (K3). */
  readonly isWatched: boolean
  /** Of a sink's task. */
  progress(context: Context, sink: string, partition: number): Progress
}

export interface Logs {
  /** Without `retention` nothing is let go, or kept for longer: who only looks at a log, or works for somebody else. */
  open(definition: ParsedPipeline, retention?: Retention | null): Promise<PipelineLogs>
  /** Of a pipeline that does not run. */
  openDead(pipeline: string): Promise<EntryLog>
  /** Takes away what a pipeline left. Repeatable. Answers with what it was, for people. */
  remove(definition: ParsedPipeline): Promise<readonly string[]>
}

/** The first is closed when the second cannot be opened. */
export async function openBoth<L extends ChangeLog>(
  opening: Promise<L>,
  openDead: () => Promise<EntryLog>,
  progressOf: (changes: L) => PipelineLogs['progress'],
  isWatched = false,
): Promise<PipelineLogs> {
  const changes = await opening
  try {
    const dead = await openDead()
    return {
      changes,
      dead,
      isWatched,
      progress: progressOf(changes),
      async [Symbol.asyncDispose]() {
        await changes[Symbol.asyncDispose]()
        await dead[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await changes[Symbol.asyncDispose]()
    throw error
  }
}

export interface EmbeddedLogsOptions {
  readonly directory: DataDirectory
  readonly clock: Clock
  readonly log: Log
  readonly lingerMs: number
  readonly batchBytes: number
}

export function embeddedLogs({ directory, ...options }: EmbeddedLogsOptions): Logs {
  const shared = { disk: nodeDisk, ...options }
  const deadOf = (pipeline: string) => ({
    directory: directory.deadPath(pipeline),
    name: `${pipeline}.dead`,
    limitBytes: Number.POSITIVE_INFINITY,
  })
  return {
    open: ({ name, log: { partitions, compression }, limits }, retention) =>
      openBoth(
        openFileLog({
          ...shared,
          compression,
          directory: directory.logPath(name),
          name,
          partitions,
          limitBytes: limits.logBytes,
          ...(retention ? { retention } : {}),
        }),
        () => openEntryLog({ ...shared, compression, ...deadOf(name) }),
        () => context => stateProgress(directory.state, context),
      ),
    openDead: pipeline => openEntryLog({ ...shared, compression: 'lz4', ...deadOf(pipeline) }),
    async remove({ name }) {
      for (const path of [directory.logPath(name), directory.deadPath(name)])
        rmSync(path, { recursive: true, force: true })
      return [`log and dead letters of ${name}`]
    },
  }
}
