/** The sinks that kill rounds write into, each looked at by its own means. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'libsql'
import { startMariadb } from '../servers/mariadb.ts'
import { startPostgres } from '../servers/postgres.ts'
import { type RedisServer, startRedis } from '../servers/redis.ts'
import { type SearchServer, type SearchServerKind, startSearch } from '../servers/search.ts'
import { startAgain } from './program.ts'

export const TABLES = ['ledger', 'extra'] as const
export type LedgerTable = (typeof TABLES)[number]

export interface SoakSink extends AsyncDisposable {
  /** The sink's line of a pipeline's file. `folder`: where the pipeline runs. */
  yaml(folder: string): string
  /** Before a generation: nothing is left of the one before. */
  reset(): Promise<void>
  /** Ids and versions of some or all documents of a table; throws while it cannot be looked at. */
  versions(folder: string, table: LedgerTable): Promise<readonly (readonly [id: string, version: number])[]>
  /** How many documents of the ledger there are. */
  held(folder: string): Promise<number>
  /** Id → document as JSON text, complete. A table that is not there is empty. */
  documents(folder: string, table: LedgerTable): Promise<ReadonlyMap<string, string>>
  /** SIGKILL of the sink's own server, and its start; null: it has none. */
  readonly crash: (() => Promise<void>) | null
  readonly freeze: ((ms: number) => Promise<void>) | null
}

export const sqliteSink = (): SoakSink => ({
  yaml: () => '{ name: index, type: sqlite, path: index.db }',
  async reset() {},
  async versions(folder, table) {
    return reading(folder, database =>
      (database.prepare(`SELECT id, version FROM ${table}`).all() as { id: string; version: number }[]).map(
        ({ id, version }) => [id, version] as const,
      ),
    )
  },
  async held(folder) {
    return reading(
      folder,
      database => (database.prepare('SELECT count(*) AS n FROM ledger').get() as { n: number }).n,
    )
  },
  async documents(folder, table) {
    return reading(folder, database => {
      if (!database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(table))
        return new Map()
      const rows = database.prepare(`SELECT id, document FROM ${table}`).all() as {
        id: string
        document: string
      }[]
      return new Map(rows.map(row => [row.id, row.document]))
    })
  },
  crash: null,
  freeze: null,
  async [Symbol.asyncDispose]() {},
})

/** Read-only, so that it neither recovers nor checkpoints what the program was killed in the middle of. */
function reading<T>(folder: string, work: (database: Database.Database) => T): T {
  const path = join(folder, 'index.db')
  if (!existsSync(path)) throw new Error('there is no index yet')
  const database = new Database(`file:${path}?mode=ro`, { timeout: 50 })
  try {
    return work(database)
  } finally {
    database.close()
  }
}

const PAGE = 5_000
const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

export async function searchSink(kind: SearchServerKind): Promise<SoakSink> {
  const server = await startSearch(kind)
  const type = kind.startsWith('opensearch') ? 'opensearch' : 'elasticsearch'
  const index = (table: LedgerTable) => `soak-${table}`
  return {
    yaml: () =>
      `{ name: index, type: ${type}, url: "${server.url}", bulk: { actions: 500, timeout_ms: 3000 }, settings: { refresh_interval: 200ms } }`,
    async reset() {
      for (const table of TABLES) await server.request('DELETE', `/${index(table)}`)
    },
    async versions(_, table) {
      // A part of them at a time: all would keep the cluster busy with nothing else.
      const from = Math.floor(Math.random() * 30_000)
      return page(server, index(table), { range: { id: { gte: from, lt: from + PAGE } } }, null)
    },
    async held() {
      const { status, body } = await server.request('GET', `/${index('ledger')}/_count`)
      if (status !== 200) throw new Error(`${status}`)
      return (body as { count: number }).count
    },
    documents: (_, table) => allDocuments(server, index(table)),
    async crash() {
      await server.kill9()
      await server.start()
    },
    async freeze(ms) {
      server.freeze()
      await pause(ms)
      server.thaw()
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

/** What it acknowledged survives kill -9: it is written to the file before the answer goes out. */
export async function redisSink(): Promise<SoakSink> {
  const server = await startRedis({ settings: { appendonly: 'yes' } })
  return {
    yaml: () => `{ name: index, type: redis, url: "${server.url}" }`,
    async reset() {
      await server.command('FLUSHALL')
    },
    async versions(_, table) {
      const found: [string, number][] = []
      for (const name of await redisKeys(server, `millrace:versions:*.${table}`)) {
        const flat = (await server.command('ZRANGE', name, '0', '-1', 'WITHSCORES')) as string[]
        for (let i = 0; i < flat.length; i += 2)
          found.push([flat[i]!.slice(table.length + 1), Number(flat[i + 1])])
      }
      return found
    },
    held: async () => (await redisKeys(server, 'ledger:*')).length,
    async documents(_, table) {
      const keys = await redisKeys(server, `${table}:*`)
      const texts = keys.length === 0 ? [] : ((await server.command('MGET', ...keys)) as string[])
      return new Map(keys.map((key, i) => [key.slice(table.length + 1), texts[i]!]))
    },
    async crash() {
      await server.kill9()
      await server.start()
    },
    async freeze(ms) {
      server.freeze()
      await pause(ms)
      server.thaw()
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

/** A second server as the target. What it acknowledged must survive its crash, and so it waits for the disk. */
export async function postgresSink(): Promise<SoakSink> {
  const server = await startPostgres({ settings: { fsync: 'on' } })
  const isThere = async (table: LedgerTable) =>
    (await server.sql(`SELECT to_regclass('kept.${table}') AS name`))[0]!.name !== null
  return {
    yaml: () => `{ name: index, type: postgres, url: "${server.url}", schema: kept }`,
    async reset() {
      await server.sql('DROP SCHEMA IF EXISTS kept CASCADE')
    },
    async versions(_, table) {
      const rows = await server.sql<{ id: string; version: string }>(
        `SELECT id::text, millrace_version AS version FROM kept.${table}`,
      )
      return rows.map(({ id, version }) => [id, Number(version)] as const)
    },
    held: async () =>
      Number((await server.sql<{ n: string }>('SELECT count(*) AS n FROM kept.ledger'))[0]!.n),
    async documents(_, table) {
      if (!(await isThere(table))) return new Map()
      const columns = table === 'ledger' ? ['id', 'seq', 'note', 'big', 'x'] : ['id', 'seq', 'v']
      const rows = await server.sql<{ id: string; document: string }>(
        `SELECT id::text, jsonb_build_object(${columns.map(name => `'${name}', ${name}`).join(', ')})::text AS document FROM kept.${table}`,
      )
      return new Map(rows.map(({ id, document }) => [id, document]))
    },
    async crash() {
      await server.kill9()
      await startAgain(server)
    },
    freeze: null,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

/** Its log is synced at each commit unless it is told otherwise. */
export async function mariadbSink(): Promise<SoakSink> {
  const server = await startMariadb()
  return {
    yaml: () => `{ name: index, type: mariadb, url: "${server.url}" }`,
    async reset() {
      await server.sql('DROP DATABASE IF EXISTS kept; CREATE DATABASE kept CHARACTER SET utf8mb4')
    },
    async versions(_, table) {
      const rows = await server.sql<{ id: string; version: string }>(
        `SELECT id, millrace_version AS version FROM ${table}`,
      )
      return rows.map(({ id, version }) => [id, Number(version)] as const)
    },
    held: async () => Number((await server.sql<{ n: string }>('SELECT count(*) AS n FROM ledger'))[0]!.n),
    async documents(_, table) {
      if ((await server.sql(`SHOW TABLES LIKE '${table}'`)).length === 0) return new Map()
      const columns = table === 'ledger' ? ['id', 'seq', 'note', 'big', 'x'] : ['id', 'seq', 'v']
      const rows = await server.sql<{ id: string; document: string }>(
        `SELECT id, json_object(${columns.map(name => `'${name}', ${name}`).join(', ')}) AS document FROM ${table}`,
      )
      return new Map(rows.map(({ id, document }) => [id, document]))
    },
    async crash() {
      await server.kill9()
      await server.start()
    },
    async freeze(ms) {
      server.freeze()
      await pause(ms)
      server.thaw()
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

const redisKeys = async (server: RedisServer, pattern: string): Promise<string[]> =>
  (await server.command('KEYS', pattern)) as string[]

interface Hit {
  readonly _id: string
  readonly _version: number
  readonly _source?: Record<string, unknown>
  readonly sort: readonly unknown[]
}

async function hits(
  server: SearchServer,
  index: string,
  query: object,
  more: object,
): Promise<readonly Hit[]> {
  const { status, body } = await server.request('POST', `/${index}/_search`, {
    size: PAGE,
    version: true,
    query,
    sort: [{ id: 'asc' }],
    ...more,
  })
  if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
  return (body as { hits: { hits: Hit[] } }).hits.hits
}

const page = async (server: SearchServer, index: string, query: object, after: unknown) =>
  (await hits(server, index, query, { _source: false, ...(after ? { search_after: after } : {}) })).map(
    ({ _id, _version }) => [_id, _version] as const,
  )

async function allDocuments(server: SearchServer, index: string): Promise<ReadonlyMap<string, string>> {
  const { status } = await server.request('POST', `/${index}/_refresh`)
  if (status === 404) return new Map()
  const found = new Map<string, string>()
  for (let after: readonly unknown[] | undefined; ; ) {
    const list = await hits(server, index, { match_all: {} }, after ? { search_after: after } : {})
    for (const { _id, _source } of list) {
      const { _millrace, ...document } = _source as Record<string, unknown>
      found.set(_id, JSON.stringify(document))
    }
    after = list.at(-1)?.sort
    if (!after) return found
  }
}
