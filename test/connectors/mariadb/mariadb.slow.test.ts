/** The MariaDB sink on a real server: the kit, and the cases of rows, tables, rights and faults. */
import { afterAll, beforeAll, describe } from 'vitest'
import { mariadb } from '../../../connectors/mariadb/sink.ts'
import type { Sink } from '../../../core/connector.ts'
import { cutConformance } from '../../conform/cuts.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { keyedSinkConformance } from '../../conform/sink.ts'
import { type MariadbServer, missingForMariadb, startMariadb } from '../../servers/mariadb.ts'
import { casesOn } from '../writing.ts'
import { faultCases } from './fault-cases.ts'
import { keptOn } from './kept.ts'
import { kitOn, targetOn } from './reading.ts'
import { rowCases } from './row-cases.ts'
import { tableCases } from './table-cases.ts'

definitionConformance(mariadb as never)
const sink = mariadb as unknown as Sink

const missing = missingForMariadb()
describe.skipIf(missing !== null)(missing ?? 'mariadb', () => {
  let server: MariadbServer
  beforeAll(async () => {
    server = await startMariadb()
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  keyedSinkConformance(kitOn(sink, () => server))

  cutConformance({
    name: 'mariadb',
    port: () => Number(new URL(server.url).port),
    target: port => targetOn(sink, server, port),
  })

  casesOn(
    keptOn(sink, () => server),
    { rows: rowCases, tables: tableCases, 'rights and faults': faultCases },
  )
})
