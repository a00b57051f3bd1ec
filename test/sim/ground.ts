/**
 * What both simulations (world.ts, fleet.ts) stand on: what survives a kill in them, how tasks are opened there, what these must never meet.
 * One await more or less on the way of a task, and each seed is another run than the one that failed.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sqlite } from '../../connectors/sqlite/sink.ts'
import type { Context, Log, Reader, Writer } from '../../core/connector.ts'
import type { ChangeLog, EntryLog, LogOffset } from '../../core/log/log.ts'
import { type Progress, resumeAt } from '../../core/pump.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { deadLetters } from '../../core/worker/dead-letters.ts'
import type { Opened, Task } from '../../core/worker/task.ts'
import { type Faults, fencedWriter, type Owners, pausedReader, pausedWriter } from './faults.ts'
import { ledgerOf } from './ledger.ts'
import { memoryStore } from './memory.ts'
import { PIPELINE, type Plan } from './plan.ts'
import type { Random } from './random.ts'
import { type Scheduler, schedulerOf } from './scheduler.ts'

const START_MS = 1_750_000_000_000
const MISTAKES: readonly string[] = ['bug', 'config', 'offset_lost', 'data']
export const silent: Log = { debug() {}, info() {}, warn() {}, error() {} }

export interface Ground {
  readonly plan: Plan
  readonly random: Random
  readonly scheduler: Scheduler
  readonly folder: string
  readonly memory: ReturnType<typeof memoryStore>
  readonly ledger: ReturnType<typeof ledgerOf>
  /** Last committed position of each sink task. */
  readonly positions: Map<string, LogOffset>
  readonly owners: Owners
  sqlitePath(): string
  dispose(): void
}

export function groundOf(plan: Plan, random: Random): Ground {
  const folder = mkdtempSync(join(process.platform === 'linux' ? '/dev/shm' : tmpdir(), 'millrace-sim-'))
  return {
    plan,
    random,
    scheduler: schedulerOf(random, START_MS),
    folder,
    memory: memoryStore(),
    ledger: ledgerOf(plan.ledger, random),
    positions: new Map(),
    owners: { newest: new Map(), finds: [] },
    sqlitePath: () => join(folder, 'index.db'),
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** What a kill leaves of things that are not simulated (files), for the caller to close. */
export type Handles = { close(): void }[]

/** What tasks are opened on, by who is alive. */
export interface Logs {
  readonly log: ChangeLog
  readonly dead: EntryLog
}

const noProgress: Progress = {
  load: async () => null,
  save: async () => {},
}

export async function openSource(
  { owners, ledger }: Ground,
  { log, dead }: Logs,
  faults: Faults,
  context: Context,
): Promise<Opened<ChangeRecord>> {
  const inner = fencedWriter(await log.writer(context, 0), context, owners)
  const writer = pausedWriter(inner, faults, false)
  const from = await resumeAt(writer, noProgress)
  const reader = pausedReader(ledger.reader(from, faults.pause), faults)
  return { reader, writer, progress: noProgress, dead: lettersOf<ChangeRecord>(dead, context, 'source') }
}

export const lettersOf = <R extends ChangeRecord>(log: EntryLog, { clock }: Context, sink: string) =>
  deadLetters<R>({ log, pipeline: PIPELINE, sink, nowMs: () => clock.nowUs() / 1000, redact: text => text })

export async function openSqlite(
  { owners, sqlitePath }: Ground,
  context: Context,
  handles: Handles,
): Promise<Writer> {
  const opened = await sqlite.open({ path: sqlitePath(), table: '${table}', numbers: 'literals' }, context)
  handles.push({ close: () => void opened[Symbol.asyncDispose]() })
  return fencedWriter(opened, context, owners)
}

/** A reader of which is noted what was committed to it. */
export const noted = (reader: Reader, { positions }: Ground, { task }: Context): Reader => ({
  ...reader,
  [Symbol.asyncIterator]: () => reader[Symbol.asyncIterator](),
  async commit(offset) {
    await reader.commit?.(offset)
    positions.set(task, offset as unknown as LogOffset)
  },
})

/** What a newer owner should have ended must not be done; a task may fail by what was simulated; every other error is a find. */
export function refuseMistakes(
  { owners }: Ground,
  tasks: readonly Task[],
  isDetached: (task: string) => boolean = () => false,
): void {
  if (owners.finds[0]) throw new Error(owners.finds[0])
  for (const task of tasks) {
    const error = task.error()
    if (error?.kind === 'offset_lost' && isDetached(task.name)) continue
    if (error && MISTAKES.includes(error.kind))
      throw new Error(`${task.name} failed (${error.kind}): ${error.message}`, {
        cause: error.cause ?? error,
      })
  }
}
