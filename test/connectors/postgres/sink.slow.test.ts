/** The PostgreSQL sink on a real server: the kit, and the cases of rows, tables, rights and faults. */
import { afterAll, beforeAll } from 'vitest'
import { postgresSink } from '../../../connectors/postgres/sink.ts'
import { cutConformance } from '../../conform/cuts.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { keyedSinkConformance } from '../../conform/sink.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { casesOn } from '../writing.ts'
import { keptOn } from './kept.ts'
import { faultCases } from './sink-fault-cases.ts'
import { rowCases } from './sink-row-cases.ts'
import { tableCases } from './sink-table-cases.ts'

definitionConformance(postgresSink as never)

let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: 'on' } })
})
afterAll(() => server?.[Symbol.asyncDispose]())
const kept = keptOn(() => server)

keyedSinkConformance({
  name: 'postgres',
  target: () => kept.target(),
  bad: good => ({ ...good, after: '{"id":5,"name":"bad","price":"much"}' }),
  cannotHold: text => text.includes('\0'),
})

cutConformance({ name: 'postgres', port: () => Number(new URL(server.url).port), target: kept.target })

casesOn(kept, { rows: rowCases, tables: tableCases, 'rights and faults': faultCases })
