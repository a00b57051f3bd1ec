/**
 * What is looked at before a pipeline starts: `check` of every connector, and whether it is still what it was made as. Tables,
 * keys and partitions of an existing pipeline cannot change yet: its log and its position were made for them.
 */
import type { Clock, Context, Log, Sink, SinkTarget, Source, SourcePlan } from '../connector.ts'
import { ConnectorError, POLICY } from '../errors.ts'
import {
  type Fingerprint,
  fingerprintOf,
  isWritten,
  joined,
  refuseChanged,
  refuseUnsafe,
  tablesAt,
  tasksOf,
} from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { detachedTasks } from '../queue/detached.ts'
import type { StateFile } from '../queue/state.ts'
import type { DataDirectory } from './directory.ts'
import { lookingContext } from './looking.ts'

/** What a sink that is away says; a pipeline that runs anyway (its log takes the changes) need not wait for it. */
const isAway = (error: unknown): boolean =>
  error instanceof ConnectorError && POLICY[error.kind].action === 'backoff' && error.kind !== 'bug'

/**
 * Throws the first thing that keeps the pipeline from running, with what mends it. `isMade`: it ran before, and goes on filling its log
 * while a sink is away, so that the database is not held up: the sink's task says what is wrong.
 */
export async function checkAll(
  { name, source, sinks }: ParsedPipeline,
  context: Context,
  isMade = false,
): Promise<void> {
  await (source.connector as Source).check(source.config as never, context)
  for (const { connector, config, name: sink } of sinks)
    try {
      await (connector as Sink).check(config as never, context)
    } catch (error) {
      if (!isMade || !isAway(error)) throw error
      context.log.warn(
        { pipeline: name, sink },
        `${name} starts without its sink ${sink}: ${(error as Error).message}`,
      )
    }
}

export interface PipelinePlan extends SourcePlan {
  /** By sink; null: it makes nothing, or cannot say. */
  readonly targets: ReadonlyMap<string, readonly SinkTarget[]>
}

/** Without the sinks that were let go wholly (J4): one of them that is still away must not keep the others from starting. */
export function followed(definition: ParsedPipeline, state: StateFile): ParsedPipeline {
  const detached = detachedTasks(state)
  const tasks = tasksOf(definition).sinks.filter(task => !detached.has(task.name))
  return { ...definition, sinks: definition.sinks.filter(sink => tasks.some(task => task.sink === sink)) }
}

/** Of all that `planAll` looks at what asks no sink. */
async function planSource(
  definition: ParsedPipeline,
  context: Context,
  state: StateFile | null,
): Promise<{ readonly plan: SourcePlan; readonly made: boolean }> {
  const { source, name } = definition
  const plan = await (source.connector as Source).plan(source.config as never, context)
  const tables = plan.tables.map(one => one.table)
  refuseUnsafe(definition, tables)
  const made = state && madeAs(state, name)
  const now = fingerprintOf(definition, tables)
  if (made && isWritten(definition)) refuseChanged(name, joined(made, now), joined(now, made))
  else if (made) refuseChanged(name, made, now)
  return { plan, made: made !== null }
}

function madeAs(state: StateFile, pipeline: string): Fingerprint | null {
  const row = state.prepare('SELECT fingerprint FROM pipelines WHERE name = ?').get(pipeline)
  return row === undefined ? null : (JSON.parse((row as { fingerprint: string }).fingerprint) as Fingerprint)
}

/** What would be made and read; refuses what cannot be right, and what differs from what the pipeline was made as. */
export async function planAll(
  definition: ParsedPipeline,
  context: Context,
  state: StateFile | null,
): Promise<PipelinePlan> {
  const { sinks } = definition
  const { plan, made } = await planSource(definition, context, state)
  const tables = plan.tables.map(one => one.table)
  const targets = new Map<string, readonly SinkTarget[]>()
  for (const sink of sinks) {
    const { connector, config } = sink
    try {
      const found = await (connector as Sink).plan?.(
        config as never,
        tablesAt(definition, sink, tables),
        context,
      )
      if (found) targets.set(sink.name, found)
    } catch (error) {
      if (!made || !isAway(error)) throw error
    }
  }
  return { ...plan, targets }
}

export const isMade = (state: StateFile, pipeline: string): boolean => madeAs(state, pipeline) !== null

/** Notes what the pipeline is made as, the first time it starts; and which topics it was given later to be written. */
export function recordMade(
  definition: ParsedPipeline,
  plan: SourcePlan,
  state: StateFile,
  nowMs: number,
): void {
  const { name } = definition
  const tables = plan.tables.map(one => one.table)
  const made = madeAs(state, name)
  const now = fingerprintOf(definition, tables)
  if (made && !isWritten(definition)) return
  state
    .prepare(
      'INSERT INTO pipelines (name, fingerprint, made_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint',
    )
    .run(name, JSON.stringify(made ? joined(now, made) : now), Math.floor(nowMs))
}

export interface AdmitParts {
  readonly clock: Clock
  readonly log: Log
  readonly directory: DataDirectory
}

/**
 * All that stands between a file and its tasks: throws what keeps the pipeline from running, else notes what it is made as. `isRead`: its
 * source is being read already, and may well say that it is in use.
 */
export async function admit(
  definition: ParsedPipeline,
  { clock, log, directory: { state } }: AdmitParts,
  signal: AbortSignal,
  isRead = false,
): Promise<void> {
  const context = lookingContext(clock, log, definition.name, signal)
  // Of a pipeline that was made before, what cannot change is said first: `check` would ask for statements that lead nowhere.
  const wasMade = isMade(state, definition.name)
  const early = wasMade ? await planAll(definition, context, state) : null
  if (!isRead) await checkAll(followed(definition, state), context, wasMade)
  const plan = early ?? (await planAll(definition, context, state))
  signal.throwIfAborted() // who ended it may have taken away what it was made as
  recordMade(definition, plan, state, clock.nowUs() / 1000)
}

/** The same for whoever only writes into the pipeline's log: what reads it need not be there. */
export async function admitWriter(
  definition: ParsedPipeline,
  { clock, log, directory: { state } }: AdmitParts,
  signal: AbortSignal,
): Promise<void> {
  const { plan } = await planSource(definition, lookingContext(clock, log, definition.name, signal), state)
  recordMade(definition, plan, state, clock.nowUs() / 1000)
}
