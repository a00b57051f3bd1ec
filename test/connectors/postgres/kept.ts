/** The schema `kept` of a server, to which the cases of the sink write, and what it holds, read by SQL. */
import { postgresSink } from '../../../connectors/postgres/sink.ts'
import type { Context, Writer } from '../../../core/connector.ts'
import type { Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { KIT_TABLE } from '../../conform/kit-table.ts'
import type { Held, SinkTarget } from '../../conform/sink.ts'
import type { PostgresServer } from '../../servers/postgres.ts'
import { type Place, placeOf } from '../writing.ts'

export const openOn = (url: string, over: object = {}, context: Partial<Context> = {}): Promise<Writer> =>
  postgresSink.open(
    postgresSink.config.parse({ url, schema: 'kept', ...over }) as never,
    testContext(context),
  )

export interface Kept extends Place {
  server(): PostgresServer
  rows(): Promise<ReadonlyMap<string, Held>>
  /** Of the columns of a table. */
  typesOf(): Promise<Record<string, string>>
  plan(over?: object, table?: Table): Promise<unknown>
  /** For the kits: by the server's own port, or another one that leads to it. */
  target(port?: number): Promise<SinkTarget>
}

/** `server`: it is started when the tests begin. */
export function keptOn(server: () => PostgresServer): Kept {
  const place = placeOf(
    (over, context) => openOn(server().url, over, context),
    () => server().sql('DROP SCHEMA IF EXISTS kept CASCADE'),
  )
  const rows = () => rowsIn(server())
  return {
    ...place,
    server,
    rows,
    async typesOf() {
      const found = await server().sql<{ name: string; type: string }>(
        `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'kept.kit'::regclass AND attnum > 0 AND NOT attisdropped`,
      )
      return Object.fromEntries(found.map(({ name, type }) => [name, type]))
    },
    plan: (over = {}, table = KIT_TABLE) =>
      postgresSink.plan!(
        postgresSink.config.parse({ url: server().url, schema: 'kept', ...over }) as never,
        [{ table, topic: 'kit.test.kit' }],
        testContext(),
      ),
    async target(port) {
      await place.anew()
      const url = new URL(server().url)
      if (port !== undefined) url.port = String(port)
      return { open: context => openOn(url.href, {}, context), rows, async [Symbol.asyncDispose]() {} }
    },
  }
}

async function rowsIn(server: PostgresServer): Promise<ReadonlyMap<string, Held>> {
  const [is] = await server.sql("SELECT to_regclass('kept.kit') AS name")
  if (is!.name === null) return new Map()
  const found = await server.sql<{ id: string; version: string; origin: string; document: string }>(
    'SELECT id::text, millrace_version AS version, millrace_origin AS origin, to_json(t)::text AS document FROM kept.kit t ORDER BY t.id',
  )
  return new Map(
    found.map(({ id, version, origin, document }) => {
      const { millrace_version, millrace_origin, ...row } = JSON.parse(document) as Record<string, unknown>
      return [id, { version: Number(version), origin, document: row }]
    }),
  )
}
