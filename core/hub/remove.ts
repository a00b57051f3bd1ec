/**
 * `millrace delete NAME --yes`: slot and publication, logs, dead letters and progress, that in the sinks too. Their data stay. What is
 * outside goes first: when that fails nothing is lost and it can be said again.
 */
import type { Sink, Source } from '../connector.ts'
import { floorTask, tasksOf } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { DataDirectory } from './directory.ts'
import { lookingContext } from './looking.ts'
import type { HubParts } from './pipeline.ts'

export async function removePipeline(parts: HubParts, pipeline: ParsedPipeline): Promise<readonly string[]> {
  const { name, source, sinks } = pipeline
  const { directory, clock, log } = parts
  const context = lookingContext(clock, log, name, new AbortController().signal)
  const dropped = [...((await (source.connector as Source).drop?.(source.config as never, context)) ?? [])]
  // A position of the log that goes would halt the next pipeline that writes there.
  for (const { name: sink, connector, config } of sinks) {
    const tasks = tasksOf(pipeline).sinks.filter(task => task.sink.name === sink)
    await (connector as Sink).forget?.(
      config as never,
      [floorTask(pipeline), ...tasks.map(task => task.name)],
      context,
    )
  }
  dropped.push(...(await parts.logs.remove(pipeline)))
  forgetPipeline(directory, name)
  dropped.push(`progress of ${name}`)
  return dropped
}

/** What the data directory knows of a pipeline. */
export function forgetPipeline({ state }: DataDirectory, name: string): void {
  state.transaction(() => {
    for (const table of ['progress', 'leases', 'detached'])
      state.prepare(`DELETE FROM ${table} WHERE task LIKE ? ESCAPE '!'`).run(`${name}/%`)
    state.prepare('DELETE FROM pipelines WHERE name = ?').run(name)
  })()
}
