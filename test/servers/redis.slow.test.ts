/** The Redis of the tests: it keeps what it is told to keep, lets in only whom it should, and a sentinel replaces a dead master. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { homesOf, isRunning, startInChild } from './dying-parent.ts'
import { eventually } from './process.ts'
import { missingForRedis, type RedisNode, type RedisServer, startRedis, startSentinel } from './redis.ts'
import { command } from './redis-protocol.ts'

const missing = missingForRedis()
describe.skipIf(missing !== null)(missing ?? 'one server', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis({ settings: { appendonly: 'yes', maxmemory: '64mb' } })
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  it('answers in every way there is', async () => {
    expect(server.url).toBe(`redis://127.0.0.1:${server.port}`)
    expect(await server.command('SET', 'word', 'schön\r\n')).toBe('OK')
    expect(await server.command('GET', 'word')).toBe('schön\r\n')
    expect(await server.command('GET', 'nothing')).toBe(null)
    expect(await server.command('INCR', 'count')).toBe(1)
    expect(await server.command('MGET', 'word', 'nothing', 'count')).toEqual(['schön\r\n', null, '1'])
    expect(await server.command('EVAL', "return {{1, 'a'}, {}, {err = 'no'}}", '0')).toEqual([
      [1, 'a'],
      [],
      new Error('no'),
    ])
    await expect(server.command('INCR', 'word')).rejects.toThrow('ERR value is not an integer')
    expect(await server.command('CONFIG', 'GET', 'maxmemory')).toEqual(['maxmemory', String(64 * 2 ** 20)])
    const long = 'x'.repeat(1_000_000)
    await server.command('SET', 'long', long)
    expect(await server.command('GET', 'long')).toBe(long)
  })

  it('keeps ten keys over kill -9 when it appends them to a file, and is silent while frozen', async () => {
    for (let i = 0; i < 10; i++) await server.command('SET', `ten${i}`, String(i))
    const { pid } = server
    await server.kill9()
    expect(isRunning(pid)).toBe(false)
    await expect(server.command('PING')).rejects.toThrow('ECONNREFUSED')
    await server.start()
    expect(await server.command('KEYS', 'ten*')).toHaveLength(10)

    server.freeze()
    const asked = server.command('GET', 'ten3')
    expect(await Promise.race([asked, sleep(1_000, 'silence')])).toBe('silence')
    server.thaw()
    expect(await asked).toBe('3')
  })

  it('stops, even when frozen, and starts again', async () => {
    server.freeze()
    await server.stop()
    await server.stop()
    await server.start()
    await expect(server.start()).rejects.toThrow('it runs already')
    expect(await server.command('GET', 'ten3')).toBe('3')
  })
})

describe.skipIf(missing !== null)(missing ?? 'servers of other kinds', () => {
  it('forgets when it is not told to keep', async () => {
    await using server = await startRedis()
    await server.command('SET', 'a', '1')
    await server.stop()
    await server.start()
    expect(await server.command('GET', 'a')).toBe(null)
  })

  it('wants a password', async () => {
    const password = 'two "words"'
    await using server = await startRedis({ password })
    expect(server.url).toBe(`redis://:two%20%22words%22@127.0.0.1:${server.port}`)
    expect(await server.command('PING')).toBe('PONG')
    const target = { host: '127.0.0.1', port: server.port }
    await expect(command(target, ['PING'])).rejects.toThrow('NOAUTH')
    await expect(command({ ...target, password: 'wrong' }, ['PING'])).rejects.toThrow('WRONGPASS')
  })

  it('says why it did not start', async () => {
    const starting = startRedis({ settings: { maxmemory: 'much' } })
    await expect(starting).rejects.toThrow(/did not start:.*maxmemory much/s)
    expect(homesOf(process.pid)).toEqual([])
  })
})

const missingTls = missingForRedis({ tls: true })
describe.skipIf(missingTls !== null)(missingTls ?? 'a server with TLS', () => {
  it('wants TLS of its own authority', async () => {
    await using server = await startRedis({ tls: true, password: 'secret' })
    expect(server.url).toBe(`rediss://:secret@127.0.0.1:${server.port}`)
    expect(await server.command('SET', 'a', '1')).toBe('OK')
    await using other = await startRedis({ tls: true })
    const target = { host: '127.0.0.1', port: server.port, password: 'secret' }
    expect(await command({ ...target, ca: server.ca }, ['GET', 'a'])).toBe('1')
    await expect(command({ ...target, ca: other.ca }, ['GET', 'a'])).rejects.toThrow(/certificate|signature/)
    await expect(command(target, ['GET', 'a'])).rejects.toThrow()
  })
})

describe.skipIf(missing !== null)(missing ?? 'a sentinel', () => {
  const isMaster = async (one: RedisNode) => ((await one.command('ROLE')) as unknown[])[0] === 'master'
  const inStep = (what: string, one: RedisNode, value: string) =>
    eventually(what, async () => (await one.command('GET', 'a')) === value)

  it('replaces a master that was killed or is frozen', async () => {
    await using group = await startSentinel({ password: 'secret' })
    const [first, second] = group.servers as [RedisNode, RedisNode]
    expect(await group.master()).toBe(first)
    await first.command('SET', 'a', '1')
    await expect(second.command('SET', 'a', '2')).rejects.toThrow('READONLY')
    await inStep('the replica has it', second, '1')

    expect(await group.failOver()).toBe(second)
    expect(await group.master()).toBe(second)
    await second.command('SET', 'a', '2')
    await first.start()
    await inStep('the old master is a replica', first, '2')

    second.freeze()
    expect(await group.masterAfter(second)).toBe(first)
    expect(await isMaster(first)).toBe(true)
    second.thaw()
    await eventually('it is no master any more', async () => !(await isMaster(second)))
    await first.command('SET', 'a', '3')
    await inStep('and is a replica', second, '3')
  })
})

describe.skipIf(missing !== null)(missing ?? 'in the end', () => {
  it('leaves nothing', async () => {
    const server = await startRedis()
    const group = await startSentinel()
    const pids = [server, group.sentinel, ...group.servers].map(one => one.pid)
    expect(pids.map(isRunning)).toEqual([true, true, true, true])
    expect(homesOf(process.pid)).toHaveLength(2)
    await server[Symbol.asyncDispose]()
    await group[Symbol.asyncDispose]()
    expect(pids.map(isRunning)).toEqual([false, false, false, false])
    expect(homesOf(process.pid)).toEqual([])
  })

  it('leaves no server of a test that was killed, even of a frozen one', async () => {
    const start = 'servers.startRedis().then(one => one.pid)'
    const parent = await startInChild('redis', `Promise.all([${start}, ${start}, ${start}])`)
    expect(parent.serverPids.map(isRunning)).toEqual([true, true, true])
    // One that it has ended itself, and one that cannot notice.
    process.kill(parent.serverPids[1]!, 'SIGKILL')
    process.kill(parent.serverPids[2]!, 'SIGSTOP')
    await parent.kill9()
    await eventually('they are gone', async () => !parent.serverPids.some(isRunning))
    expect(homesOf(parent.pid)).toHaveLength(3)
    await using _next = await startRedis()
    expect(homesOf(parent.pid)).toEqual([])
  })
})
