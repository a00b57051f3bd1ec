/** A batch that Redis refuses half-way or before it has begun: what was refused comes again, and nothing of it is taken for old. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/sink.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { openSink } from './reading.ts'

const missing = missingForRedis()
describe.skipIf(missing !== null)(missing ?? 'redis, refused', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  const CASES = [
    { structure: 'json', command: 'set', ask: ['GET', 'kit:1'] },
    { structure: 'hash', command: 'hset', ask: ['HGET', 'kit:1', 'name'] },
    { structure: 'set', key: 'all', member: '${name}', command: 'sadd', ask: ['SMEMBERS', 'all'] },
  ]
  for (const { structure, command, ask, ...rest } of CASES)
    it(`${structure}: without the right to ${command}, then with it`, async () => {
      await server.command('FLUSHALL')
      await server.command('ACL', 'SETUSER', structure, 'reset', 'on', '>pw', '~*', '&*', '+@all')
      const url = `redis://${structure}:pw@127.0.0.1:${new URL(server.url).port}`
      const batch = batchOf([recordOf({ id: 1, version: 5, name: 'lamp' })], 2)
      const writer = await openSink({ url, structure, ...rest }, testContext())
      await server.command('ACL', 'SETUSER', structure, `-${command}`)
      await expect(writer.write(batch)).rejects.toMatchObject({ kind: 'auth' })
      await server.command('ACL', 'SETUSER', structure, `+${command}`)
      await writer[Symbol.asyncDispose]()
      const again = await openSink({ url, structure, ...rest }, testContext({ epoch: 2 }))
      expect(await again.write(batch)).toEqual([])
      expect(String(await server.command(...ask))).toContain('lamp')
      await again[Symbol.asyncDispose]()
    })

  it('full: nothing is emptied, and nothing gets in behind it', async () => {
    await server.command('FLUSHALL')
    const writer = await openSink({ url: server.url, structure: 'hash' }, testContext())
    const all = (version: number, name: string) =>
      batchOf(
        Array.from({ length: 500 }, (_, i) => recordOf({ id: i + 1, version, name })),
        version,
      )
    expect(await writer.write(all(1, 'old'))).toEqual([])
    const used = Number(/used_memory:(\d+)/.exec(String(await server.command('INFO', 'memory')))![1])
    await server.command('CONFIG', 'SET', 'maxmemory', String(used - 1_000))
    try {
      await expect(writer.write(all(2, 'x'.repeat(10_000)))).rejects.toMatchObject({ kind: 'throttled' })
      expect(await server.command('HGET', 'kit:1', 'name')).toBe('old')
    } finally {
      await server.command('CONFIG', 'SET', 'maxmemory', '0')
    }
    expect(await writer.write(all(2, 'new'))).toEqual([])
    expect(await server.command('HGET', 'kit:500', 'name')).toBe('new')
    await writer[Symbol.asyncDispose]()
  })

  it('the last of a row in a batch counts, whatever came before it; what is older than what stands is refused', async () => {
    await server.command('FLUSHALL')
    const writer = await openSink({ url: server.url, structure: 'hash' }, testContext())
    const write = (offset: number, ...records: Parameters<typeof recordOf>[0][]) =>
      writer.write(batchOf(records.map(recordOf), offset))
    await write(
      2,
      { id: 1, version: 1, name: 'a' },
      { id: 1, version: 2, op: 'd' },
      { id: 1, version: 3, name: 'b' },
    )
    expect(await server.command('HGET', 'kit:1', 'name')).toBe('b')
    await write(
      3,
      { id: 1, version: 2, name: 'late' },
      { id: 2, version: 4, name: 'c' },
      { id: 2, version: 5, op: 'd' },
    )
    expect(await server.command('HGET', 'kit:1', 'name')).toBe('b')
    expect(await server.command('EXISTS', 'kit:2')).toBe(0)
    await write(4, { id: 2, version: 4, name: 'ghost' })
    expect(await server.command('EXISTS', 'kit:2')).toBe(0)
    await writer[Symbol.asyncDispose]()
  })
})
