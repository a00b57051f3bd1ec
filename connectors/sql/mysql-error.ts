/** MySQL's and MariaDB's error numbers and the network's codes as our kinds of error. */
import { ConnectorError, type ErrorKind, Fenced } from '../../core/errors.ts'

export interface Server {
  /** For messages: without secrets. */
  readonly text: string
  readonly user: string
  readonly host: string
  readonly database: string
  readonly password: string
}

/** https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html, https://mariadb.com/kb/en/mariadb-error-code-reference/ */
const NUMBERS: Readonly<Record<ErrorKind, readonly number[]>> = {
  auth: [1044, 1045, 1142, 1143, 1227, 1251, 1370, 1698, 1820, 3118],
  config: [1049, 1071, 1074, 1115, 1273],
  unavailable: [
    1021, 1028, 1040, 1053, 1114, 1129, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1290, 1317,
    1836, 1927, 1969, 3024, 3100, 4031,
  ],
  data: [
    1048, 1118, 1138, 1263, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1441, 1526, 1644, 1690, 3140,
    3156, 3819, 3903, 4025,
  ],
  throttled: [],
  offset_lost: [],
  bug: [],
}
const KINDS = new Map(
  Object.entries(NUMBERS).flatMap(([kind, list]) => list.map(one => [one, kind as ErrorKind] as const)),
)
/** Somebody altered or dropped a table under us. */
const ALTERED = [1054, 1146]
const OF_OTHER_ROWS = [1062, 1216, 1217, 1451, 1452, 1586]
/** What an engine says in a message about something else (a table that cannot be made), errno of the system or of the table handler. */
const FULL = /errno: (28|135)\b/
const NETWORK = /^(E[A-Z]+|PROTOCOL_\w+|HANDSHAKE_\w+)$/
const TLS = /certificate|self.signed|ssl|tls/i

const hintOf = (number: number, said: string, server: Server): string | undefined => {
  const { user, database } = server
  if (number === 1044 || number === 1142)
    return `GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX ON ${database}.* TO '${user}'@'%';`
  if (number === 1045 || number === 1698) return 'Check user and password in `url`.'
  if (number === 1049)
    return `Check the database in \`url\`, or make it: CREATE DATABASE ${database} CHARACTER SET utf8mb4;`
  if (number === 1071 || number === 1074)
    return 'Make `key_length` smaller, or make the table before with shorter key columns.'
  if (number === 1118)
    return 'The columns of a row are too long together: make the table before, with TEXT columns.'
  if (number === 1290 || number === 1836) return 'It is read only: name the primary in `url`.'
  if (number === 1114 || number === 1021 || FULL.test(said))
    return 'Make room on its disk; writing goes on by itself.'
  if (ALTERED.includes(number)) return 'A table was altered or dropped; it is looked at anew.'
  if (OF_OTHER_ROWS.includes(number))
    return 'Another row is in the way: drop the unique index or the foreign key; rows of several partitions arrive in no common order.'
  return undefined
}

/** The message without the password, whoever put it there. */
export function mysqlError(thrown: unknown, server: Server, type: string): Error {
  if (thrown instanceof ConnectorError || thrown instanceof Fenced) return thrown
  const {
    message = String(thrown),
    errno = 0,
    code = '',
    sqlState = '',
  } = thrown as {
    message?: string
    errno?: number
    code?: string
    sqlState?: string
  }
  const said = server.password === '' ? message : message.replaceAll(server.password, '***')
  const told = `${type === 'mariadb' ? 'MariaDB' : 'MySQL'} ${server.text}: ${said || code}`
  const kindOf = (): ErrorKind => {
    const kind = KINDS.get(errno)
    if (kind) return kind
    if (FULL.test(said) || ALTERED.includes(errno) || OF_OTHER_ROWS.includes(errno)) return 'unavailable'
    if (sqlState.startsWith('22')) return 'data'
    if (errno <= 0 && TLS.test(said)) return 'auth'
    return NETWORK.test(code) || /closed state|Connection lost/i.test(said) ? 'unavailable' : 'bug'
  }
  const hint = hintOf(errno, said, server)
  return new ConnectorError(kindOf(), told, {
    ...(hint === undefined ? {} : { hint }),
    cause: said === message ? thrown : undefined,
  })
}
