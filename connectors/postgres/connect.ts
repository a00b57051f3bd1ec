/**
 * Connections to PostgreSQL: the URL as libpq understands it, the settings that make values' text the same on every
 * connection, and errors classified. Also how names and texts are quoted in SQL. Asks the database nothing.
 */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import pg from 'pg'
import { ConnectorError } from '../../core/errors.ts'
import { postgresError, type Target } from './error.ts'

export { postgresError, type Target } from './error.ts'

const MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
export type SslMode = (typeof MODES)[number]

export interface Address {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  readonly database: string
  readonly sslMode: SslMode
  readonly sslRootCert: string | null
  readonly sslCert: string | null
  readonly sslKey: string | null
  readonly applicationName: string
  readonly connectTimeoutMs: number
  /** Of the URL's `options`, before our settings. */
  readonly options: string
  readonly channelBinding: boolean
  readonly target: Target
}

export interface ConnectOptions {
  /** A walsender of this database: for START_REPLICATION. */
  readonly replication?: boolean
  /** Seen in pg_stat_activity; the URL's application_name comes first. */
  readonly applicationName?: string
}

/**
 * Text output must not depend on who connects: the stream and the chunks read the same row as the same text. With the search
 * path fixed, nobody's function of a built-in's name is called, and regclass values are always written with their schema.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  TimeZone: 'UTC',
  DateStyle: 'ISO',
  IntervalStyle: 'iso_8601',
  extra_float_digits: '3',
  bytea_output: 'hex',
  search_path: 'pg_catalog',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  client_min_messages: 'warning',
}

const PARAMETERS = [
  ...['sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'application_name', 'connect_timeout', 'options'],
  ...['channel_binding', 'host', 'port', 'user', 'password', 'dbname'],
]
/** Known to libpq and of no use here; taken so that a copied URL works. */
const IGNORED =
  /^(keepalives.*|tcp_user_timeout|gssencmode|target_session_attrs|fallback_application_name|sslcompression|sslsni)$/

const wrong = (message: string, hint = 'postgres://user:password@host:port/database?sslmode=verify-full') =>
  new ConnectorError('config', message, { hint })

/** Throws `config`; the message never holds the URL. */
export function parseUrl(url: string): Address {
  if (!/^postgres(ql)?:\/\//.test(url)) throw wrong('`url` of PostgreSQL must begin with postgres://')
  let parsed: URL
  try {
    parsed = new URL(url)
  } catch {
    // The error holds the URL, and that the password.
    throw wrong('`url` of PostgreSQL cannot be read; special characters in the password must be %-encoded')
  }
  const query = parsed.searchParams
  for (const name of query.keys())
    if (!PARAMETERS.includes(name) && !IGNORED.test(name))
      throw wrong(`\`url\` has a parameter that is not known: ${name}`, `Known are ${PARAMETERS.join(', ')}.`)
  const user = query.get('user') ?? decodePart(parsed.username)
  const database = query.get('dbname') ?? (decodePart(parsed.pathname.slice(1)) || user)
  const host = query.get('host') ?? (decodePart(parsed.hostname).replace(/^\[(.*)\]$/, '$1') || 'localhost')
  const port = Number(query.get('port') ?? (parsed.port || 5432))
  const password = query.get('password') ?? decodePart(parsed.password)
  if (host.includes(',')) throw wrong('`url` names several hosts; name the primary alone')
  if (!user) throw wrong('`url` names no user')
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw wrong(`\`url\` has no valid port: ${query.get('port')}`)
  return {
    ...{ host, port, user, password, database },
    ...tlsParameters(query),
    applicationName: query.get('application_name') ?? '',
    connectTimeoutMs: timeoutOf(query.get('connect_timeout')),
    options: query.get('options') ?? '',
    channelBinding: query.get('channel_binding') === 'require',
    target: {
      text: `${user}@${host.includes(':') ? `[${host}]` : host}:${port}/${database}`,
      user,
      database,
      password,
    },
  }
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw wrong('`url` has a % that encodes nothing; write it as %25')
  }
}

/** Seconds; libpq's 0 waits for ever, which nobody wants of a task. */
const timeoutOf = (text: string | null): number => {
  const seconds = Number(text ?? 10)
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : 10_000
}

function tlsParameters(
  query: URLSearchParams,
): Pick<Address, 'sslMode' | 'sslRootCert' | 'sslCert' | 'sslKey'> {
  const mode = query.get('sslmode') ?? 'prefer'
  if (!(MODES as readonly string[]).includes(mode))
    throw wrong(`\`url\` has an sslmode that is not known: ${mode}`, `Known are ${MODES.join(', ')}.`)
  return {
    sslMode: mode as SslMode,
    sslRootCert: query.get('sslrootcert'),
    sslCert: query.get('sslcert'),
    sslKey: query.get('sslkey'),
  }
}

const fileOf = (name: string, path: string): Buffer => {
  try {
    return readFileSync(path)
  } catch (error) {
    throw wrong(
      `${name} of \`url\` cannot be read: ${(error as Error).message}`,
      `Check the path and its rights.`,
    )
  }
}

/** `require` with a root certificate checks it, as libpq does; `system` and no root certificate mean those Node.js knows. */
function tlsOptions(address: Address): ConnectionOptions {
  const { sslMode, sslRootCert, sslCert, sslKey } = address
  const hasRoot = sslRootCert !== null && sslRootCert !== 'system'
  const isChecked =
    sslMode === 'verify-ca' || sslMode === 'verify-full' || (sslMode === 'require' && sslRootCert !== null)
  const isNameChecked = sslMode === 'verify-full' || (isChecked && sslRootCert === 'system')
  return {
    rejectUnauthorized: isChecked,
    ...(hasRoot ? { ca: fileOf('sslrootcert', sslRootCert) } : {}),
    ...(sslCert ? { cert: fileOf('sslcert', sslCert) } : {}),
    ...(sslKey ? { key: fileOf('sslkey', sslKey) } : {}),
    ...(isNameChecked ? {} : { checkServerIdentity: () => undefined }),
  }
}

/** Which to try, in order: with TLS or without. */
const attemptsOf = (address: Address): readonly boolean[] => {
  if (address.host.startsWith('/')) return [false] // a Unix socket
  if (address.sslMode === 'disable') return [false]
  if (address.sslMode === 'allow') return [false, true]
  return address.sslMode === 'prefer' ? [true, false] : [true]
}

/** The other way is worth a try when this one was not open: no TLS there, or pg_hba.conf wants the other. */
const isRefusedKind = (error: unknown): boolean =>
  error instanceof Error &&
  (/does not support SSL|establishing an SSL/.test(error.message) ||
    ('code' in error && error.code === '28000') ||
    ('code' in error && /^(ERR_SSL|ERR_TLS|EPROTO)/.test(String(error.code))))

/** Connected, with our settings. Throws `auth`, `unavailable` or `config`, never with the password in it. */
export async function connect(
  config: { readonly url: string },
  options: ConnectOptions = {},
): Promise<pg.Client> {
  const address = parseUrl(config.url)
  let failure: unknown
  for (const isTls of attemptsOf(address)) {
    const client = new pg.Client(clientConfig(address, isTls, options))
    // Without a listener a lost connection ends the process; queries under way are rejected all the same.
    client.on('error', () => {})
    try {
      await client.connect()
      targets.set(client, address.target)
      return client
    } catch (error) {
      await client.end().catch(() => undefined)
      failure ??= error
      // Of the second attempt its failure is told, unless it was only the way that was not open.
      if (!isRefusedKind(error)) {
        failure = error
        break
      }
    }
  }
  throw postgresError(failure, address.target, 'cannot be connected')
}

function clientConfig(address: Address, isTls: boolean, options: ConnectOptions): pg.ClientConfig {
  const settings = Object.entries(SETTINGS).map(([name, value]) => `-c ${name}=${value}`)
  const config: pg.ClientConfig & { replication?: string; enableChannelBinding?: boolean } = {
    host: address.host,
    port: address.port,
    user: address.user,
    database: address.database,
    ssl: isTls ? tlsOptions(address) : false,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    connectionTimeoutMillis: address.connectTimeoutMs,
    application_name: address.applicationName || options.applicationName || 'millrace',
    options: [address.options, ...settings].join(' ').trim(),
    enableChannelBinding: address.channelBinding && isTls,
  }
  if (address.password) config.password = address.password
  if (options.replication) config.replication = 'database'
  return config
}

const targets = new WeakMap<pg.ClientBase, Target>()
const NOWHERE: Target = { text: '', user: '', database: '', password: '' }

/** Of a client made by `connect`. */
export const targetOf = (client: pg.ClientBase): Target => targets.get(client) ?? NOWHERE

/** One statement; what fails is classified. int8 arrives as text. */
export async function query<Row extends pg.QueryResultRow>(
  client: pg.ClientBase,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  try {
    const result =
      values.length > 0 ? await client.query<Row>(text, [...values]) : await client.query<Row>(text)
    return result.rows
  } catch (error) {
    throw postgresError(error, targetOf(client))
  }
}

/** An identifier for SQL: "Odd ""Name""". */
export const quoteName = (name: string): string => {
  if (name.length === 0 || name.includes('\0'))
    throw new ConnectorError('bug', 'a name in SQL is empty or holds NUL')
  return `"${name.replaceAll('"', '""')}"`
}
export const quoteTable = (table: { readonly schema: string; readonly name: string }): string =>
  `${quoteName(table.schema)}.${quoteName(table.name)}`

/** A text for SQL, whatever standard_conforming_strings says. */
export const quoteText = (text: string): string => {
  if (text.includes('\0')) throw new ConnectorError('bug', 'a text in SQL holds NUL')
  const doubled = text.replaceAll("'", "''")
  return doubled.includes('\\') ? ` E'${doubled.replaceAll('\\', '\\\\')}'` : `'${doubled}'`
}
