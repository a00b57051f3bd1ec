/** A real MariaDB for a test, on a free port of loopback, with its data in the folder for temporary files. `mariadbd` must be on the path. */
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createConnection } from 'mysql2/promise'
import { isOnPath } from './install.ts'
import { allOrNone, makeHome, onFreePorts, removeHome, ServerProcess } from './process.ts'

export interface MariadbServer extends AsyncDisposable {
  /** Of a user who may do all, in the database `kept`. Stays the same over stop and start. */
  readonly url: string
  readonly log: readonly string[]
  /** Each on a connection of its own; several statements may stand in one text. Rows of the last. int8 arrives as text. */
  sql<Row = Record<string, unknown>>(text: string): Promise<Row[]>
  urlOf(parts: { user?: string; password?: string; database?: string }): string
  kill9(): Promise<void>
  start(): Promise<void>
  freeze(): void
  thaw(): void
}

/** Why this machine cannot run it (null: it can). */
export function missingForMariadb(): string | null {
  const missing = ['mariadbd', 'mariadb-install-db'].filter(one => !isOnPath(one))
  return missing.length > 0 ? `MariaDB needs ${missing.join(', ')}` : null
}

export interface MariadbOptions {
  /** As on the command line, without the dashes. */
  readonly settings?: Readonly<Record<string, string>>
}

export async function startMariadb({ settings = {} }: MariadbOptions = {}): Promise<MariadbServer> {
  const home = makeHome('mariadb')
  try {
    const data = join(home, 'data')
    mkdirSync(data)
    const user = `--user=${userInfo().username}`
    await promisify(execFile)('mariadb-install-db', [
      ...['--no-defaults', user, `--datadir=${data}`, '--auth-root-authentication-method=normal'],
      '--skip-test-db',
    ])
    return await onFreePorts(1, async ([port]) => {
      const server = new Mariadb(home, user, port!, settings)
      await allOrNone([server], () => server.start())
      return server
    })
  } catch (error) {
    removeHome(home)
    throw error
  }
}

const SETUP = `CREATE OR REPLACE USER 'test'@'%' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO 'test'@'%' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS kept CHARACTER SET utf8mb4;`

class Mariadb extends ServerProcess implements MariadbServer {
  readonly url: string
  readonly #home: string

  constructor(home: string, user: string, port: number, settings: Readonly<Record<string, string>>) {
    const url = `mysql://test:secret@127.0.0.1:${port}/kept`
    const setup = join(home, 'setup.sql')
    writeFileSync(setup, SETUP.replace(/;\s*/g, ';\n'))
    const more = Object.entries(settings).map(([name, value]) => `--${name}=${value}`)
    super({
      directory: home,
      program: 'mariadbd',
      arguments: [
        ...['--no-defaults', user, `--datadir=${join(home, 'data')}`, `--socket=${join(home, 's.sock')}`],
        ...['--bind-address=127.0.0.1', `--port=${port}`, '--skip-name-resolve', `--init-file=${setup}`],
        ...['--innodb-buffer-pool-size=64M', '--max-allowed-packet=16M', ...more],
      ],
      listens: /ready for connections/,
      isReady: async () => (await asked(url, 'SELECT 1 AS one')).length === 1,
    })
    this.url = url
    this.#home = home
  }

  sql<Row>(text: string): Promise<Row[]> {
    return asked(this.url, text)
  }

  urlOf({ user, password, database }: { user?: string; password?: string; database?: string }): string {
    const url = new URL(this.url)
    if (user !== undefined) url.username = user
    if (password !== undefined) url.password = password
    if (database !== undefined) url.pathname = `/${database}`
    return url.href
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nobody wants the data any more: it need not be put in order.
    await this.kill9()
    removeHome(this.#home)
  }
}

async function asked<Row>(url: string, text: string): Promise<Row[]> {
  const connection = await createConnection({
    ...{ uri: url, multipleStatements: true, supportBigNumbers: true, bigNumberStrings: true },
    ...{ dateStrings: true, jsonStrings: true, charset: 'utf8mb4' },
  })
  try {
    const [result] = await connection.query(text)
    const results = result as unknown[]
    const isMany =
      Array.isArray(result) && results.some(one => Array.isArray(one) || 'affectedRows' in (one as object))
    return (isMany ? results.at(-1) : result) as Row[]
  } finally {
    await connection.end()
  }
}
