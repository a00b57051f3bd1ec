/** `millrace up` and `millrace run`: the hub, its workers and pipelines in this process, until stopped. */
import { fileURLToPath } from 'node:url'
import { asConnectorError } from '../errors.ts'
import { type Api, startApi } from '../hub/api.ts'
import type { Hub } from '../hub/hub.ts'
import { detachedError } from '../log/retention.ts'
import type { HubConfig } from '../pipeline/hub-schema.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { complainOf, Failed, print, printJson } from './output.ts'
import { drawProgress } from './progress.ts'
import {
  type CommonOptions,
  loadHub,
  loadPipelines,
  logOf,
  type OwnedHub,
  ownHub,
  type Setting,
  stopSignal,
} from './session.ts'

/** What is in flight is saved within this after Ctrl-C. */
export const STOP_MS = 5_000
const PAGES = fileURLToPath(new URL('../../../console', import.meta.url))

export interface RunOptions extends CommonOptions {
  readonly untilCaughtUp?: boolean
  readonly port?: string
}

const isDrawn = (json: boolean | undefined): boolean => !json && process.stderr.isTTY === true

export async function up(setting: Setting, paths: readonly string[], options: RunOptions): Promise<void> {
  const pipelines = await loadPipelines(setting, paths.length > 0 ? paths : ['pipelines'], options.json)
  const config = loadHub(setting, options, 'here')
  const log = logOf(setting.secrets, levelOf(options))
  const stopped = stopSignal(STOP_MS)
  await using owned = ownHub(setting, config, log)
  for (const pipeline of pipelines) owned.hub.keepStarting(pipeline)
  await using _api = await serve(owned, config, options)
  using _ = isDrawn(options.json) ? drawProgress(() => owned.hub.status(), process.stderr) : null
  await aborted(stopped)
}

/** On a terminal the bar speaks, and only warnings break it. */
const levelOf = (options: CommonOptions): string =>
  options.logLevel ?? (isDrawn(options.json) ? 'warn' : 'info')

/** API and page, where the file or the command says, or at the next free port; says where, and leaves word for other commands. */
export async function serve(
  { hub, directory }: OwnedHub<Hub>,
  { api: { host, port: wanted } }: HubConfig,
  { port: asked, json }: RunOptions,
): Promise<Api> {
  const port = asked ? Number(asked) : wanted
  const api = await startApi(hub, { host, port, pages: PAGES })
  directory.announce(api.url)
  const moved = port === 0 || api.port === port ? '' : ` (port ${port} is taken)`
  if (json) printJson({ url: api.url })
  else print(`Millrace at ${api.url}${moved}. Ctrl-C stops it; it goes on where it was.`)
  return api
}

export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve =>
    signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true }),
  )

export async function run(setting: Setting, file: string, options: RunOptions): Promise<void> {
  const pipelines = await loadPipelines(setting, [file], options.json)
  const config = loadHub(setting, options, 'here')
  const log = logOf(setting.secrets, levelOf(options))
  const stopped = stopSignal(STOP_MS)
  await using owned = ownHub(setting, config, log)
  using _ = isDrawn(options.json) ? drawProgress(() => owned.hub.status(), process.stderr) : null
  for (const pipeline of pipelines) await started(setting, owned, pipeline)
  const caughtUp = Promise.all(pipelines.map(({ name }) => owned.hub.running(name)!.caughtUp))
  const over = new AbortController()
  const halted = haltedOf(owned, pipelines, over.signal)
  const outcome = await Promise.race([
    aborted(stopped),
    halted,
    ...(options.untilCaughtUp ? [caughtUp.then(() => detachedOf(owned, pipelines))] : []),
  ])
  over.abort()
  if (options.json) printJson(await owned.hub.status())
  if (outcome) throw outcome
}

async function started({ secrets }: Setting, { hub }: OwnedHub, pipeline: ParsedPipeline): Promise<void> {
  try {
    await hub.start(pipeline)
  } catch (error) {
    complainOf(asConnectorError(error), text => secrets.redact(text))
    throw new Failed()
  }
}

/** What every other sink has is not what was asked for. */
function detachedOf({ hub }: OwnedHub, pipelines: readonly ParsedPipeline[]): Error | undefined {
  for (const { name } of pipelines) {
    const running = hub.running(name)
    const task = running?.sinks.find(one => running.isDetached(one.task.name))?.task
    if (task) return detachedError(task.name)
  }
  return undefined
}

/** A halted task waits for a change of the file; `run` has nobody who could make it, and ends. What is detached stops nobody. */
async function haltedOf(
  { hub, parts }: OwnedHub,
  pipelines: readonly ParsedPipeline[],
  over: AbortSignal,
): Promise<Error | undefined> {
  for (;;) {
    await parts.clock.sleep(200, over)
    if (over.aborted) return undefined
    for (const { name } of pipelines) {
      const running = hub.running(name)
      const tasks = running ? [running.source, ...running.sinks.map(one => one.task)] : []
      const halted = tasks.find(task => task.state() === 'halted' && !running?.isDetached(task.name))
      if (halted) return halted.error() ?? new Failed()
    }
  }
}
