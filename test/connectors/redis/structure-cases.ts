/** The Redis sink: each structure, what expires and is forgotten, and options that do not fit. */
import { expect, it } from 'vitest'
import { redis } from '../../../connectors/redis/sink.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { write } from '../writing.ts'
import type { Kept } from './kept.ts'
import { pairs } from './reading.ts'

const rowOf = (id: number, name: string | null, price: string | null, version: number) =>
  recordOf({ id, version, row: JSON.stringify({ id, name, price }) })

export function structureCases({ server, open, asked }: Kept): void {
  it('hash: a field for each column that is not null; one that becomes null goes', async () => {
    const writer = await open({ structure: 'hash' })
    await write(writer, rowOf(1, 'lamp', '12345678901234567890.10', 1))
    expect(pairs((await asked('HGETALL', 'kit:1')) as string[])).toEqual([
      ['id', '1'],
      ['name', 'lamp'],
      ['price', '12345678901234567890.10'],
    ])
    await write(writer, rowOf(1, null, '1', 2))
    expect(pairs((await asked('HGETALL', 'kit:1')) as string[])).toEqual([
      ['id', '1'],
      ['price', '1'],
    ])
  })

  it('string: one column; null deletes the key', async () => {
    const writer = await open({ structure: 'string', key: 'name-of-${id}', value: 'name' })
    await write(writer, rowOf(1, 'schön "ja"', null, 1), rowOf(2, 'b', null, 2))
    expect(await asked('GET', 'name-of-1')).toBe('schön "ja"')
    await write(writer, rowOf(1, null, null, 3))
    expect(await asked('EXISTS', 'name-of-1')).toBe(0)
    expect(await asked('GET', 'name-of-2')).toBe('b')
  })

  it('set: a row moves with the columns of its key, and goes with its delete or a sweep', async () => {
    const writer = await open({ structure: 'set', key: 'named:${name}', member: '${id}' })
    const members = async (name: string) =>
      [...((await asked('SMEMBERS', `named:${name}`)) as string[])].sort()
    await write(writer, rowOf(1, 'a', null, 1), rowOf(2, 'a', null, 2), rowOf(3, 'b', null, 3))
    expect([await members('a'), await members('b')]).toEqual([['1', '2'], ['3']])
    await write(writer, rowOf(1, 'b', null, 4), recordOf({ op: 'd', id: 3, version: 5 }))
    expect([await members('a'), await members('b')]).toEqual([['2'], ['1']])
    await write(writer, rowOf(1, 'c', null, 3)) // older
    expect(await members('b')).toEqual(['1'])
    await write(writer, recordOf({ op: 'sweep', version: 6, below: 4 }))
    expect([await members('a'), await members('b')]).toEqual([[], ['1']])
  })

  it('set: a member that several rows have, or hand over, goes with the last of them, whatever their partitions', async () => {
    const options = { structure: 'set', key: 'names', member: '${name}' }
    const [writer, other] = [await open(options), await open(options, { task: 'test/sink/1' })]
    const members = async () => [...((await asked('SMEMBERS', 'names')) as string[])].sort()
    const elsewhere = (name: string | null, version: number) =>
      name === null
        ? recordOf({ op: 'd', id: 3, version, partition: 1 })
        : { ...rowOf(3, name, null, version), partition: 1 }
    await write(writer, rowOf(1, 'a', null, 1), rowOf(2, 'b', null, 2))
    await write(writer, rowOf(1, 'b', null, 3), rowOf(2, 'a', null, 4))
    expect(await members(), 'they changed places').toEqual(['a', 'b'])
    await write(other, elsewhere('a', 5))
    await write(writer, recordOf({ op: 'd', id: 2, version: 6 }))
    expect(await members(), 'row 3 has it still').toEqual(['a', 'b'])
    await write(other, elsewhere('b', 7))
    expect(await members()).toEqual(['b'])
    await write(writer, recordOf({ op: 'sweep', version: 8, below: 8 }))
    expect(await members()).toEqual(['b'])
    await write(other, elsewhere(null, 9))
    expect([await members(), await asked('KEYS', 'millrace:members:*')]).toEqual([[], []])
  })

  it('sorted_set: the score is a column; null is no member; what is no number is a dead letter (P1)', async () => {
    const writer = await open({ structure: 'sorted_set', key: 'by-price', score: 'price' })
    await write(writer, rowOf(1, 'a', '10.50', 1), rowOf(2, 'b', '2', 2), rowOf(3, 'c', null, 3))
    const inOrder = () => asked('ZRANGE', 'by-price', '0', '-1', 'WITHSCORES')
    expect(await inOrder()).toEqual(['2', '2', '1', '10.5'])
    await write(writer, rowOf(2, 'b', '20', 4), rowOf(1, 'a', null, 5))
    expect(await inOrder()).toEqual(['2', '20'])
    const bad = rowOf(4, 'd', 'much', 7)
    const rejected = await writer.write(batchOf([rowOf(5, 'e', '5', 6), bad], 8))
    expect(rejected.map(one => one.record)).toEqual([bad])
    expect(rejected[0]!.error).toMatchObject({ kind: 'data', message: expect.stringContaining('"much"') })
    expect(await inOrder(), 'nothing was written').toEqual(['2', '20'])
  })

  it('a key that holds something of another kind is told, and nothing of the batch is written', async () => {
    await asked('SET', 'named:a', 'not a set')
    const writer = await open({ structure: 'set', key: 'named:${name}' })
    const [good, bad] = [rowOf(1, 'b', null, 1), rowOf(2, 'a', null, 2)]
    const rejected = await writer.write(batchOf([good, bad], 3))
    expect(rejected.map(one => one.record)).toEqual([bad])
    expect(rejected[0]!.error.message).toContain('named:a')
    expect(await asked('EXISTS', 'named:b')).toBe(0)
    await write(writer, good)
    expect(await asked('SMEMBERS', 'named:b')).toEqual(['1'])
  })

  it('stream: each change once, with its place; the same batch again adds nothing', async () => {
    const writer = await open({ structure: 'stream', key: 'changes:${table}' })
    const batch = batchOf([
      rowOf(1, 'a', '1', 1),
      recordOf({ op: 'd', id: 1, version: 2 }),
      recordOf({ op: 'sweep', version: 3, below: 3 }),
    ])
    await writer.write(batch)
    const entries = (await asked('XRANGE', 'changes:kit', '-', '+')) as [string, string[]][]
    expect(entries.map(([, fields]) => Object.fromEntries(pairs(fields)))).toMatchObject([
      { op: 'u', key: '{"id":1}', after: '{"id":1,"name":"a","price":"1"}', position: 'kit.test.kit/0/1' },
      { op: 'd', key: '{"id":1}', version: '2' },
      { op: 'sweep', below: '3' },
    ])
    // Who comes back stands behind the batch: there is no second time.
    const next = await open({ structure: 'stream', key: 'changes:${table}' }, { epoch: 2 })
    expect(await next.position?.()).toEqual(batch.offset)
    await expect(writer.write(batchOf([rowOf(2, 'b', '1', 4)]))).rejects.toThrow('another writer')
    expect(await asked('XLEN', 'changes:kit')).toBe(3)
  })

  it('stream: keeps about as many entries as it is told to', async () => {
    const writer = await open({ structure: 'stream', key: 'changes', max_length: 100 })
    await writer.write(batchOf(Array.from({ length: 1_000 }, (_, i) => rowOf(i, 'a', '1', i + 1))))
    const length = Number(await asked('XLEN', 'changes'))
    expect(length).toBeGreaterThanOrEqual(100)
    expect(length).toBeLessThan(400)
  })

  it('invalidate: deletes the keys of before and after; a sweep all that the template can give', async () => {
    await asked('MSET', 'page:a', '1', 'page:b', '1', 'page:c', '1', 'other', '1')
    const writer = await open({ structure: 'invalidate', key: 'page:${name}' })
    const moved = { ...rowOf(1, 'b', null, 1), before: '{"id":1,"name":"a","price":null}' }
    await write(writer, moved)
    expect(await asked('EXISTS', 'page:a', 'page:b')).toBe(0)
    const unknown = recordOf({ op: 'd', id: 2, version: 2 })
    const rejected = await writer.write(batchOf([unknown]))
    expect(rejected[0]!.error.hint).toContain('REPLICA IDENTITY FULL')
    await write(writer, recordOf({ op: 'sweep', version: 3, below: 3 }))
    expect([await asked('EXISTS', 'page:c'), await asked('EXISTS', 'other')]).toEqual([0, 1])
  })

  it('rows expire: all after ttl_seconds, or each at the time of a column; their versions go later', async () => {
    const writer = await open({ ttl_seconds: 1_000 })
    await write(writer, rowOf(1, 'a', '1', 1))
    const left = Number(await asked('PTTL', 'kit:1'))
    expect(left).toBeGreaterThan(900_000)
    expect(left).toBeLessThanOrEqual(1_000_000)
    expect(await asked('ZCARD', 'millrace:forget:test/sink/0:kit.test.kit')).toBe(1)

    const hashed = await open(
      { structure: 'hash', key: 'h:${id}', expire_at: 'name' },
      { task: 'test/hashed/0' },
    )
    const soon = new Date(Date.now() + 500_000).toISOString()
    await write(hashed, rowOf(1, soon, '1', 1), rowOf(2, null, '1', 2), rowOf(3, '2001-01-01', '1', 3))
    expect(Number(await asked('PTTL', 'h:1'))).toBeGreaterThan(400_000)
    expect(await asked('PTTL', 'h:2')).toBe(-1)
    expect(await asked('EXISTS', 'h:3'), 'its time is over').toBe(0)
    await write(hashed, rowOf(1, null, '2', 4))
    expect(await asked('PTTL', 'h:1'), 'written anew, without a time').toBe(-1)
    await write(hashed, rowOf(5, 'infinity', '1', 6), rowOf(6, '-infinity', '1', 7))
    expect([await asked('PTTL', 'h:5'), await asked('EXISTS', 'h:6')]).toEqual([-1, 0])
    // Nanoseconds for seconds: Redis would refuse it in the middle of the batch, for ever.
    for (const text of ['soon', '1700000000000000000']) {
      const bad = rowOf(4, text, '1', 9)
      const rejected = await hashed.write(batchOf([rowOf(7, null, '1', 8), bad]))
      expect(rejected.map(one => one.record)).toEqual([bad])
      expect(rejected[0]!.error.message).toContain(`"${text}", which is no time`)
      expect(await asked('EXISTS', 'h:7')).toBe(0)
    }
  })

  it('a delete is remembered for ten minutes, and then forgotten with its version', async () => {
    let nowUs = 1_800_000_000_000_000
    const clock = { ...testContext().clock, nowUs: () => nowUs }
    const writer = await open({}, { clock })
    await write(writer, rowOf(1, 'a', '1', 10), recordOf({ op: 'd', id: 1, version: 20 }))
    await write(writer, rowOf(1, 'late', '1', 15))
    expect(await asked('EXISTS', 'kit:1'), 'older than its delete').toBe(0)
    nowUs += 601_000_000
    await write(writer, rowOf(2, 'b', '1', 21))
    expect(await asked('ZRANGE', 'millrace:versions:test/sink/0:kit.test.kit', '0', '-1')).toEqual(['kit:2'])
    expect(await asked('EXISTS', 'millrace:forget:test/sink/0:kit.test.kit')).toBe(0)
  })

  it('a large batch goes in parts, and a sweep of many rows in steps', async () => {
    const writer = await open({ structure: 'hash' })
    const many = Array.from({ length: 5_000 }, (_, i) => rowOf(i, `n${i}`, '1', i + 1))
    await write(writer, ...many)
    expect(await asked('ZCARD', 'millrace:versions:test/sink/0:kit.test.kit')).toBe(5_000)
    await write(writer, recordOf({ op: 'sweep', version: 6_000, below: 4_001 }))
    expect(((await asked('KEYS', 'kit:*')) as string[]).length).toBe(1_000)
  })

  it('forget takes the position and leaves the rows', async () => {
    const writer = await open()
    await write(writer, rowOf(1, 'a', '1', 1))
    await redis.forget!(redis.config.parse({ url: server().url }), ['test/sink/0'], testContext())
    expect([await asked('EXISTS', 'millrace:position:test/sink/0'), await asked('EXISTS', 'kit:1')]).toEqual([
      0, 1,
    ])
  })

  it('refuses options that do not fit a table, before anything and while it runs', async () => {
    const plan = (over: object) =>
      redis.plan!(
        redis.config.parse({ url: server().url, ...over }),
        [{ table: recordOf({ version: 1 }).table, topic: 'kit.test.kit' }],
        testContext(),
      )
    await expect(plan({ key: 'x:${name}' })).rejects.toThrow('${name} is no column of the key of test.kit')
    await expect(plan({ structure: 'string', value: 'title' })).rejects.toThrow('has no column title')
    expect(await plan({ key: '${schema}:${table}:${id}' })).toMatchObject([{ name: 'test:kit:${id}' }])
    const writer = await open({ key: 'x:${name}' })
    await expect(writer.write(batchOf([rowOf(1, 'a', '1', 1)]))).rejects.toThrow('${name}')
  })
}
