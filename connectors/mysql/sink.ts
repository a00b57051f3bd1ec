/** Rows as rows of MySQL 8 and newer, exactly once. */
import { createConnection } from 'mysql2/promise'
import { mysqlSink } from '../sql/mysql-sink.ts'

export const mysql = mysqlSink({
  type: 'mysql',
  title: 'MySQL',
  connect: options => createConnection(options),
})
