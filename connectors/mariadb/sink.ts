/** Rows as rows of MariaDB 10.6 and newer, exactly once. */
import { createConnection } from 'mysql2/promise'
import { mysqlSink } from '../sql/mysql-sink.ts'

export const mariadb = mysqlSink({
  type: 'mariadb',
  title: 'MariaDB',
  connect: options => createConnection(options),
})
