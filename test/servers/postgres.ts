/** A real PostgreSQL for a test, on a free port, with its data in the folder for temporary files. `await using` ends it. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
  stopOrphan,
} from '../../connectors/postgres/embedded.ts'

export interface PostgresOptions {
  readonly settings?: Readonly<Record<string, string | number>>
  readonly port?: number
}

export interface PostgresServer extends AsyncDisposable {
  /** Of the superuser. Stays the same over stop and start. */
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly dataDirectory: string
  /** What the server wrote, a line each. */
  readonly log: readonly string[]
  /** As the superuser, on a connection of its own that is kept; several statements may stand in one text. Rows of the last. */
  sql<Row extends pg.QueryResultRow = Record<string, unknown>>(
    text: string,
    values?: readonly unknown[],
  ): Promise<Row[]>
  /** A further connection as the superuser (or of another URL), ended with the server at the latest. */
  client(url?: string): Promise<pg.Client>
  /** The URL of another user or database. */
  urlOf(parts: { user?: string; password?: string; database?: string }): string
  stop(): Promise<void>
  /** SIGKILL of the postmaster: a crash of the server. Resolves when it is gone. */
  kill9(): Promise<void>
  /** Again, after stop or kill9; other settings replace those of before. */
  start(settings?: Readonly<Record<string, string | number>>): Promise<void>
}

const DEFAULTS = {
  wal_level: 'logical',
  max_replication_slots: 20,
  max_wal_senders: 20,
  fsync: 'off',
  max_connections: 60,
  shared_buffers: '64MB',
}

const PREFIX = 'millrace-test-postgres-'

/** Processes whose parent is `pid`; none where there is no /proc. */
function childrenOf(pid: number): number[] {
  try {
    return readdirSync('/proc')
      .filter(name => /^\d+$/.test(name))
      .filter(name => statOf(name).split(') ')[1]?.split(' ')[1] === String(pid))
      .map(Number)
  } catch {
    return []
  }
}

function statOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return '' // it ended meanwhile
  }
}

function endNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it noticed by itself
  }
}

/** What tests left behind that were killed: their servers run on, and their data stays. */
async function sweep(): Promise<void> {
  for (const name of readdirSync(tmpdir()).filter(one => one.startsWith(PREFIX))) {
    const root = join(tmpdir(), name)
    try {
      process.kill(Number(readFileSync(join(root, 'owner'), 'utf8')), 0)
    } catch (error) {
      // No such file: it is being made at this moment.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') continue
      await stopOrphan(join(root, 'data')).catch(() => undefined)
      rmSync(root, { recursive: true, force: true })
    }
  }
}

export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const root = mkdtempSync(join(tmpdir(), PREFIX))
  writeFileSync(join(root, 'owner'), String(process.pid))
  await sweep()
  const log: string[] = []
  let settings = { ...DEFAULTS, ...options.settings }
  const launch = (port: number) =>
    startEmbeddedPostgres({ directory: join(root, 'data'), port, settings, log: line => log.push(line) })
  // mkdtemp's 0700 would lock out the user that runs the server.
  chmodSync(root, 0o711)
  let server: EmbeddedPostgres = await launch(options.port ?? 0)
  const clients = new Set<pg.Client>()
  let own: pg.Client | null = null

  const client = async (url = server.url): Promise<pg.Client> => {
    const made = new pg.Client({ connectionString: url })
    made.on('error', () => clients.delete(made))
    made.on('end', () => clients.delete(made))
    await made.connect()
    clients.add(made)
    return made
  }
  const endClients = async () => {
    own = null
    await Promise.all([...clients].map(one => one.end().catch(() => undefined)))
  }
  return {
    get url() {
      return server.url
    },
    get port() {
      return server.port
    },
    get pid() {
      return server.pid
    },
    get dataDirectory() {
      return server.directory
    },
    log,
    client,
    async sql<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) {
      if (!own || !clients.has(own)) own = await client()
      const result: unknown = await own.query(text, values as unknown[] | undefined)
      const last = (Array.isArray(result) ? result.at(-1) : result) as pg.QueryResult<Row>
      return last.rows
    },
    urlOf({ user, password, database }) {
      const url = new URL(server.url)
      if (user !== undefined) url.username = encodeURIComponent(user)
      if (password !== undefined) url.password = encodeURIComponent(password)
      if (database !== undefined) url.pathname = `/${encodeURIComponent(database)}`
      return url.href
    },
    async stop() {
      await endClients()
      await server.stop()
    },
    async kill9() {
      // Its backends as well: one that is slow to notice would keep the next start waiting.
      const backends = childrenOf(server.pid)
      process.kill(server.pid, 'SIGKILL')
      for (const pid of backends) endNow(pid)
      await server.ended
      await endClients()
    },
    async start(others) {
      if (others) settings = { ...DEFAULTS, ...others }
      server = await launch(server.port)
    },
    async [Symbol.asyncDispose]() {
      await endClients()
      await server.stop()
      rmSync(root, { recursive: true, force: true })
    },
  }
}
