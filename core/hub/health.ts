/**
 * How a hub or a worker is, for whoever restarts it and whoever draws curves:
 *
 *   GET /livez      200 while the event loop turns
 *   GET /readyz     200 while it moves: it asked for tasks, or runs as many as it may, not long ago; else 503 with the reason
 *   GET /metrics    Prometheus text, by pipeline and task (https://prometheus.io/docs/instrumenting/exposition_formats/)
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import Fastify, { type FastifyInstance } from 'fastify'

export interface TaskNumbers {
  readonly name: string
  readonly state: string
  readonly metrics: Readonly<Record<string, number>>
  readonly lag_records?: number
  readonly lag_seconds?: number
}

export interface HealthParts {
  tasks(): Promise<readonly TaskNumbers[]>
  /** null: it moves. Else why it does not. */
  stuck(): string | null
}

export interface HealthServer extends AsyncDisposable {
  readonly url: string
}

/** Those of a task that only grow. */
const COUNTERS = ['records', 'batches', 'failures', 'refused', 'snapshot_rows']

/** Routes on a server that is there. Answers with what ends the watch of the event loop. */
export function healthRoutes(server: FastifyInstance, { tasks, stuck }: HealthParts): Disposable {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  server.get('/livez', async () => ({ ok: true }))
  server.get('/readyz', async (_, reply) => {
    const why = stuck()
    return why === null ? { ok: true } : reply.code(503).send({ ok: false, error: why })
  })
  server.get('/metrics', async (_, reply) => {
    const text = exposition(await tasks(), delay.max / 1e6, delay.percentile(99) / 1e6)
    delay.reset()
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(text)
  })
  return { [Symbol.dispose]: () => void delay.disable() }
}

export async function startHealth(parts: HealthParts, host: string, port: number): Promise<HealthServer> {
  const server = Fastify({ logger: false, forceCloseConnections: true })
  const watch = healthRoutes(server, parts)
  await server.listen({ host, port })
  const address = server.server.address()
  const listening = typeof address === 'object' && address ? address.port : port
  return {
    url: `http://${host}:${listening}`,
    async [Symbol.asyncDispose]() {
      watch[Symbol.dispose]()
      await server.close()
    },
  }
}

const label = (text: string): string => JSON.stringify(text) // the escapes that Prometheus knows are among JSON's

export function exposition(tasks: readonly TaskNumbers[], delayMaxMs: number, delayP99Ms: number): string {
  const families = new Map<string, { type: 'counter' | 'gauge'; lines: string[] }>()
  const add = (name: string, type: 'counter' | 'gauge', labels: string, value: number) => {
    if (!Number.isFinite(value)) return
    const family = families.get(name) ?? { type, lines: [] }
    families.set(name, family)
    family.lines.push(`${name}${labels} ${value}`)
  }
  for (const { name, state, metrics, lag_records: lag, lag_seconds: seconds } of tasks) {
    const pipeline = name.slice(0, name.indexOf('/'))
    const labels = `pipeline=${label(pipeline)},task=${label(name)}`
    add('millrace_task_state', 'gauge', `{${labels},state=${label(state)}}`, 1)
    if (lag !== undefined) add('millrace_task_lag_records', 'gauge', `{${labels}}`, lag)
    if (seconds !== undefined) add('millrace_task_lag_seconds', 'gauge', `{${labels}}`, seconds)
    for (const [key, value] of Object.entries(metrics))
      if (COUNTERS.includes(key)) add(`millrace_task_${key}_total`, 'counter', `{${labels}}`, value)
      else add(`millrace_task_${key.replace(/[^a-z0-9_]/gi, '_')}`, 'gauge', `{${labels}}`, value)
  }
  add('millrace_event_loop_delay_max_ms', 'gauge', '', delayMaxMs)
  add('millrace_event_loop_delay_p99_ms', 'gauge', '', delayP99Ms)
  return [...families]
    .map(([name, { type, lines }]) => `# TYPE ${name} ${type}\n${lines.join('\n')}\n`)
    .join('')
}
