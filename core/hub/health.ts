/**
 * How a hub or a worker is, for whoever restarts it and whoever draws curves:
 *
 *   GET /livez      200 while the event loop turns
 *   GET /readyz     200 while it moves: it asked for tasks, or runs as many as it may, not long ago; else 503 with the reason
 *   GET /metrics    Prometheus text, by pipeline and task (exposition.ts)
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import Fastify, { type FastifyInstance } from 'fastify'
import { exposition, type ShownNumbers } from './exposition.ts'

export interface HealthParts {
  numbers(): Promise<ShownNumbers>
  /** null: it moves. Else why it does not. */
  stuck(): string | null
}

export interface HealthServer extends AsyncDisposable {
  readonly url: string
}

/** Routes on a server that is there. Answers with what ends the watch of the event loop. */
export function healthRoutes(server: FastifyInstance, { numbers, stuck }: HealthParts): Disposable {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  server.get('/livez', async () => ({ ok: true }))
  server.get('/readyz', async (_, reply) => {
    const why = stuck()
    return why === null ? { ok: true } : reply.code(503).send({ ok: false, error: why })
  })
  server.get('/metrics', async (_, reply) => {
    const eventLoopDelay = { maxMs: delay.max / 1e6, p99Ms: delay.percentile(99) / 1e6 }
    const text = exposition({ ...(await numbers()), eventLoopDelay })
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
