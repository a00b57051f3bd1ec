/** The Redis sink on a cluster: what is guaranteed there, and that all nodes have their part. */
import { expect, it } from 'vitest'
import { redis } from '../../../connectors/redis/sink.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { type RedisNode, startRedis } from '../../servers/redis.ts'
import { openSink } from './reading.ts'

export interface Cluster {
  /** Its masters. */
  readonly nodes: readonly RedisNode[]
  /** Options that lead to it. */
  readonly options: { readonly cluster: readonly string[] }
  /** The same, with keys of one slot. */
  readonly tagged: object
}

export function clusterCases({ nodes, options, tagged }: Cluster): void {
  it('delivers by what its options allow', () => {
    const delivery = (over: object) => redis.delivery(redis.config.parse({ ...options, ...over }))
    expect(delivery({})).toBe('idempotent')
    expect(delivery({ structure: 'stream' })).toBe('at_least_once')
    expect(delivery(tagged)).toBe('exactly_once')
    expect(redis.config.safeParse({ ...options, structure: 'set' }).error?.issues[0]?.message).toContain(
      '{shop}',
    )
  })

  it('a node of it that is named alone, and a server that is named as one, are told', async () => {
    const check = (over: object) => redis.check(redis.config.parse({ ...over }), testContext())
    const [address] = options.cluster
    await expect(check({ url: `redis://${address}` })).rejects.toMatchObject({
      kind: 'config',
      hint: expect.stringContaining(`cluster: ["${address}"]`),
    })
    await using alone = await startRedis()
    await expect(check({ ...options, cluster: [new URL(alone.url).host] })).rejects.toMatchObject({
      kind: 'config',
      hint: expect.stringContaining('leave out `cluster`'),
    })
  })

  it('older never replaces newer whose time is over', async () => {
    const writer = await openSink({ ...options, key: 'past:${id}', expire_at: 'name' }, testContext())
    const of = (name: string | null, price: string, version: number) =>
      recordOf({ id: 1, version, row: JSON.stringify({ id: 1, name, price }) })
    for (const record of [of(null, '1', 1), of('2001-01-01', '2', 2), of(null, '1', 1)])
      expect(await writer.write(batchOf([record]))).toEqual([])
    const left = await Promise.all(nodes.map(node => node.command('KEYS', 'past:*')))
    expect(left.flat()).toEqual([])
    await writer[Symbol.asyncDispose]()
  })

  it('spreads rows over all nodes, each with its version beside it; a sweep finds all', async () => {
    for (const node of nodes) await node.command('FLUSHALL')
    const writer = await openSink(options, testContext())
    await writer.write(batchOf(Array.from({ length: 300 }, (_, i) => recordOf({ id: i, version: i + 1 }))))
    const counts = () =>
      Promise.all(nodes.map(async node => ((await node.command('KEYS', 'kit:*')) as string[]).length))
    const spread = await counts()
    expect(Math.min(...spread)).toBeGreaterThan(50)
    expect(spread.reduce((sum, one) => sum + one)).toBe(300)
    await writer.write(batchOf([recordOf({ op: 'sweep', version: 400, below: 300 })]))
    expect((await counts()).reduce((sum, one) => sum + one)).toBe(1)
    await writer[Symbol.asyncDispose]()
  })

  it('invalidates on every node', async () => {
    const writer = await openSink({ ...options, structure: 'invalidate', key: 'page:${id}' }, testContext())
    const seed = await openSink({ ...options, key: 'page:${id}' }, testContext({ task: 'test/other/0' }))
    await seed.write(batchOf(Array.from({ length: 50 }, (_, i) => recordOf({ id: i, version: i + 1 }))))
    const left = async () =>
      (
        await Promise.all(
          nodes.map(async node => ((await node.command('KEYS', 'page:*')) as string[]).length),
        )
      ).reduce((sum, one) => sum + one)
    expect(await left()).toBe(50)
    await writer.write(batchOf(Array.from({ length: 20 }, (_, i) => recordOf({ id: i, version: 100 + i }))))
    expect(await left()).toBe(30)
    await writer.write(batchOf([recordOf({ op: 'sweep', version: 200, below: 200 })]))
    expect(await left()).toBe(0)
    for (const one of [writer, seed]) await one[Symbol.asyncDispose]()
  })
}
