/** The database `kept` of a server, to which the cases of the sink write. */
import type { Sink } from '../../../core/connector.ts'
import type { Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { KIT_TABLE } from '../../conform/kit-table.ts'
import type { MariadbServer } from '../../servers/mariadb.ts'
import { type Place, placeOf } from '../writing.ts'
import { anew, openOn } from './reading.ts'

export interface Kept extends Place {
  readonly sink: Sink
  server(): MariadbServer
  plan(over?: object, table?: Table): Promise<unknown>
}

/** `server`: it is started when the tests begin. */
export function keptOn(sink: Sink, server: () => MariadbServer): Kept {
  const place = placeOf(
    (over, context) => openOn(sink, server().url, over, context),
    () => anew(server()),
  )
  return {
    ...place,
    sink,
    server,
    plan: (over = {}, table = KIT_TABLE) =>
      sink.plan!(
        sink.config.parse({ url: server().url, ...over }) as never,
        [{ table, topic: 'kit.test.kit' }],
        testContext(),
      ),
  }
}
