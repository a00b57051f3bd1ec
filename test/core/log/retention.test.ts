/** What the log lets go of, and of whom (J4). */
import { describe, expect, it } from 'vitest'
import type { Reader } from '../../../core/connector.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { FileLog } from '../../../core/log/file.ts'
import type { Retention } from '../../../core/log/log.ts'
import { all, change, newDisk, openOn, source } from './on-disk.ts'

const TOPIC = 'kit.test.kit'
const signal = new AbortController().signal

/** In the place of the state file. */
const detachable = (over: Partial<Retention> & { readonly detaches?: readonly string[] } = {}) => {
  const detached = new Set<string>()
  const asked: (readonly string[])[] = []
  const { detaches = [], ...rest } = over
  const retention: Retention = {
    hours: 1_000,
    consumers: ['a', 'b'],
    isDetached: consumer => detached.has(consumer),
    atLimit(holding) {
      asked.push(holding)
      const late = holding.filter(one => detaches.includes(one))
      for (const one of late) detached.add(one)
      return late.length > 0
    },
    ...rest,
  }
  return { retention, detached, asked }
}

/** A change for each number, each in a frame of its own. */
async function fill(log: FileLog, from: number, to: number, epoch = 1): Promise<ConnectorError | null> {
  try {
    const writer = await log.writer(source({ epoch }), 0)
    for (let n = from; n < to; n++) await writer.write({ records: [change(n)], offset: n })
    return null
  } catch (error) {
    return error as ConnectorError
  }
}

const startOf = (log: FileLog) => log.endsNow()[0]!.start
const endOf = (log: FileLog) => log.endsNow()[0]!.end
const open = (log: FileLog, consumer: string, next: number | null = null) =>
  log.reader({
    consumer,
    partition: 0,
    from: next === null ? null : { log: log.id, next: { [TOPIC]: next } },
    signal,
    untilEnd: true,
  })
const passes = (log: FileLog, reader: Reader, next: number) =>
  reader.commit!({ log: log.id, next: { [TOPIC]: next } })

describe('retention by time', () => {
  it('waits for every consumer, and never passes the first unread record of one', async () => {
    const { retention } = detachable({ hours: -1 }) // everything is too old
    await using log = await openOn(newDisk(), { segmentBytes: 400, retention })
    await fill(log, 0, 20)
    await log.retain()
    expect(startOf(log), 'nobody has said where they stand').toBe(0)
    await using a = await open(log, 'a')
    await using b = await open(log, 'b')
    await passes(log, a, 20)
    await log.retain()
    expect(startOf(log), 'b has read nothing').toBe(0)
    await passes(log, b, 9)
    await log.retain()
    expect(startOf(log)).toBeGreaterThan(0)
    expect(startOf(log)).toBeLessThanOrEqual(9)
    expect((await all(log, 0, { log: log.id, next: { [TOPIC]: 9 } })).map(one => one.offset)[0]).toBe(9)
    await expect(all(log, 0, { log: log.id, next: { [TOPIC]: 0 } })).rejects.toMatchObject({
      kind: 'offset_lost',
    })
  })
})

describe('retention by size', () => {
  it('lets go of what all have passed while the log is larger, oldest first, however young', async () => {
    const { retention } = detachable({ bytes: 4_000 })
    await using log = await openOn(newDisk(), { segmentBytes: 400, retention })
    await fill(log, 0, 30)
    const full = log.sizeBytes()
    expect(full).toBeGreaterThan(8_000)
    await using a = await open(log, 'a')
    await using b = await open(log, 'b')
    await passes(log, a, 30)
    await passes(log, b, 4)
    await log.retain()
    expect(log.sizeBytes(), 'b holds it').toBeGreaterThan(4_000)
    expect(startOf(log)).toBeLessThanOrEqual(4)
    await passes(log, b, 30)
    await log.retain()
    expect(log.sizeBytes()).toBeLessThanOrEqual(4_000)
    expect(log.sizeBytes(), 'no more than that').toBeGreaterThan(3_000)
    expect((await all(log)).map(one => one.offset)).toEqual(
      Array.from({ length: 30 - startOf(log) }, (_, i) => startOf(log) + i),
    )
  })

  it('leaves all alone without a size', async () => {
    const { retention } = detachable({ consumers: ['a'] })
    await using log = await openOn(newDisk(), { segmentBytes: 400, retention })
    await fill(log, 0, 30)
    await using a = await open(log, 'a')
    await passes(log, a, 30)
    await log.retain()
    expect(startOf(log)).toBe(0)
  })
})

describe('at the limit', () => {
  it('makes room of what all have passed, however young; the source does not wait', async () => {
    const { retention, asked } = detachable({ consumers: ['a'] })
    await using log = await openOn(newDisk(), { segmentBytes: 400, limitBytes: 6_000, retention })
    await using a = await open(log, 'a')
    for (let n = 0; n < 200; n++) {
      expect(await fill(log, n, n + 1, n + 1)).toBeNull()
      await passes(log, a, n + 1)
      expect(log.sizeBytes()).toBeLessThan(7_000)
    }
    expect(startOf(log)).toBeGreaterThan(100)
    expect(log.sizeBytes(), 'as much as there is room for stays').toBeGreaterThan(4_000)
    expect(asked).toEqual([])
  })

  it('stops the source at what one has not read, and lets it go on by itself', async () => {
    const { retention, asked } = detachable()
    await using log = await openOn(newDisk(), { segmentBytes: 400, limitBytes: 6_000, retention })
    expect(await fill(log, 0, 100)).toMatchObject({
      kind: 'throttled',
      hint: expect.stringContaining('limits.log_bytes'),
    })
    expect(asked, 'nobody has said where they stand').toEqual([['a', 'b']])
    await using a = await open(log, 'a')
    await using b = await open(log, 'b')
    const end = endOf(log)
    await passes(log, a, end)
    expect(await fill(log, 100, 101, 2)).toMatchObject({ kind: 'throttled' })
    expect(asked.at(-1)).toEqual(['b'])
    expect(startOf(log)).toBe(0)
    await passes(log, b, 3)
    expect(await fill(log, 101, 102, 3)).toBeNull()
    expect(startOf(log)).toBeGreaterThan(0)
    expect(startOf(log)).toBeLessThanOrEqual(3)
  })

  it('is passed by one big write, and left again when that has been read', async () => {
    const { retention } = detachable({ consumers: ['a'] })
    await using log = await openOn(newDisk(), { limitBytes: 6_000, compression: 'none', retention })
    const writer = await log.writer(source(), 0)
    await writer.write({
      records: [change(1, { after: `{"id":1,"name":"${'x'.repeat(9_000)}"}` })],
      offset: 1,
    })
    expect(await fill(log, 2, 3, 2)).toMatchObject({ kind: 'throttled' })
    await using a = await open(log, 'a')
    await passes(log, a, 1)
    expect(await fill(log, 2, 3, 3)).toBeNull()
    expect(log.sizeBytes()).toBeLessThan(6_000)
  })

  it('drops nothing when there is no sink: the topics are the result', async () => {
    const { retention } = detachable({ consumers: [], bytes: 50_000 })
    await using log = await openOn(newDisk(), { segmentBytes: 400, limitBytes: 6_000, retention })
    expect(await fill(log, 0, 100)).toMatchObject({ kind: 'throttled' })
    expect(startOf(log)).toBe(0)
  })
})

describe('a consumer that is detached', () => {
  it('holds nothing any more, hears of it at its next commit, and never reads again; the others do', async () => {
    const disk = newDisk()
    const { retention, detached } = detachable({ detaches: ['b'] })
    const options = { segmentBytes: 400, limitBytes: 6_000, retention }
    {
      await using log = await openOn(disk, options)
      await using a = await open(log, 'a')
      await using b = await open(log, 'b')
      await passes(log, b, 1)
      for (let n = 0; n < 60; n++) {
        expect(await fill(log, n, n + 1, n + 1)).toBeNull()
        await passes(log, a, n + 1)
      }
      expect([...detached]).toEqual(['b'])
      expect(startOf(log)).toBeGreaterThan(1)
      await expect(passes(log, b, 2)).rejects.toMatchObject({
        kind: 'offset_lost',
        message: expect.stringContaining('b is detached'),
        hint: expect.stringContaining('millrace delete'),
      })
      await log.retain()
    }
    await using log = await openOn(disk, options)
    // Without a position it would begin at the log's start, behind all that was let go.
    for (const next of [null, 1, 60])
      await expect(open(log, 'b', next)).rejects.toMatchObject({ kind: 'offset_lost' })
    await using a = await open(log, 'a', 60)
    expect(await fill(log, 60, 61, 61)).toBeNull()
    for await (const batch of a) expect(batch.records.map(one => one.offset)).toEqual([60])
  })

  it('is detached only when it holds the oldest segment, and one after the other', async () => {
    const { retention, detached, asked } = detachable({ detaches: ['a', 'b'] })
    await using log = await openOn(newDisk(), { segmentBytes: 400, limitBytes: 6_000, retention })
    await using a = await open(log, 'a')
    await using b = await open(log, 'b')
    await fill(log, 0, 8)
    await passes(log, b, 8)
    for (let n = 8; detached.size === 0; n++) expect(await fill(log, n, n + 1, n + 1)).toBeNull()
    expect([...detached]).toEqual(['a'])
    expect(startOf(log), 'b has not lost anything').toBeLessThanOrEqual(8)
    await passes(log, b, 8)
    await expect(passes(log, a, 1)).rejects.toMatchObject({ kind: 'offset_lost' })
    for (let n = 100; detached.size === 1; n++) expect(await fill(log, n, n + 1, n + 1)).toBeNull()
    expect(asked).toEqual([['a'], ['b']])
    expect(await fill(log, 1_000, 1_050, 1_000), 'nobody is waited for').toBeNull()
  })
})
