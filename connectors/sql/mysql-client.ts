/**
 * A connection that speaks MySQL's protocol, with the settings that make a value's text mean the same everywhere: utf8mb4, strict, UTC,
 * texts without backslash escapes. Whoever defines a connector hands in the vendor's client.
 */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { ConnectorError } from '../../core/errors.ts'
import { mysqlError, type Server } from './mysql-error.ts'

export const mysqlConnection = {
  url: z.string().min(1).meta({
    title: 'URL',
    description:
      'mysql://user:password@host:3306/database. Tables, and `millrace_progress` with the positions of the tasks, are in that database.',
    secret: true,
  }),
  tls: z
    .strictObject({
      ca: z.string().min(1).optional().meta({
        title: 'Authority',
        description: 'A PEM file with the certificate of the authority that signed the server’s.',
      }),
      verify: z.boolean().default(true).meta({
        title: 'Verify',
        description: 'Whether the server’s certificate is checked; false only encrypts.',
      }),
    })
    .optional()
    .meta({
      title: 'TLS',
      description: 'Encrypts the connection; `tls: {}` with the authorities that Node.js knows.',
    }),
} as const
const connectionSchema = z.strictObject(mysqlConnection)
export type MysqlConnection = z.output<typeof connectionSchema>

/** What we need of the vendor's client. */
export interface Driver {
  query(sql: string): Promise<[unknown, unknown]>
  end(): Promise<void>
  destroy(): void
}
export type Connect = (options: DriverOptions) => Promise<Driver>
export interface DriverOptions {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  readonly database: string
  readonly charset: string
  readonly connectTimeout: number
  readonly multipleStatements: true
  readonly supportBigNumbers: true
  readonly bigNumberStrings: true
  readonly dateStrings: true
  readonly enableKeepAlive: true
  readonly ssl?: { readonly ca?: string; readonly rejectUnauthorized: boolean }
}

export interface Client extends AsyncDisposable {
  readonly server: Server
  readonly isMariadb: boolean
  /** Of one statement, as the server takes it. */
  readonly maxPacketBytes: number
  /** Rows of one statement. */
  rows<Row>(sql: string): Promise<Row[]>
  /** Rows that matched; of several statements in one text, those of each. */
  run(sql: string): Promise<readonly number[]>
  /** Ends it without a word. */
  destroy(): void
}

/** Under NO_BACKSLASH_ESCAPES nothing but the quote has a meaning. */
export const text = (value: string): string => `'${value.replaceAll("'", "''")}'`
export const name = (value: string): string => `\`${value.replaceAll('`', '``')}\``

const SETTINGS = `SET NAMES utf8mb4, SESSION time_zone = '+00:00',
SESSION sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_AUTO_VALUE_ON_ZERO',
SESSION transaction_isolation = 'READ-COMMITTED', SESSION innodb_lock_wait_timeout = 20, SESSION lock_wait_timeout = 20, SESSION foreign_key_checks = 1`

const CONNECT_MS = 10_000

export function serverOf({ url }: MysqlConnection, type: string): Server & { readonly port: number } {
  const wrong = (message: string) =>
    new ConnectorError('config', message, { hint: `${type}://user:password@host:3306/database` })
  if (!/^(mysql|mariadb):\/\//.test(url) || !URL.canParse(url))
    throw wrong(
      `\`url\` of ${type} must begin with ${type}://, and special characters in the password must be %-encoded`,
    )
  const parsed = new URL(url)
  const [user, password, database] = [parsed.username, parsed.password, parsed.pathname.slice(1)].map(
    decodeURIComponent,
  )
  if (!user || !database) throw wrong(`\`url\` of ${type} names no ${user ? 'database' : 'user'}`)
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1')
  const port = Number(parsed.port || 3306)
  return {
    text: `${user}@${parsed.hostname}:${port}/${database}`,
    user,
    host,
    database,
    password: password!,
    port,
  }
}

function sslOf({ tls }: MysqlConnection): Pick<DriverOptions, 'ssl'> {
  if (!tls) return {}
  try {
    const ca = tls.ca === undefined ? {} : { ca: readFileSync(tls.ca, 'utf8') }
    return { ssl: { ...ca, rejectUnauthorized: tls.verify } }
  } catch (error) {
    throw new ConnectorError('config', `the file ${tls.ca} cannot be read: ${(error as Error).message}`, {
      cause: error,
      hint: '`tls.ca` is the path of a PEM file.',
    })
  }
}

export async function connectMysql(
  options: MysqlConnection,
  type: string,
  connect: Connect,
): Promise<Client> {
  const server = serverOf(options, type)
  let driver: Driver | null = null
  try {
    driver = await connect({
      ...{
        host: server.host,
        port: server.port,
        user: server.user,
        password: server.password,
        database: server.database,
      },
      ...{
        charset: 'utf8mb4',
        connectTimeout: CONNECT_MS,
        multipleStatements: true,
        supportBigNumbers: true,
      },
      ...{ bigNumberStrings: true, dateStrings: true, enableKeepAlive: true },
      ...sslOf(options),
    } as DriverOptions)
    const opened = driver
    const all = async (sql: string) => (await opened.query(sql))[0]
    const [facts] = (await all('SELECT version() AS version, @@max_allowed_packet AS packet')) as {
      version: string
      packet: number
    }[]
    const isMariadb = /mariadb/i.test(facts!.version)
    // Its older name, which MariaDB below 11.1 has alone.
    await all(isMariadb ? SETTINGS.replace('transaction_isolation', 'tx_isolation') : SETTINGS)
    return {
      ...{ server, isMariadb, maxPacketBytes: Number(facts!.packet) },
      rows: async <Row>(sql: string) => (await all(sql)) as Row[],
      async run(sql) {
        const result = await all(sql)
        return (Array.isArray(result) ? result : [result]).map(
          one => (one as { affectedRows?: number })?.affectedRows ?? 0,
        )
      },
      destroy: () => opened.destroy(),
      async [Symbol.asyncDispose]() {
        const timer = setTimeout(() => opened.destroy(), 5_000)
        await opened.end().catch(() => undefined) // it is gone already
        clearTimeout(timer)
      },
    }
  } catch (error) {
    driver?.destroy()
    throw mysqlError(error, server, type)
  }
}
