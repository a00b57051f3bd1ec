/**
 * `millrace delete NAME --yes`: slot and publication, logs, dead letters and progress. The sinks' data stay. Upstream first: when
 * that fails nothing is lost and it can be said again.
 */
import { rmSync } from 'node:fs'
import type { Source } from '../connector.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { lookingContext } from './looking.ts'
import type { HubParts } from './pipeline.ts'

export async function removePipeline(
  parts: HubParts,
  { name, source }: ParsedPipeline,
): Promise<readonly string[]> {
  const { directory, clock, log } = parts
  const context = lookingContext(clock, log, name, new AbortController().signal)
  const dropped = [...((await (source.connector as Source).drop?.(source.config as never, context)) ?? [])]
  for (const path of [directory.logPath(name), directory.deadPath(name)])
    rmSync(path, { recursive: true, force: true })
  dropped.push(`log and dead letters of ${name}`)
  const forget = directory.state.transaction(() => {
    for (const table of ['progress', 'leases'])
      directory.state.prepare(`DELETE FROM ${table} WHERE task LIKE ? ESCAPE '!'`).run(`${name}/%`)
    directory.state.prepare('DELETE FROM pipelines WHERE name = ?').run(name)
  })
  forget()
  dropped.push(`progress of ${name}`)
  return dropped
}
