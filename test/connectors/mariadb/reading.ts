/** What a MariaDB holds, read on connections of their own; how the sinks that speak its protocol are opened for the kit. */
import type { Context, Sink, Writer } from '../../../core/connector.ts'
import type { Held, SinkKit } from '../../conform/sink.ts'
import type { MariadbServer } from '../../servers/mariadb.ts'

export const openOn = (sink: Sink, url: string, over: object, context: Context): Promise<Writer> =>
  sink.open(sink.config.parse({ url, ...over }) as never, context)

export const anew = async (server: MariadbServer): Promise<void> =>
  void (await server.sql('DROP DATABASE kept; CREATE DATABASE kept CHARACTER SET utf8mb4'))

export async function rows(server: MariadbServer): Promise<ReadonlyMap<string, Held>> {
  if ((await server.sql("SHOW TABLES LIKE 'kit'")).length === 0) return new Map()
  const found = await server.sql<Record<string, string | null>>('SELECT * FROM kit ORDER BY id')
  return new Map(
    found.map(({ id, millrace_version, millrace_origin, price, ...rest }) => [
      String(id),
      {
        version: Number(millrace_version),
        origin: String(millrace_origin),
        document: { id: Number(id), ...rest, ...(price === null ? {} : { price: Number(price) }) },
      },
    ]),
  )
}

/** `serverOf`: it is started when the tests begin. */
export const kitOn = (sink: Sink, serverOf: () => MariadbServer): SinkKit => ({
  name: sink.name,
  async target() {
    await anew(serverOf())
    return {
      open: context => openOn(sink, serverOf().url, {}, context),
      rows: () => rows(serverOf()),
      async [Symbol.asyncDispose]() {},
    }
  },
  bad: good => ({ ...good, after: '{"id":99999999999999999999,"name":"bad","price":"1"}' }),
})
