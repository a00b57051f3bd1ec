/** `millrace hub` and `millrace worker`: the parts of a hub that runs on several machines, with Kafka as log and Redis as queue. */
import { hostname } from 'node:os'
import type { Log } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import { type HealthServer, startHealth } from '../hub/health.ts'
import { openRemoteHub } from '../hub/remote.ts'
import { type RunningWorker, startWorker } from '../hub/work.ts'
import type { HubConfig } from '../pipeline/hub-schema.ts'
import type { TaskKind, TaskQueue } from '../queue/queue.ts'
import type { Json } from '../record.ts'
import { backoffMs } from '../worker/backoff.ts'
import { realClock, watchLoopDelay } from '../worker/clock.ts'
import { BadInput, complain, print, printJson } from './output.ts'
import {
  type CommonOptions,
  loadHub,
  loadPipelines,
  logOf,
  logsOf,
  openQueue,
  ownAny,
  type PipelineText,
  parseText,
  type Setting,
  stopSignal,
  textsOf,
} from './session.ts'
import { aborted, serve } from './up.ts'

/** What is in flight is saved, and the tasks are given back, within this after SIGTERM. */
const HAND_OVER_MS = 9_500
/** Longer than a take from the queue ever lasts. */
const STUCK_MS = 60_000

const QUEUE_RETRY = { maxAttempts: Number.POSITIVE_INFINITY, backoffMs: 200, maxBackoffMs: 5_000 }

/**
 * A Redis that is away when we start is what one is that goes away later: no reason to end, for who supervises us could only start us
 * again. So meanwhile we say that we live, and what we wait for. What waiting does not mend, such as a wrong password, is thrown.
 * null: stopped first.
 */
async function queueWhenThere(
  config: HubConfig,
  log: Log,
  stopped: AbortSignal,
  port: number,
): Promise<TaskQueue | null> {
  let why = ''
  let waiting: HealthServer | null = null
  try {
    for (let attempt = 1; !stopped.aborted; attempt++)
      try {
        return await openQueue(config, log)
      } catch (error) {
        if (!(error instanceof ConnectorError) || error.kind !== 'unavailable') throw error
        why = `the queue is not there and will be tried again: ${error.message}`
        const hint = error.hint ?? 'Is it running, and is queue.url of hub.yaml right?'
        log.warn({ attempt, hint }, why)
        const numbers = async () => ({ tasks: [], pipelines: [] })
        // A port that is taken is told by the server that comes behind this one.
        waiting ??= await startHealth({ numbers, stuck: () => why }, config.api.host, port).catch(() => null)
        await realClock.sleep(backoffMs(QUEUE_RETRY, attempt, Math.random()), stopped)
      }
    return null
  } finally {
    await waiting?.[Symbol.asyncDispose]()
  }
}

export interface HubOptions extends CommonOptions {
  readonly port?: string
}

export async function hub(setting: Setting, paths: readonly string[], options: HubOptions): Promise<void> {
  const config = loadHub(setting, options, 'workers')
  const pipelines = await loadPipelines(setting, paths.length > 0 ? paths : ['pipelines'], options.json)
  const texts = textsOf(pipelines)
  const log = logOf(setting.secrets, options.logLevel ?? 'info')
  const stopped = stopSignal(HAND_OVER_MS)
  await using queue = await queueWhenThere(config, log, stopped, Number(options.port ?? config.api.port))
  if (!queue) return
  await using owned = ownAny(setting, config, log, parts =>
    openRemoteHub({ ...parts, queue, dataOf: ({ name }) => texts.get(name)! as unknown as Json }),
  )
  for (const pipeline of pipelines) owned.hub.keepStarting(pipeline)
  await using _api = await serve(owned, config, options)
  await aborted(stopped)
}

export interface WorkerOptions extends CommonOptions {
  readonly concurrency: string
  readonly only?: string
  readonly port?: string
}

const KINDS: Readonly<Record<string, readonly TaskKind[]>> = { sources: ['source'], sinks: ['sink'] }

function kindsOf(only: string | undefined): readonly TaskKind[] {
  if (only === undefined) return ['source', 'sink']
  const kinds = KINDS[only]
  if (kinds) return kinds
  complain(`--only is "${only}": must be sources or sinks`)
  throw new BadInput()
}

function concurrencyOf(text: string): number {
  const concurrency = Number(text)
  if (Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= 10_000) return concurrency
  complain(`--concurrency is "${text}": must be a whole number from 1 to 10000`)
  throw new BadInput()
}

export async function worker(setting: Setting, options: WorkerOptions): Promise<void> {
  const config = loadHub(setting, options, 'workers')
  const [kinds, concurrency] = [kindsOf(options.only), concurrencyOf(options.concurrency)]
  const log = logOf(setting.secrets, options.logLevel ?? 'info')
  const stopped = stopSignal(HAND_OVER_MS)
  await using queue = await queueWhenThere(config, log, stopped, Number(options.port ?? 0))
  if (!queue) return
  const owner = `${hostname()}/${process.pid}`
  const running = startWorker({
    queue,
    logs: logsOf(config, null, log),
    clock: realClock,
    random: Math.random,
    log,
    redact: text => setting.secrets.redact(text),
    parse: data => parseText(setting, data as unknown as PipelineText),
    owner,
    concurrency,
    kinds,
    lockMs: config.queue!.lock_ms,
    loopDelayMs: watchLoopDelay(),
    signal: stopped,
  })
  await using health = await healthOf(running, concurrency, config, options)
  if (options.json) printJson({ worker: owner, health: health.url })
  else
    print(
      `Worker ${owner} takes up to ${concurrency} tasks (${kinds.join(', ')}). Health at ${health.url}/readyz. Ctrl-C hands them over.`,
    )
  await running.done
}

const healthOf = (
  running: RunningWorker,
  concurrency: number,
  { api }: HubConfig,
  options: WorkerOptions,
): Promise<HealthServer> =>
  startHealth(
    {
      numbers: async () => ({
        tasks: running.tasks().map(({ name, metrics }) => ({
          name,
          metrics: metrics.all(),
          histograms: metrics.histograms(),
        })),
        pipelines: [],
      }),
      stuck() {
        if (running.tasks().length >= concurrency) return null // it need not ask for more
        const idleMs = realClock.monotonicMs() - running.movedMs()
        return idleMs > STUCK_MS ? `no task was asked for in ${Math.round(idleMs / 1000)} s` : null
      },
    },
    api.host,
    options.port ? Number(options.port) : 0,
  )
