/**
 * The hub's HTTP API and the page, on loopback unless `hub.yaml` says otherwise:
 *
 *   GET  /                                  the page (console/)
 *   GET  /api/status                        Status
 *   GET  /api/search?pipeline=…&words=…&limit=…
 *   GET  /api/dead-letters?pipeline=…       DeadLetter[]
 *   GET  /livez /readyz /metrics            health.ts
 *   POST /api/v1/topics/{topic}             rows for a topic that people write: topics.ts
 *   POST /api/delete?pipeline=…             stops it, drops what it made upstream, its logs and progress
 *
 * Commands use it while a hub runs (`hub.json` names it). Answers 4xx as { error, hint }.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import { asConnectorError, ConnectorError } from '../errors.ts'
import { healthRoutes } from './health.ts'
import type { Hub } from './hub.ts'
import { topicRoutes } from './topics.ts'

export interface ApiOptions {
  readonly host: string
  readonly port: number
  /** Folder of the page's files. */
  readonly pages: string
}

export interface Api extends AsyncDisposable {
  readonly url: string
  /** Another one than was asked for when that was taken. */
  readonly port: number
}

const PAGES: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
}
const PORTS_TRIED = 20

interface Query {
  readonly pipeline?: string
  readonly words?: string
  readonly limit?: string
}

export async function startApi(hub: Hub, { host, port, pages }: ApiOptions): Promise<Api> {
  const server = Fastify({ logger: false, forceCloseConnections: true })
  // A page of another site must not read or steer a hub on this machine: only requests that name this host are answered.
  server.addHook('onRequest', async (request, reply) => {
    const name = (request.headers.host ?? '').replace(/:\d+$/, '')
    // A probe of Kubernetes names the pod's address, which is nobody's website.
    const isProbe = ['/livez', '/readyz', '/metrics'].includes(request.url)
    if (!isProbe && !['127.0.0.1', 'localhost', '[::1]', host].includes(name))
      return reply.code(403).send({ error: `unknown host "${name}"`, hint: null })
    // A page may post a form to any address without asking; its browser says where the page is from.
    const { origin } = request.headers
    if (origin !== undefined && !isOwn(origin, request.headers.host))
      return reply.code(403).send({ error: `a page of ${origin} asks, and only our own may`, hint: null })
  })
  server.setErrorHandler(async (thrown, _, reply) => {
    const error = asConnectorError(thrown)
    await reply
      .code(error.kind === 'bug' ? 500 : 400)
      .send({ error: error.message, hint: error.hint ?? null })
  })
  for (const [path, [file, type]] of Object.entries(PAGES))
    server.get(path, async (_, reply) =>
      reply
        .type(type)
        .header('cache-control', 'no-store')
        .send(readFileSync(join(pages, file))),
    )
  routes(server, hub)
  await topicRoutes(server, hub)
  const watch = healthRoutes(server, {
    numbers: () => hub.numbers(),
    stuck: () => null, // what it shows it asks others for; its own work is to answer
  })
  const listening = await listen(server, host, port)
  return {
    url: `http://${host}:${listening}`,
    port: listening,
    async [Symbol.asyncDispose]() {
      watch[Symbol.dispose]()
      await server.close()
    },
  }
}

function routes(server: FastifyInstance, hub: Hub): void {
  server.get('/api/status', async () => hub.status())
  server.get<{ Querystring: Query }>('/api/search', async ({ query }) => {
    const limit = Math.min(100, Math.max(1, Number(query.limit ?? 20) || 20))
    return hub.search(named(query), query.words ?? '', limit)
  })
  server.get<{ Querystring: Query }>('/api/dead-letters', async ({ query }) => hub.deadLetters(named(query)))
  server.post<{ Querystring: Query }>('/api/delete', async ({ query }) => ({
    dropped: await hub.remove(named(query)),
  }))
}

function named({ pipeline }: Query): string {
  if (pipeline) return pipeline
  throw new ConnectorError('config', 'which pipeline? Add ?pipeline=NAME')
}

const isOwn = (origin: string, host: string | undefined): boolean =>
  URL.canParse(origin) && new URL(origin).host === host

/** The port, or the next free one. */
async function listen(server: FastifyInstance, host: string, first: number): Promise<number> {
  for (let port = first; ; port++) {
    try {
      await server.listen({ host, port })
      const address = server.server.address()
      return typeof address === 'object' && address ? address.port : port
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || port - first >= PORTS_TRIED) throw error
    }
  }
}
