/**
 * A real Elasticsearch or OpenSearch for a test: one node on a free port of loopback, with its data in the folder for
 * temporary files. `await using` ends it. Of Elasticsearch only the core is published: no scripts, no ingest processors, no
 * update or delete by query, no scaled_float; OpenSearch has them. test/golden/search/ holds what each answers.
 */
import { readFileSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../connectors/postgres/embedded.ts'
import { installSearch, type SearchServerKind } from './search-install.ts'
import {
  ask,
  type Launch,
  launch,
  makeHome,
  type Reply,
  type Running,
  type Target,
} from './search-process.ts'
import { PASSWORD, secure, USERNAME } from './search-secure.ts'

export { missingFor, SEARCH_SERVERS, type SearchServerKind } from './search-install.ts'

export interface SearchOptions {
  /** HTTPS with an authority of our own, and a password. Of opensearch-2 only. */
  readonly security?: boolean
  readonly settings?: Readonly<Record<string, string | number>>
  readonly heapMb?: number
  /** After ours, and so stronger. Ours want a quick start; for a measurement: -XX:TieredStopAtLevel=4. */
  readonly javaOptions?: readonly string[]
}

export interface SearchServer extends AsyncDisposable {
  readonly kind: SearchServerKind
  /** Stays the same over stop and start. Without the password. */
  readonly url: string
  readonly pid: number
  /** What it wrote, a line each, of all its runs. */
  readonly log: readonly string[]
  /** With security: path of the authority's certificate. */
  readonly ca?: string
  readonly username?: string
  readonly password?: string
  /** For checks that owe nothing to the code under test. A string is sent as lines of JSON. */
  request(method: string, path: string, body?: unknown): Promise<Reply>
  /** SIGTERM, then SIGKILL. Repeatable. */
  stop(): Promise<void>
  /** SIGKILL. Resolves when it is gone. */
  kill9(): Promise<void>
  /** SIGSTOP: connections stay open and nothing answers, until `thaw`. */
  freeze(): void
  thaw(): void
  /** Again, on the same port and data, after stop or kill9. */
  start(): Promise<void>
}

const DEFAULTS = {
  'cluster.name': 'test',
  'node.name': 'node-1',
  'discovery.type': 'single-node',
  'network.host': '127.0.0.1',
  // A developer's disk may well be fuller than a server likes.
  'cluster.routing.allocation.disk.threshold_enabled': 'false',
}
const START_MS = 120_000
const STOP_MS = 20_000

export async function startSearch(
  kind: SearchServerKind,
  options: SearchOptions = {},
): Promise<SearchServer> {
  if (options.security && kind !== 'opensearch-2') throw new Error('security is of opensearch-2 only')
  const installation = await installSearch(kind, options.security ?? false)
  const home = makeHome()
  const log: string[] = []
  const remove = () => rmSync(home, { recursive: true, force: true, maxRetries: 5 })
  const secured = installation.securityConfig ? secure(home, installation.securityConfig) : null
  const plan: Plan = {
    launch: {
      home,
      installation,
      heapMb: options.heapMb ?? 512,
      javaOptions: options.javaOptions ?? [],
      settings: { ...DEFAULTS, ...secured?.settings, ...options.settings },
      log: line => log.push(line),
    },
    log,
    scheme: secured ? 'https' : 'http',
    access: secured ? { ca: readFileSync(secured.ca, 'utf8'), username: USERNAME, password: PASSWORD } : {},
  }
  const first = await startAnywhere(plan).catch(error => {
    remove()
    throw error
  })
  let { running } = first
  return {
    kind,
    url: first.target.url,
    log,
    ...(secured ? { ca: secured.ca, username: USERNAME, password: PASSWORD } : {}),
    get pid() {
      return running.pid
    },
    request: (method, path, body) => ask(first.target, method, path, body),
    stop: () => end(running),
    async kill9() {
      running.signal('SIGKILL')
      await running.ended
    },
    freeze: () => running.signal('SIGSTOP'),
    thaw: () => running.signal('SIGCONT'),
    async start() {
      if (!running.hasEnded()) throw new Error('it runs already')
      running = (await startAt(first.port, plan, 10)).running
    },
    async [Symbol.asyncDispose]() {
      // Nobody wants the data any more: it need not be put in order.
      running.signal('SIGKILL')
      await running.ended
      remove()
    },
  }
}

interface Plan {
  readonly launch: Launch
  readonly log: readonly string[]
  readonly scheme: 'http' | 'https'
  readonly access: Omit<Target, 'url'>
}

interface Started {
  readonly running: Running
  readonly port: number
  readonly target: Target
}

async function startAnywhere(plan: Plan): Promise<Started> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startAt(await freePort(), plan, 1)
    } catch (error) {
      if (attempt === 5 || !isPortTaken(error)) throw error
    }
  }
}

/** A free port may be taken until the server listens there; one it had before may be somebody's connection for a while. */
async function startAt(port: number, plan: Plan, attempts: number): Promise<Started> {
  const target = { ...plan.access, url: `${plan.scheme}://127.0.0.1:${port}` }
  for (let attempt = 1; ; attempt++) {
    const from = plan.log.length
    const ports = { 'http.port': port, 'transport.port': await freePort() }
    const running = launch({ ...plan.launch, settings: { ...plan.launch.settings, ...ports } })
    const listens = () => plan.log.indexOf('it listens', from) >= 0
    if (await isReady(running, listens, target)) return { running, port, target }
    const error = new Error(`the search server did not start:\n${plan.log.slice(from).slice(-40).join('\n')}`)
    if (attempt >= attempts || !isPortTaken(error)) throw error
    await sleep(500)
  }
}

const isPortTaken = (error: unknown): boolean =>
  /Bind(Http|Transport)?Exception|Address already in use/.test(String(error))

/**
 * False: it ended, or was ended for taking too long. Nothing is asked before it says that it listens: until then another
 * server may have the port.
 */
async function isReady(running: Running, listens: () => boolean, target: Target): Promise<boolean> {
  const until = performance.now() + START_MS
  while (!running.hasEnded() && performance.now() < until) {
    const path = '/_cluster/health?wait_for_status=yellow&timeout=5s'
    // An error as long as security is being set up.
    const reply = listens() ? await ask(target, 'GET', path).catch(() => null) : null
    if (reply?.status === 200) return true
    await sleep(50)
  }
  running.signal('SIGKILL')
  await running.ended
  return false
}

async function end(running: Running): Promise<void> {
  // A frozen one would not notice.
  running.signal('SIGCONT')
  running.signal('SIGTERM')
  const isLate = await Promise.race([running.ended, sleep(STOP_MS, true, { ref: false })])
  if (isLate) running.signal('SIGKILL')
  await running.ended
}
