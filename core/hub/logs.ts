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

export interface PipelineLogs {
  readonly changes: ChangeLog
  readonly dead: EntryLog
  /** Of a sink's task whose sink keeps no position. */
  progress(context: Context, sink: string, partition: number): Progress
}

export interface Logs {
  open(definition: ParsedPipeline, retention: Retention): Promise<PipelineLogs>
  /** Of a pipeline that does not run. */
  openDead(pipeline: string): Promise<EntryLog>
  /** Takes away what a pipeline left. Repeatable. Answers with what it was, for people. */
  remove(definition: ParsedPipeline): Promise<readonly string[]>
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
    async open({ name, log: { partitions, compression }, limits }, retention) {
      const changes = await openFileLog({
        ...shared,
        compression,
        directory: directory.logPath(name),
        name,
        partitions,
        limitBytes: limits.logBytes,
        retention,
      })
      const dead = await openEntryLog({ ...shared, compression, ...deadOf(name) })
      return { changes, dead, progress: context => stateProgress(directory.state, context) }
    },
    openDead: pipeline => openEntryLog({ ...shared, compression: 'lz4', ...deadOf(pipeline) }),
    async remove({ name }) {
      for (const path of [directory.logPath(name), directory.deadPath(name)])
        rmSync(path, { recursive: true, force: true })
      return [`log and dead letters of ${name}`]
    },
  }
}
