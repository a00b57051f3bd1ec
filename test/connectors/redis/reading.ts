/** What a Redis holds, read on connections that owe nothing to the client under test; how its keys are opened for the kit. */
import { redis } from '../../../connectors/redis/sink.ts'
import type { Context, Writer } from '../../../core/connector.ts'
import type { Held, SinkTarget } from '../../conform/sink.ts'
import type { RedisNode, RedisReply } from '../../servers/redis.ts'

export type RedisInput = Parameters<typeof redis.config.parse>[0] & object

export const openSink = (options: object, context: Context): Promise<Writer> =>
  redis.open(redis.config.parse(options), context)

const list = (reply: RedisReply): string[] => reply as string[]

export const pairs = (flat: readonly string[]): [string, string][] =>
  flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]!] as [string, string]] : []))

/** Key of table `kit` → document, and the version that stands beside it; what a deletion left is no row. */
export async function rowsOf(
  nodes: readonly RedisNode[],
  read: (node: RedisNode, key: string) => Promise<unknown>,
): Promise<ReadonlyMap<string, Held>> {
  const rows = new Map<string, Held>()
  for (const node of nodes)
    for (const name of list(await node.command('KEYS', 'millrace:versions:*'))) {
      const [, , task, topic] = name.split(':')
      const partition = task!.split('/').at(-1)
      for (const [key, version] of pairs(list(await node.command('ZRANGE', name, '0', '-1', 'WITHSCORES')))) {
        const document = await read(node, key)
        if (document === null) continue
        const origin = `${topic!.replace(/\{.*/, '')}/${partition}`
        rows.set(key.slice(key.lastIndexOf(':') + 1), { document, version: Number(version), origin })
      }
    }
  return new Map([...rows].sort(([a], [b]) => Number(a) - Number(b)))
}

export const readJson = async (node: RedisNode, key: string): Promise<unknown> => {
  const text = (await node.command('GET', key)) as string | null
  return text === null ? null : JSON.parse(text)
}

export async function readHash(node: RedisNode, key: string): Promise<unknown> {
  const fields = pairs(list(await node.command('HGETALL', key)))
  if (fields.length === 0) return null
  const { price, ...rest } = Object.fromEntries(fields)
  return { ...rest, ...(price === undefined ? {} : { price: Number(price) }) }
}

export function targetOn(
  nodes: readonly RedisNode[],
  options: object,
  read = readJson,
): () => Promise<SinkTarget> {
  return async () => {
    for (const node of nodes) await node.command('FLUSHALL')
    return {
      open: context => openSink(options, context),
      rows: () => rowsOf(nodes, read),
      async [Symbol.asyncDispose]() {},
    }
  }
}

/** The last entry of each id in the stream `changes`. */
export function streamOn(nodes: readonly RedisNode[], options: object): () => Promise<SinkTarget> {
  return async () => {
    for (const node of nodes) await node.command('FLUSHALL')
    return {
      open: context => openSink(options, context),
      async rows() {
        const rows = new Map<string, Held>()
        const entries = (await nodes[0]!.command('XRANGE', 'changes', '-', '+')) as [string, string[]][]
        for (const [, fields] of entries) {
          const { key, after, version, position } = Object.fromEntries(pairs(fields))
          const id = String((JSON.parse(key!) as { id: number }).id)
          expectNew(rows, id, Number(version))
          rows.set(id, {
            document: after === undefined ? null : JSON.parse(after),
            version: Number(version),
            origin: position!.slice(0, position!.lastIndexOf('/')),
          })
        }
        return rows
      },
      async [Symbol.asyncDispose]() {},
    }
  }
}

function expectNew(rows: ReadonlyMap<string, Held>, id: string, version: number): void {
  const before = rows.get(id)
  if (before && before.version >= version) throw new Error(`entry ${id} of version ${version} came twice`)
}
