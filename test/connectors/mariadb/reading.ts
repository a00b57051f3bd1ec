/** What a MariaDB holds, read on connections of their own; how the sinks that speak its protocol are opened for the kit. */
import type { Context, Sink, Writer } from '../../../core/connector.ts'
import type { Held, SinkKit, SinkTarget } from '../../conform/sink.ts'
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

/** By the server's own port, or another one that leads to it. */
export async function targetOn(sink: Sink, server: MariadbServer, port?: number): Promise<SinkTarget> {
  await anew(server)
  const url = new URL(server.url)
  if (port !== undefined) url.port = String(port)
  return {
    open: context => openOn(sink, url.href, {}, context),
    rows: () => rows(server),
    async [Symbol.asyncDispose]() {},
  }
}

/** `serverOf`: it is started when the tests begin. */
export const kitOn = (sink: Sink, serverOf: () => MariadbServer): SinkKit => ({
  name: sink.name,
  target: () => targetOn(sink, serverOf()),
  bad: good => ({ ...good, after: '{"id":99999999999999999999,"name":"bad","price":"1"}' }),
})
