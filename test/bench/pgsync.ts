/**
 * pgsync on the same database and cluster, as a peer: what users come from. Installed from PyPI into a folder of its own, with Redis
 * from Debian; where that cannot be, it is skipped by name.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../connectors/postgres/embedded.ts'
import type { PostgresServer } from '../servers/postgres.ts'
import type { SearchServer } from '../servers/search.ts'

const VERSION = '7.3.0'
const HOME = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'millrace', `pgsync-${VERSION}`)

export interface Pgsync extends AsyncDisposable {
  readonly index: string
  /** Indexes what is there, or what came since, and ends; with `isDaemon` it goes on. */
  start(isDaemon: boolean): ChildProcess
}

const installed = (command: string, args: readonly string[]): boolean =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0

/** Why it cannot run here; null: it can. */
function install(): string | null {
  if (!installed('redis-server', ['--version'])) {
    installed('apt-get', ['install', '-y', 'redis-server'])
    if (!installed('redis-server', ['--version'])) return 'redis-server is not installed'
  }
  if (existsSync(join(HOME, 'bin', 'pgsync'))) return null
  if (!installed('python3', ['-m', 'venv', HOME])) return 'python3 -m venv failed'
  return installed(join(HOME, 'bin', 'pip'), ['install', '-q', `pgsync==${VERSION}`])
    ? null
    : `pip install pgsync==${VERSION} failed`
}

/** A text instead: why there is none. */
export async function startPgsync(
  database: PostgresServer,
  cluster: SearchServer,
  folder: string,
): Promise<Pgsync | string> {
  const missing = install()
  if (missing !== null) return missing
  const index = 'pgsync-t'
  const schema = join(folder, 'schema.json')
  writeFileSync(
    schema,
    JSON.stringify([{ database: 'postgres', index, nodes: { table: 't', schema: 'bench' } }]),
  )
  const redisPort = String(await freePort())
  const redis = spawn('redis-server', ['--port', redisPort, '--bind', '127.0.0.1', '--save', ''], {
    cwd: folder,
    stdio: 'ignore',
  })
  const { hostname, port, username, password } = new URL(database.url)
  const isOpensearch = cluster.kind.startsWith('opensearch')
  const env = {
    PATH: process.env.PATH,
    PG_HOST: hostname,
    PG_PORT: port,
    PG_USER: username,
    PG_PASSWORD: decodeURIComponent(password),
    PG_SSLMODE: 'disable',
    ELASTICSEARCH_URL: cluster.url,
    OPENSEARCH: String(isOpensearch),
    ELASTICSEARCH: String(!isOpensearch),
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: redisPort,
    // As fast as it goes.
    POLL_TIMEOUT: '0.01',
    POLL_INTERVAL: '0.01',
    LOG_LEVEL: 'ERROR',
  }
  const run = (program: string, args: readonly string[]) =>
    spawn(join(HOME, 'bin', program), ['-c', schema, ...args], { cwd: folder, env, stdio: 'ignore' })
  const stop = async () => {
    const gone = new Promise(resolve => redis.once('exit', resolve))
    redis.kill()
    await gone
  }
  const status = await new Promise(resolve => run('bootstrap', []).once('exit', resolve))
  if (status !== 0) {
    await stop()
    return `its bootstrap ended with ${status}`
  }
  return { index, start: isDaemon => run('pgsync', isDaemon ? ['-d'] : []), [Symbol.asyncDispose]: stop }
}
