/**
 * What is looked at before a pipeline starts: `check` of every connector, and whether it is still what it was made as. Tables,
 * keys and partitions of an existing pipeline cannot change yet: its log and its position were made for them.
 */
import type { Context, Sink, Source, SourcePlan } from '../connector.ts'
import { type Fingerprint, fingerprintOf, refuseChanged, refuseUnsafe } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { StateFile } from '../queue/state.ts'

/** Throws the first thing that keeps the pipeline from running, with what mends it. */
export async function checkAll({ source, sinks }: ParsedPipeline, context: Context): Promise<void> {
  await (source.connector as Source).check(source.config as never, context)
  for (const { connector, config } of sinks) await (connector as Sink).check(config as never, context)
}

/** What would be made and read; refuses what cannot be right, and what differs from what the pipeline was made as. */
export async function planAll(
  definition: ParsedPipeline,
  context: Context,
  state: StateFile | null,
): Promise<SourcePlan> {
  const { source, name } = definition
  const plan = await (source.connector as Source).plan(source.config as never, context)
  const tables = plan.tables.map(one => one.table)
  refuseUnsafe(definition, tables)
  const made = state?.prepare('SELECT fingerprint FROM pipelines WHERE name = ?').get(name) as
    | { fingerprint: string }
    | undefined
  if (made)
    refuseChanged(name, JSON.parse(made.fingerprint) as Fingerprint, fingerprintOf(definition, tables))
  return plan
}

export const isMade = (state: StateFile, pipeline: string): boolean =>
  state.prepare('SELECT 1 FROM pipelines WHERE name = ?').get(pipeline) !== undefined

/** Notes what the pipeline is made as, the first time it starts. */
export function recordMade(
  definition: ParsedPipeline,
  plan: SourcePlan,
  state: StateFile,
  nowMs: number,
): void {
  const fingerprint = JSON.stringify(
    fingerprintOf(
      definition,
      plan.tables.map(one => one.table),
    ),
  )
  state
    .prepare('INSERT OR IGNORE INTO pipelines (name, fingerprint, made_ms) VALUES (?, ?, ?)')
    .run(definition.name, fingerprint, Math.floor(nowMs))
}
