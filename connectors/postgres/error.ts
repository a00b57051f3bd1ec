/** PostgreSQL's SQLSTATEs, TLS' and the network's error codes as our kinds of error. */
import { ConnectorError, type ErrorKind, Fenced } from '../../core/errors.ts'

/** What a message may say of a connection: never the password. */
export interface Target {
  /** user@host:port/database */
  readonly text: string
  readonly user: string
  readonly database: string
  /** To be taken out of whatever is told. */
  readonly password: string
}

const CODES: Readonly<Record<string, ErrorKind>> = {
  // of PostgreSQL (https://www.postgresql.org/docs/current/errcodes-appendix.html)
  '28P01': 'auth',
  '28000': 'auth',
  '42501': 'auth',
  '3D000': 'config',
  '53300': 'unavailable', // too many connections
  '55006': 'unavailable', // object in use: the slot has another reader
  '55P03': 'unavailable', // lock not available
  '40001': 'unavailable',
  '40P01': 'unavailable',
  '57014': 'unavailable', // cancelled
  '57P01': 'unavailable', // shutdown
  '57P02': 'unavailable',
  '57P03': 'unavailable', // starting up
  '57P05': 'unavailable',
  '25P03': 'unavailable',
  '25006': 'unavailable', // a replica, or set to read only
  '58030': 'unavailable',
  // of the network
  ECONNREFUSED: 'unavailable',
  ECONNRESET: 'unavailable',
  ECONNABORTED: 'unavailable',
  EPIPE: 'unavailable',
  ENOTFOUND: 'unavailable',
  EAI_AGAIN: 'unavailable',
  ETIMEDOUT: 'unavailable',
  EHOSTUNREACH: 'unavailable',
  EHOSTDOWN: 'unavailable',
  ENETUNREACH: 'unavailable',
  ENETDOWN: 'unavailable',
  EADDRNOTAVAIL: 'unavailable',
  ERR_STREAM_DESTROYED: 'unavailable',
  // of TLS
  SELF_SIGNED_CERT_IN_CHAIN: 'auth',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'auth',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'auth',
  UNABLE_TO_GET_ISSUER_CERT: 'auth',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'auth',
  CERT_HAS_EXPIRED: 'auth',
  CERT_NOT_YET_VALID: 'auth',
  CERT_REVOKED: 'auth',
  CERT_UNTRUSTED: 'auth',
  CERT_SIGNATURE_FAILURE: 'auth',
  ERR_TLS_CERT_ALTNAME_INVALID: 'auth',
}
/** Classes of SQLSTATEs: connection, resources, system error. */
const CLASSES: Readonly<Record<string, ErrorKind>> = {
  '08': 'unavailable',
  '53': 'unavailable',
  '58': 'unavailable',
}

/** The driver gives these no code. */
const MESSAGES: readonly (readonly [RegExp, ErrorKind])[] = [
  [/Connection terminated|timeout expired|not queryable|socket (hang up|disconnected)/i, 'unavailable'],
  [/does not support SSL|establishing an SSL connection/, 'config'],
  [/SASL: .*(password must be a|empty) string/i, 'auth'],
  [/SCRAM|SASL/, 'auth'],
]

/** SQLSTATE, errno or TLS code; "" when there is none. */
export const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String((error as { code: unknown }).code ?? '') : ''

function kindOf(code: string, message: string): ErrorKind {
  const kind = CODES[code] ?? (/^[0-9A-Z]{5}$/.test(code) ? CLASSES[code.slice(0, 2)] : undefined)
  if (kind) return kind
  for (const [pattern, of] of MESSAGES) if (pattern.test(message)) return of
  // A connection tried on several addresses: the kind of the first that has one.
  return 'bug'
}

function hintOf(code: string, message: string, target: Target): string | undefined {
  const { user, database } = target
  if (code === '28P01')
    return `Check user and password in \`url\`. A new password: ALTER ROLE ${user} PASSWORD '…';`
  if (code === '28000' && /pg_hba\.conf/.test(message))
    return /no encryption/.test(message)
      ? 'The server wants TLS: add ?sslmode=require to `url`, or allow the address in pg_hba.conf.'
      : `Allow this address in pg_hba.conf, for "${database}" and, as replication connections name no other, for the same database.`
  if (code === '3D000') return `Check the database in \`url\`, or make it: CREATE DATABASE ${database};`
  if (code === '25006') return 'It is read only: name the primary in `url`; it is tried again.'
  if (code === '53100') return 'Make room on its disk; writing goes on by itself.'
  if (code === '53300') return 'Raise max_connections, or end sessions that nobody uses.'
  if (code === 'ECONNREFUSED')
    return 'Is PostgreSQL running there, and does it listen on that address (listen_addresses)?'
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'Check the host in `url`.'
  if (code === '57P03') return 'The server is starting or stopping; it is tried again.'
  if (code === '42501') return `Give the role "${user}" the right that the message names.`
  if (CODES[code] === 'auth' && !/^\d/.test(code))
    return 'Name the certificate authority: ?sslmode=verify-full&sslrootcert=/path/ca.pem; sslmode=require encrypts without checking.'
  if (/does not support SSL/.test(message))
    return 'Set sslmode=prefer or disable in `url`, or turn `ssl` on in the server.'
  return undefined
}

/** Without the password, whoever put it there. */
const scrub = (text: string, { password }: Target): string =>
  password.length > 0
    ? text.replaceAll(password, '***').replaceAll(encodeURIComponent(password), '***')
    : text

/** The driver's error without what it must not carry into a log. */
function causeOf(error: unknown, target: Target): unknown {
  if (!(error instanceof Error)) return undefined
  const { message } = error
  return target.password.length > 0 && `${error.stack} ${message}`.includes(target.password)
    ? undefined
    : error
}

/** `doing`: "could not read shop.products" or the like. Our own errors pass through. */
export function postgresError(error: unknown, target: Target, doing = 'failed'): Error {
  if (error instanceof ConnectorError || error instanceof Fenced) return error
  // Node tries every address of a host name, and wraps the failures.
  const one =
    error instanceof AggregateError && error.errors.length > 0 ? (error.errors[0] as unknown) : error
  const message = one instanceof Error ? one.message : String(one)
  const code = codeOf(one)
  const told = code && !message.includes(code) ? `${message} (${code})` : message
  const hint = hintOf(code, message, target)
  return new ConnectorError(
    kindOf(code, message),
    scrub(`PostgreSQL ${target.text} ${doing}: ${told}`, target),
    {
      cause: causeOf(one, target),
      ...(hint === undefined ? {} : { hint }),
    },
  )
}
