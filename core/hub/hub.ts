/**
 * The hub of one process: a data directory and the pipelines that run on it. Starts each for itself: one that cannot start is
 * shown as halted and does not keep another from running.
 */
import type { Clock, Context, Log, SearchResult, Sink, Source } from '../connector.ts'
import { asConnectorError, ConnectorError } from '../errors.ts'
import { openEntryLog } from '../log/file.ts'
import { nodeDisk } from '../log/node-disk.ts'
import { type Made, madeAs, recordMade } from '../pipeline/made.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { type DeadLetter, readDeadLetters } from '../worker/dead-letters.ts'
import { numbers } from '../worker/metrics.ts'
import type { DataDirectory } from './directory.ts'
import { type HubParts, type RunningPipeline, startPipeline } from './pipeline.ts'
import { forgetPipeline } from './remove.ts'
import { type Status, statusOf } from './status.ts'

export interface Hub extends AsyncDisposable {
  start(definition: ParsedPipeline): Promise<RunningPipeline>
  running(name: string): RunningPipeline
  status(): Status
  search(pipeline: string, words: string, limit: number): Promise<SearchResult>
  deadLetters(pipeline: string): Promise<readonly DeadLetter[]>
  /** Answers with what was dropped, for people. */
  remove(pipeline: string): Promise<readonly string[]>
}
