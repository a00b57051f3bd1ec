/** The Redis sink on servers of their own that are full, killed, failed over, or not for everybody. */
import { expect, it } from 'vitest'
import { redis } from '../../../connectors/redis/sink.ts'
import { ConnectorError } from '../../../core/errors.ts'
import { testContext } from '../../conform/context.ts'
import { killThrice } from '../../conform/kills.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { refusalOf } from '../../conform/refusal.ts'
import { startRedis, startSentinel } from '../../servers/redis.ts'
import { openSink } from './reading.ts'

export function faultCases(): void {
  it('one that gives up any key when it is full is told of: the position is among them', async () => {
    const said: string[] = []
    const log = { ...testContext().log, warn: (_: unknown, message: string) => void said.push(message) }
    for (const policy of ['volatile-lru', 'allkeys-lru']) {
      await using one = await startRedis({ settings: { maxmemory: '50mb', 'maxmemory-policy': policy } })
      await using _writer = await openSink({ url: one.url }, testContext({ log }))
    }
    expect(said).toEqual([expect.stringContaining('maxmemory-policy allkeys-lru')])
  })

  it('full: throttled, with what to do; nothing of the batch is written, and it goes on', async () => {
    await using full = await startRedis({
      settings: { maxmemory: '3mb', 'maxmemory-policy': 'noeviction' },
    })
    const writer = await openSink({ url: full.url }, testContext())
    const big = (id: number) => recordOf({ id, version: id, name: 'x'.repeat(1_000_000) })
    let failure: ConnectorError | null = null
    let id = 1
    for (; id < 10 && !failure; id++)
      await writer.write(batchOf([big(id)])).catch(error => {
        failure = error as ConnectorError
      })
    expect(failure).toMatchObject({ kind: 'throttled', hint: expect.stringContaining('maxmemory') })
    await full.command('CONFIG', 'SET', 'maxmemory', '100mb')
    expect(await writer.write(batchOf([big(id - 1)]))).toEqual([])
    await writer[Symbol.asyncDispose]()
  })

  it('killed under it: unavailable; who opens anew finds position and rows of the same moment', async () => {
    await using one = await startRedis({ settings: { appendonly: 'yes', appendfsync: 'always' } })
    await killThrice({
      server: one,
      open: context => openSink({ url: one.url }, context),
      held: async () => Number(await one.command('ZCARD', 'millrace:versions:test/sink/0:kit.test.kit')),
      rows: 200,
      killMs: round => 60 + 40 * round,
    })
  })

  it('wrong password, no rights, no server, a replica: each is told as what it is', async () => {
    await using secure = await startRedis({ password: 'secret' })
    const said = (over: object) => refusalOf(redis.check(redis.config.parse(over), testContext()))
    const port = new URL(secure.url).port
    expect(await said({ url: `redis://:wrong@127.0.0.1:${port}` })).toMatchObject({ kind: 'auth' })
    expect(await said({ url: `redis://127.0.0.1:${port}` })).toMatchObject({ kind: 'auth' })
    expect(await said({ url: secure.url })).toBe(null)
    expect(await said({ url: 'redis://127.0.0.1:1' })).toMatchObject({ kind: 'unavailable' })
    await secure.command('ACL', 'SETUSER', 'reader', 'on', '>pw', '~*', '+@read', '+@connection', '+info')
    const reader = `redis://reader:pw@127.0.0.1:${port}`
    const refused = await openSink({ url: reader }, testContext()).catch(error => error as ConnectorError)
    expect(refused).toBeInstanceOf(ConnectorError)
    expect(refused).toMatchObject({ kind: 'auth' })
    expect((refused as ConnectorError).message).not.toContain('pw')
  })

  it('TLS: with its authority; without one it is told', async () => {
    await using secure = await startRedis({ tls: true })
    const { url, ca } = secure
    await redis.check(redis.config.parse({ url, tls: { ca } }), testContext())
    const said = await redis.check(redis.config.parse({ url }), testContext()).catch(error => error)
    expect(said).toMatchObject({ kind: 'auth', hint: expect.stringContaining('tls.ca') })
    const noFile = redis.config.parse({ url, tls: { ca: '/no/such.pem' } })
    await expect(redis.check(noFile, testContext())).rejects.toThrow('/no/such.pem')
  })

  it('Sentinel: a master killed and failed over; rows and position of the new one are of one moment', async () => {
    await using group = await startSentinel({ password: 'pw' })
    const options = {
      url: 'redis://:pw@sentinel',
      sentinel: { nodes: group.sentinels, name: group.masterName },
    }
    const first = await openSink(options, testContext())
    await first.write(batchOf([recordOf({ id: 1, version: 1 })]))
    const old = await group.master()
    const failed = group.failOver()
    let version = 1
    await expect(
      (async () => {
        for (;;) {
          version++
          await first.write(batchOf([recordOf({ id: version, version })]))
        }
      })(),
    ).rejects.toMatchObject({ kind: 'unavailable' })
    const master = await failed
    expect(master).not.toBe(old)
    const second = await openSink(options, testContext({ epoch: 2 }))
    // The replica may have had nothing yet: then there is no position either.
    const position = (await second.position!()) as { next: Record<string, number> } | null
    const rows = ((await master.command('KEYS', 'kit:*')) as string[]).length
    expect(rows).toBe((position?.next['kit.test.kit'] ?? 1) - 1)
    for (const writer of [first, second]) await writer[Symbol.asyncDispose]()
  })

  it('replicas: a batch that too few have is not written yet', async () => {
    await using one = await startRedis()
    const writer = await openSink({ url: one.url, replicas: 1 }, testContext())
    await expect(writer.write(batchOf([recordOf({ version: 1 })]))).rejects.toThrow(
      '0 replicas had the batch',
    )
    await writer[Symbol.asyncDispose]()
  })
}
