/** The database `kept` of a server, to which the cases of the sink write. */
import type { Sink } from '../../../core/connector.ts'
import type { Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { KIT_TABLE } from '../../conform/kit-table.ts'
import type { MariadbServer } from '../../servers/mariadb.ts'
import { type Writers, writersOf } from '../writing.ts'
import { anew, openOn } from './reading.ts'

export interface Kept extends Writers {
  readonly sink: Sink
  server(): MariadbServer
  /** Closes the writers and makes the database anew. */
  anew(): Promise<void>
  plan(over?: object, table?: Table): Promise<unknown>
}

/** `server`: it is started when the tests begin. */
export function keptOn(sink: Sink, server: () => MariadbServer): Kept {
  const writers = writersOf((over, context) => openOn(sink, server().url, over, context))
  return {
    ...writers,
    sink,
    server,
    async anew() {
      await writers.closeAll()
      await anew(server())
    },
    plan: (over = {}, table = KIT_TABLE) =>
      sink.plan!(
        sink.config.parse({ url: server().url, ...over }) as never,
        [{ table, topic: 'kit.test.kit' }],
        testContext(),
      ),
  }
}
