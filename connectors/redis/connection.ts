/** Options of a connection to Redis, how it is made, and what its errors are to us. One server, Sentinel, or a cluster. */
import { readFileSync } from 'node:fs'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { z } from 'zod'
import type { Log } from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'

const node = z.string().regex(/^[^\s:/]+:\d{1,5}$/, 'must be host:port')

export const connection = {
  url: z.string().min(1).meta({
    title: 'URL',
    description:
      '`redis://user:password@host:6379/0`, `rediss://` for TLS. With `sentinel` or `cluster` its user, password, TLS and database count.',
    secret: true,
  }),
  sentinel: z
    .strictObject({
      nodes: z.array(node).min(1).meta({ title: 'Nodes', description: 'host:port of some sentinels.' }),
      name: z.string().min(1).meta({ title: 'Name', description: 'What the sentinels call the master.' }),
    })
    .optional()
    .meta({ title: 'Sentinel', description: 'Who knows the master.' }),
  cluster: z.array(node).min(1).optional().meta({
    title: 'Cluster',
    description: 'host:port of some nodes of a Redis Cluster; it has no databases but 0.',
  }),
  tls: z
    .strictObject({
      ca: z.string().min(1).optional().meta({
        title: 'Authority',
        description: 'A PEM file with the certificate of the authority that signed the server’s.',
      }),
      cert: z.string().min(1).optional().meta({
        title: 'Certificate',
        description: 'A PEM file with our own certificate, where the server asks for one.',
      }),
      key: z.string().min(1).optional().meta({
        title: 'Key',
        description: 'The PEM file of that certificate’s private key.',
      }),
    })
    .optional()
    .meta({ title: 'TLS', description: 'Files of certificates; the paths are from the current directory.' }),
} as const

const connectionSchema = z.strictObject(connection)
export type ConnectionConfig = z.output<typeof connectionSchema>

/** What connectors of Redis ask of it, whatever it is. */
export type Client = Redis | Cluster

export interface Connection extends AsyncDisposable {
  readonly client: Client
  readonly isCluster: boolean
  /** For messages: without secrets. */
  readonly target: string
  /** The policy by which it gives up any key when it is full; null: it does not. */
  readonly evicts: string | null
}

/** ZADD's GT came with it. */
const OLDEST = [6, 2] as const
const CONNECT_MS = 3_000
const COMMAND_MS = 15_000

/**
 * A connection that gives up at once: what became of a write whose answer was lost is found out by opening anew, never by sending
 * it again.
 */
export async function connect(config: ConnectionConfig, log: Log): Promise<Connection> {
  const target = targetOf(config)
  if (!/^rediss?:\/\/\S/.test(config.url) || !URL.canParse(config.url))
    throw new ConnectorError('config', 'the url of Redis must begin with redis:// or rediss://', {
      hint: 'As redis://user:password@localhost:6379/0.',
    })
  const client = clientOf(config)
  let last: Error | null = null
  let info = ''
  client.on('error', (error: Error) => {
    last = error
    log.debug({ target }, `Redis: ${error.message}`)
  })
  try {
    await client.connect()
    info = await client.info()
    refuseOld(info, target)
    refuseUnnamedCluster(info, config, target)
  } catch (error) {
    client.disconnect()
    throw redisError(last ?? error, target)
  }
  return {
    client,
    isCluster: config.cluster !== undefined,
    target,
    evicts: /^maxmemory:[1-9]/m.test(info)
      ? (/^maxmemory_policy:(allkeys-\w+)/m.exec(info)?.[1] ?? null)
      : null,
    async [Symbol.asyncDispose]() {
      client.disconnect()
    },
  }
}

function clientOf(config: ConnectionConfig): Client {
  const { url, sentinel, cluster } = config
  const shared: RedisOptions = {
    connectTimeout: CONNECT_MS,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableAutoPipelining: false,
    commandTimeout: COMMAND_MS,
    ...tlsOf(config),
  }
  const addresses = (nodes: readonly string[]) =>
    nodes.map(one => ({
      host: one.slice(0, one.lastIndexOf(':')),
      port: Number(one.slice(one.lastIndexOf(':') + 1)),
    }))
  if (cluster)
    return new Cluster(addresses(cluster), {
      lazyConnect: true,
      clusterRetryStrategy: () => null,
      slotsRefreshTimeout: CONNECT_MS,
      enableOfflineQueue: true, // of a node that the slots have only just named
      redisOptions: { ...shared, ...credentials(url), db: 0 },
    })
  const single: RedisOptions = { ...shared, lazyConnect: true, retryStrategy: () => null }
  if (!sentinel) return new Redis(url, single)
  return new Redis({
    ...single,
    ...credentials(url),
    name: sentinel.name,
    sentinels: addresses(sentinel.nodes),
    sentinelRetryStrategy: () => null,
  })
}

function tlsOf({ url, tls }: ConnectionConfig): RedisOptions {
  const named = Object.entries(tls ?? {}).filter(([, path]) => path !== undefined)
  if (!tls && !url.startsWith('rediss:')) return {}
  return { tls: Object.fromEntries(named.map(([name, path]) => [name, readPem(name, path!)])) }
}

function readPem(name: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConnectorError('config', `the file ${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
      hint: `\`tls.${name}\` is the path of a PEM file.`,
    })
  }
}

function credentials(url: string): RedisOptions {
  const { username, password, pathname } = new URL(url)
  return {
    ...(username ? { username: decodeURIComponent(username) } : {}),
    ...(password ? { password: decodeURIComponent(password) } : {}),
    db: Number(pathname.slice(1)) || 0,
  }
}

/** Where it connects to, without secrets: also what tells one target from another. */
export function targetOf({ url, sentinel, cluster }: ConnectionConfig): string {
  if (!URL.canParse(url)) return '(no address)'
  const { host, pathname } = new URL(url)
  if (cluster) return cluster.join(',')
  const database = Number(pathname.slice(1)) || 0
  return `${sentinel ? `${sentinel.name}@${sentinel.nodes.join(',')}` : host}/${database}`
}

function refuseOld(info: string, target: string): void {
  const version = /redis_version:(\d+)\.(\d+)/.exec(info)
  if (!version) return
  const [major, minor] = [Number(version[1]), Number(version[2])]
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return
  throw new ConnectorError('config', `Redis ${target} is version ${major}.${minor}`, {
    hint: `Version ${OLDEST.join('.')} or newer is needed.`,
  })
}

function refuseUnnamedCluster(info: string, { url, cluster }: ConnectionConfig, target: string): void {
  if (cluster || !/^redis_mode:cluster/m.test(info)) return
  throw new ConnectorError('config', `Redis ${target} is a node of a cluster`, {
    hint: `Name it, and some others: cluster: ["${new URL(url).host}"].`,
  })
}

/** The last is what a script says of a command inside it. */
const NOT_ALLOWED =
  /NOAUTH|WRONGPASS|NOPERM|invalid username-password|no permissions|user executing the script can't/i
const TLS = /self.signed|certificate|ERR_TLS|ERR_SSL|wrong version number|UNABLE_TO_/i
const FULL = /\bOOM\b|MISCONF/

export function redisError(thrown: unknown, target: string): Error {
  if (thrown instanceof ConnectorError || thrown instanceof Fenced) return thrown
  const { message = String(thrown), lastNodeError } = thrown as { message?: string; lastNodeError?: Error }
  const said = lastNodeError ? `${message} (${lastNodeError.message})` : message
  const told = `Redis ${target}: ${said}`
  const options = (hint: string) => ({ cause: thrown, hint })
  if (NOT_ALLOWED.test(said))
    return new ConnectorError(
      'auth',
      told,
      options(
        'The user needs the keys of the template and millrace:*, and +@read +@write +@scripting +@connection +info (ACL SETUSER).',
      ),
    )
  if (TLS.test(said))
    return new ConnectorError(
      'auth',
      told,
      options('See url (rediss:// for TLS) and tls.ca: a PEM file of the authority.'),
    )
  if (/cluster support disabled/.test(said))
    return new ConnectorError(
      'config',
      told,
      options('It is no cluster: leave out `cluster`, and name it in `url`.'),
    )
  if (FULL.test(said))
    return new ConnectorError(
      'throttled',
      told,
      options('Redis is full: raise maxmemory, or let keys expire with ttl_seconds.'),
    )
  if (/^READONLY/.test(said))
    return new ConnectorError(
      'unavailable',
      told,
      options('It is a replica: name the master, or the sentinels that know it.'),
    )
  return new ConnectorError('unavailable', told, options('Is it running, and is the address right?'))
}
