/**
 * A real Redis for a test, on a free port of loopback, with its data in the folder for temporary files; or two of them, one the
 * other's replica, with a sentinel that watches. `await using` ends them. `redis-server` must be on the path.
 *
 *   millrace-test-redis-XXXXXX/
 *     certificates/                      with TLS
 *     <name>/redis.conf  <name>/data/    of each server. The configuration is the server's own from then on: a sentinel has it
 *                                        rewritten
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeAuthority } from './certificates.ts'
import { isOnPath } from './install.ts'
import { allOrNone, eventually, makeHome, onFreePorts, removeHome, ServerProcess } from './process.ts'
import { command, type RedisReply, type RedisTarget } from './redis-protocol.ts'

export type { RedisReply } from './redis-protocol.ts'

/** Values as they stand in redis.conf. After ours, and so stronger; to keep data over kill -9: { appendonly: 'yes' }. */
export type RedisSettings = Readonly<Record<string, string>>

export interface RedisOptions {
  readonly password?: string
  /** With an authority of our own, and without the plain port. */
  readonly tls?: boolean
  readonly settings?: RedisSettings
}

export interface RedisNode {
  /** redis:// or rediss://, with the password. Stays the same over stop and start. */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** What it wrote, a line each, of all its runs. */
  readonly log: readonly string[]
  /** SIGTERM, then SIGKILL. Repeatable. */
  stop(): Promise<void>
  /** SIGKILL. Resolves when it is gone. */
  kill9(): Promise<void>
  /** SIGSTOP: connections stay open and nothing answers, until `thaw`. */
  freeze(): void
  thaw(): void
  /** Again, on the same port and data, after stop or kill9. */
  start(): Promise<void>
  /** For checks that owe nothing to the code under test. Each on a connection of its own. */
  command(...args: string[]): Promise<RedisReply>
}

export interface RedisServer extends RedisNode, AsyncDisposable {
  /** With TLS: path of the authority's certificate. */
  readonly ca?: string
}

export interface SentinelGroup extends AsyncDisposable {
  /** How the sentinel calls what it watches. */
  readonly masterName: string
  /** host:port of the sentinel. */
  readonly sentinels: readonly string[]
  readonly sentinel: RedisNode
  /** The first is the master to begin with. */
  readonly servers: readonly RedisNode[]
  /** As the sentinel says. */
  master(): Promise<RedisNode>
  /** Once the other has taken over from it. */
  masterAfter(old: RedisNode): Promise<RedisNode>
  /** kill -9 of the master. Resolves to the other once that has taken over; the old one may then be started as its replica. */
  failOver(): Promise<RedisNode>
}

/** Why this machine cannot run it (null: it can). */
export function missingForRedis(options: { tls?: boolean } = {}): string | null {
  const missing = ['redis-server', ...(options.tls ? ['openssl'] : [])].filter(one => !isOnPath(one))
  return missing.length > 0 ? `redis needs ${missing.join(', ')}` : null
}

export function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const tls = options.tls ?? false
  return inNewHome({ tls }, 1, async (home, [port]) => {
    const { ca, settings } = tls ? makeSecure(join(home, 'certificates'), port!) : {}
    const server = new Redis(join(home, 'server'), port!, {
      password: options.password,
      ca,
      settings: { ...dataSettings(options.password), ...settings, ...options.settings },
    })
    await allOrNone([server], () => server.start(1))
    return Object.assign(server, {
      ...(ca === undefined ? {} : { ca }),
      [Symbol.asyncDispose]: () => endAll([server], home),
    })
  })
}

export interface RedisCluster extends AsyncDisposable {
  /** host:port of each. */
  readonly addresses: readonly string[]
  /** Each has a third of the slots. */
  readonly masters: readonly RedisNode[]
}

const SLOTS = 16_384

/** Three masters, no replicas. */
export function startRedisCluster(): Promise<RedisCluster> {
  return inNewHome({}, 6, async (home, ports) => {
    const masters = ports.slice(0, 3).map(
      (port, i) =>
        new Redis(join(home, `master-${i}`), port, {
          settings: {
            ...dataSettings(undefined),
            'cluster-enabled': 'yes',
            'cluster-port': String(ports[3 + i]),
          },
        }),
    )
    await allOrNone(masters, async () => {
      for (const [i, master] of masters.entries()) {
        await master.start(1)
        const [from, to] = [0, 1].map(next => Math.floor(((i + next) * SLOTS) / masters.length))
        await master.command('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to! - 1))
        if (i > 0) await master.command('CLUSTER', 'MEET', '127.0.0.1', String(ports[0]), String(ports[3]))
      }
      await eventually('all know of all', async () => {
        const states = await Promise.all(masters.map(one => one.command('CLUSTER', 'INFO')))
        return states.every(one => /cluster_state:ok[\s\S]*cluster_known_nodes:3/.test(String(one)))
      })
    })
    return {
      masters,
      addresses: masters.map(({ port }) => `127.0.0.1:${port}`),
      [Symbol.asyncDispose]: () => endAll(masters, home),
    }
  })
}

const MASTER_NAME = 'main'
/** After so long without an answer the master is given up. Shorter, and a busy machine fails over from one that is well. */
const DOWN_AFTER_MS = 2_000

/** One master, one replica, one sentinel. `settings` are of the first two. */
export function startSentinel(options: Omit<RedisOptions, 'tls'> = {}): Promise<SentinelGroup> {
  const { password } = options
  return inNewHome({}, 3, async (home, [first, second, third]) => {
    // Else it waits five seconds for further replicas before it sends one its data.
    const settings = { ...dataSettings(password), 'repl-diskless-sync-delay': '0', ...options.settings }
    const one = new Redis(join(home, 'first'), first!, { password, settings })
    const other = new Redis(join(home, 'second'), second!, {
      password,
      settings: { ...settings, replicaof: `127.0.0.1 ${first}` },
    })
    const sentinel = new Redis(join(home, 'sentinel'), third!, {
      isSentinel: true,
      settings: sentinelSettings(first!, password),
    })
    await allOrNone([one, other, sentinel], async () => {
      await one.start(1)
      await other.start(1)
      // The sentinel asks for the replicas at once, and then every ten seconds only.
      await eventually('the replica is in step', async () =>
        includes(await other.command('ROLE'), 'connected'),
      )
      await sentinel.start(1)
      await eventually('the sentinel knows the replica', () => knowsReplica(sentinel))
    })
    return groupOf([one, other], sentinel, home)
  })
}

const includes = (reply: RedisReply, item: string): boolean => Array.isArray(reply) && reply.includes(item)

async function knowsReplica(sentinel: RedisNode): Promise<boolean> {
  const replicas = await sentinel.command('SENTINEL', 'REPLICAS', MASTER_NAME)
  // Of each, names and values in turn. Its flags are more as long as it is not well.
  return Array.isArray(replicas) && replicas.some(one => includes(one, 'slave') && includes(one, 'ok'))
}

function groupOf(servers: readonly Redis[], sentinel: Redis, home: string): SentinelGroup {
  const master = async (): Promise<RedisNode> => {
    const address = await sentinel.command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER_NAME)
    const found = servers.find(one => includes(address, String(one.port)))
    if (!found) throw new Error(`the sentinel names another master: ${address}`)
    return found
  }
  const masterAfter = async (old: RedisNode): Promise<RedisNode> => {
    const other = servers.find(one => one !== old)!
    await eventually(
      'the replica took over',
      async () => (await master()) === other && includes(await other.command('ROLE'), 'master'),
    )
    return other
  }
  return {
    masterName: MASTER_NAME,
    sentinels: [`127.0.0.1:${sentinel.port}`],
    sentinel,
    servers,
    master,
    masterAfter,
    async failOver() {
      const old = await master()
      await old.kill9()
      return masterAfter(old)
    },
    [Symbol.asyncDispose]: () => endAll([sentinel, ...servers], home),
  }
}

async function inNewHome<T>(
  needs: { tls?: boolean },
  ports: number,
  start: (home: string, ports: readonly number[]) => Promise<T>,
): Promise<T> {
  const missing = missingForRedis(needs)
  if (missing) throw new Error(missing)
  const home = makeHome('redis')
  try {
    return await onFreePorts(ports, free => start(home, free))
  } catch (error) {
    removeHome(home)
    throw error
  }
}

async function endAll(servers: readonly Redis[], home: string): Promise<void> {
  // Nobody wants the data any more: it need not be put in order.
  await Promise.all(servers.map(one => one.kill9()))
  removeHome(home)
}

function dataSettings(password: string | undefined): RedisSettings {
  const quoted = JSON.stringify(password)
  return {
    save: '""',
    appendonly: 'no',
    // As a replica it logs in where it lets in: any of two may be the master.
    ...(password === undefined ? {} : { requirepass: quoted, masterauth: quoted }),
  }
}

function makeSecure(folder: string, port: number): { ca: string; settings: RedisSettings } {
  const authority = makeAuthority(folder)
  const { cert, key } = authority.issue('redis')
  return {
    ca: authority.ca,
    settings: {
      port: '0',
      'tls-port': String(port),
      'tls-cert-file': cert,
      'tls-key-file': key,
      'tls-ca-cert-file': authority.ca,
      'tls-auth-clients': 'no',
    },
  }
}

const sentinelSettings = (port: number, password: string | undefined): RedisSettings => ({
  [`sentinel monitor ${MASTER_NAME}`]: `127.0.0.1 ${port} 1`,
  [`sentinel down-after-milliseconds ${MASTER_NAME}`]: String(DOWN_AFTER_MS),
  // One that failed is tried again after twice as long.
  [`sentinel failover-timeout ${MASTER_NAME}`]: '5000',
  ...(password === undefined ? {} : { [`sentinel auth-pass ${MASTER_NAME}`]: JSON.stringify(password) }),
})

interface Making {
  readonly password?: string | undefined
  readonly ca?: string | undefined
  readonly isSentinel?: boolean
  readonly settings: RedisSettings
}

class Redis extends ServerProcess implements RedisNode {
  readonly port: number
  readonly url: string
  readonly #target: RedisTarget

  constructor(directory: string, port: number, { password, ca, isSentinel, settings }: Making) {
    const target = { host: '127.0.0.1', port, password, ca }
    const data = join(directory, 'data')
    mkdirSync(data, { recursive: true })
    const file = join(directory, 'redis.conf')
    const all = { port: String(port), bind: '127.0.0.1', dir: data, ...settings }
    const lines = Object.entries(all).map(([name, value]) => `${name} ${value}\n`)
    writeFileSync(file, lines.join(''))
    super({
      directory,
      program: 'redis-server',
      arguments: [file, ...(isSentinel ? ['--sentinel'] : [])],
      listens: isSentinel ? /\+monitor master/ : /Ready to accept connections/,
      isReady: async () => (await command(target, ['PING'])) === 'PONG',
    })
    this.port = port
    const login = password === undefined ? '' : `:${encodeURIComponent(password)}@`
    this.url = `${ca === undefined ? 'redis' : 'rediss'}://${login}127.0.0.1:${port}`
    this.#target = target
  }

  command(...args: string[]): Promise<RedisReply> {
    return command(this.#target, args)
  }
}
