/** The MySQL sink, on MariaDB: what they share. Its own collation and its JSON are looked at in what is sent. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mysql } from '../../../connectors/mysql/sink.ts'
import type { Client } from '../../../connectors/sql/mysql-client.ts'
import { collationOf, needsOf } from '../../../connectors/sql/mysql-target.ts'
import type { Sink } from '../../../core/connector.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { KIT_TABLE } from '../../conform/kit-table.ts'
import { keyedSinkConformance } from '../../conform/sink.ts'
import { type MariadbServer, missingForMariadb, startMariadb } from '../../servers/mariadb.ts'
import { kitOn } from '../mariadb/reading.ts'

definitionConformance(mysql as never)

it('makes tables with a bytewise collation that MySQL has', () => {
  const collation = collationOf({ isMariadb: false } as Client)
  const { statements } = needsOf('kit', null, KIT_TABLE, { mode: 'upsert', keyLength: 255, collation })
  expect(statements).toEqual([
    "CREATE TABLE `kit` (`id` bigint NOT NULL, `name` longtext, `price` longtext, `millrace_version` bigint, `millrace_origin` varchar(512), PRIMARY KEY (`id`)) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin COMMENT = 'millrace: kept by a pipeline'",
  ])
})

const missing = missingForMariadb()
describe.skipIf(missing !== null)(missing ?? 'on MariaDB', () => {
  let server: MariadbServer
  beforeAll(async () => {
    server = await startMariadb()
  })
  afterAll(() => server?.[Symbol.asyncDispose]())
  keyedSinkConformance(kitOn(mysql as unknown as Sink, () => server))
})
