/** `millrace delete NAME --yes`: slot and publication, logs, dead letters and progress. The sinks' data stay. */
import { ConnectorError } from '../errors.ts'
import { runningHub } from '../hub/directory.ts'
import { withdrawTasks } from '../hub/offering.ts'
import { removePipeline } from '../hub/remove.ts'
import { ask } from './ask.ts'
import { definition } from './look.ts'
import { print, printJson } from './output.ts'
import { type CommonOptions, loadHub, logOf, openQueue, ownHub, type Setting } from './session.ts'

export interface DeleteOptions extends CommonOptions {
  readonly yes?: boolean
  readonly file?: string
}

export async function remove(setting: Setting, name: string, options: DeleteOptions): Promise<void> {
  if (!options.yes)
    throw new ConnectorError(
      'config',
      `deleting ${name} drops its slot and publication, its log, dead letters and progress; the sinks' data stay`,
      {
        hint: `Say so: millrace delete ${name} --yes`,
      },
    )
  const config = loadHub(setting, options)
  const hub = runningHub(config.dataDir)
  const dropped = hub
    ? (await ask<{ dropped: string[] }>(hub, 'POST', `/api/delete?pipeline=${encodeURIComponent(name)}`))
        .dropped
    : await removeHere(setting, name, config, options)
  if (options.json) return printJson({ pipeline: name, dropped })
  for (const what of dropped) print(`dropped: ${what}`)
}

async function removeHere(
  setting: Setting,
  name: string,
  config: ReturnType<typeof loadHub>,
  options: DeleteOptions,
): Promise<readonly string[]> {
  const pipeline = await definition(setting, name, options)
  const log = logOf(setting.secrets, options.logLevel ?? 'warn')
  await using owned = ownHub(setting, config, log)
  if (config.queue) {
    await using queue = await openQueue(config, log) // workers may run it, and hubs elsewhere may offer it
    await withdrawTasks({ ...owned.parts, queue }, name)
  }
  return await removePipeline(owned.parts, pipeline) // awaited here: the directory must stay open until it is done
}
