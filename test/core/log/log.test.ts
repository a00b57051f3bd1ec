import { describe, expect, it } from 'vitest'
import { ConnectorError } from '../../../core/errors.ts'
import { murmur2, partitionOf } from '../../../core/kafka/partition.ts'
import { openEntryLog } from '../../../core/log/file.ts'
import { decodeValue } from '../../../core/log/value.ts'
import { encodeValue } from '../../../core/row.ts'
import { KIT_TABLE } from '../../conform/kit-table.ts'
import type { SimDisk } from '../../sim/disk.ts'
import { randomOf } from '../../sim/random.ts'
import { all, change, clock, newDisk, openOn, segmentPath, silent, source } from './on-disk.ts'

describe('partitions', () => {
  it('hashes keys as Kafka does (its own vectors)', () => {
    const vectors: Record<string, number> = {
      '21': -973932308,
      foobar: -790332482,
      'a-little-bit-long-string': -985981536,
      'a-little-bit-longer-string': -1486304829,
      lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8: -58897971,
      abc: 479470107,
    }
    for (const [text, hash] of Object.entries(vectors)) expect(murmur2(Buffer.from(text)), text).toBe(hash)
    expect(partitionOf('foobar', 7)).toBe((-790332482 & 0x7fffffff) % 7)
  })
})

describe('values', () => {
  it('are encoded and decoded without loss', () => {
    const record = change(7, {
      before: '{"id":7,"name":"}\\",\\"after\\":{","price":null}',
      after:
        '{"id":7,"j":{"k":1,"source":{"a":1},"ts_ms":3,"before":null,"after":{}},"t":",\\"source\\":{\\"a\\":1},\\"ts_ms\\":1"}',
      source: '{"a":{"b":[1,"]"]},"t":",\\"source\\":{},\\"ts_ms\\":1"}',
    })
    const value = encodeValue(record, 9)
    expect(JSON.parse(value)).toMatchObject({
      op: 'u',
      before: { id: 7 },
      after: { id: 7 },
      ts_ms: 1_700_000_000_001,
    })
    const place = { topic: 't', partition: 1, offset: 2, version: 9, timestampMs: record.commitMs }
    expect(decodeValue(record.key, value, KIT_TABLE, place)).toEqual({
      ...record,
      topic: 't',
      partition: 1,
      offset: 2,
      version: 9,
    })
    const sweep = change(0, { op: 'sweep', key: '{"sweep":"test.kit"}', after: null, below: -1 })
    expect(decodeValue(sweep.key, encodeValue(sweep, 33), KIT_TABLE, place)).toMatchObject({
      op: 'sweep',
      below: 33,
    })
  })
})

describe('log', () => {
  it('says that the disk is full, and goes on when there is room (J3)', async () => {
    const disk = newDisk()
    await using log = await openOn(disk, { compression: 'none' })
    const writer = await log.writer(source(), 0)
    await writer.write({ records: [change(1)], offset: 1 })
    disk.fill(100)
    await expect(writer.write({ records: [change(2)], offset: 2 })).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('full'),
    })
    disk.heal()
    await writer.write({ records: [change(3)], offset: 3 })
    expect((await all(log)).map(one => [one.key, one.offset])).toEqual([
      ['{"id":1}', 0],
      ['{"id":3}', 1],
    ])
  })

  it('groups concurrent appends under one sync', async () => {
    const disk = newDisk()
    const mounted = disk.mount(async () => {})
    let syncs = 0
    const counting = {
      ...mounted,
      open: async (path: string, mode: 'create' | 'read' | 'write') => {
        const file = await mounted.open(path, mode)
        return {
          ...file,
          sync: async () => {
            syncs++
            await file.sync()
          },
        }
      },
    }
    await using log = await openEntryLog({
      directory: '/dead',
      disk: counting,
      clock,
      log: silent,
      name: 'kit.dead',
      compression: 'none',
      limitBytes: Number.POSITIVE_INFINITY,
      lingerMs: 5,
      batchBytes: 1e6,
    })
    syncs = 0
    await Promise.all(
      [...Array(50).keys()].map(i =>
        log.append([{ topic: 'kit.dead', partition: 0, key: `${i}`, value: `value ${i}`, timestampMs: i }]),
      ),
    )
    expect(syncs).toBeLessThanOrEqual(2)
    const found = []
    for await (const entry of log.entries()) found.push(entry.value)
    expect(found).toHaveLength(50)
  })
})

describe('damage', () => {
  async function written(disk: SimDisk): Promise<{ ends: number[] }> {
    const ends: number[] = []
    await using log = await openOn(disk, { compression: 'none' })
    const writer = await log.writer(source(), 0)
    for (let i = 1; i <= 4; i++) {
      await writer.write({ records: [change(i)], offset: i })
      ends.push(disk.content(segmentPath(1)).length)
    }
    return { ends }
  }

  it('cuts a torn tail at every length, and keeps what was whole', async () => {
    const whole = newDisk()
    const { ends } = await written(whole)
    const bytes = whole.content(segmentPath(1))
    for (let length = ends[2]!; length < ends[3]!; length++) {
      const disk = newDisk()
      await written(disk)
      disk.alter(segmentPath(1), () => bytes.subarray(0, length))
      await using log = await openOn(disk)
      expect(
        (await all(log)).map(one => one.key),
        `cut at ${length}`,
      ).toEqual(['{"id":1}', '{"id":2}', '{"id":3}'])
    }
  })

  it('reports damage in the middle with file and byte, and skips nothing (J2)', async () => {
    const disk = newDisk()
    const { ends } = await written(disk)
    const at = ends[1]! + 40
    disk.alter(segmentPath(1), bytes => {
      bytes[at]! ^= 1
      return bytes
    })
    await expect(openOn(disk)).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining(`byte ${ends[1]}`),
    })
  })

  it('refuses a log that misses a file between two others, and one whose files are of two logs (J2)', async () => {
    const many = async (disk: SimDisk) => {
      await using log = await openOn(disk, { segmentBytes: 300 })
      const writer = await log.writer(source(), 0)
      for (let i = 1; i <= 12; i++) await writer.write({ records: [change(i)], offset: i })
    }
    const disk = newDisk()
    await many(disk)
    const other = newDisk()
    await many(other)
    disk.alter(segmentPath(2), () => other.content(segmentPath(2)))
    await expect(openOn(disk)).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('of log'),
    })
    await disk.mount(async () => {}).remove(segmentPath(2))
    await expect(openOn(disk)).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining(
        '00000000000000000002.seg should stand in front of it, and is missing',
      ),
    })
    await disk.mount(async () => {}).remove(segmentPath(1))
    await using log = await openOn(disk) // retention removes the oldest
    expect((await all(log)).at(-1)?.key).toBe('{"id":12}')
  })

  it('never serves altered bytes, whatever bit is turned (300 seeds)', async () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = randomOf(seed)
      const disk = newDisk()
      await written(disk)
      disk.alter(segmentPath(1), bytes => {
        for (let i = random.int(1, 4); i > 0; i--)
          bytes[random.int(0, bytes.length - 1)]! ^= 1 << random.int(0, 7)
        return bytes
      })
      try {
        await using log = await openOn(disk)
        const records = await all(log)
        for (const [i, record] of records.entries())
          expect(record.after, `seed ${seed}`).toBe(change(i + 1).after)
      } catch (error) {
        expect(error, `seed ${seed}: ${String(error)}`).toBeInstanceOf(ConnectorError)
      }
    }
  })

  it('refuses a newer format (J6)', async () => {
    const disk = newDisk()
    await written(disk)
    disk.alter(segmentPath(1), bytes => {
      bytes.writeUInt16LE(99, 8)
      return bytes
    })
    await expect(openOn(disk)).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('newer Millrace'),
    })
  })
})
