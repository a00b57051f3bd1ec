/**
 * The kit every log of changes passes (that of plain entries: entry-log.ts). A log's test hands over a way to open it again and again,
 * as after a restart; the kit does the rest.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Batch, Context, Offset } from '../../core/connector.ts'
import { Fenced } from '../../core/errors.ts'
import { partitionOf } from '../../core/kafka/partition.ts'
import type { ChangeLog, LogOffset } from '../../core/log/log.ts'
import type { ChangeRecord, LogRecord } from '../../core/record.ts'
import { testContext } from './context.ts'
import { KIT_TABLE, NASTY_TEXTS, WIDER_TABLE } from './kit-table.ts'

/** The pipeline's name is `kit`. */
export interface LogTarget<L> extends AsyncDisposable {
  /** The same log each time. The one before was closed, or was left as a killed process leaves it. */
  open(): Promise<L>
  /** In front of every topic. */
  readonly topicPrefix?: string
}

export interface LogKit<L> {
  readonly name: string
  /** A new, empty log. */
  target(partitions: number): Promise<LogTarget<L>>
  /** Offsets rise and need not follow each other: marks of the log's own stand between records. */
  readonly hasMarkers?: boolean
  /** Sockets of its client may take so long to be closed by the other side. */
  readonly settleMs?: number
}

const TABLE_TOPIC = 'kit.test.kit'
const DAY_US = 86_400_000_000

export const change = (id: number, over: Partial<ChangeRecord> = {}): ChangeRecord => ({
  op: 'u',
  table: KIT_TABLE,
  key: `{"id":${id}}`,
  before: null,
  after: `{"id":${id},"name":"row ${id}","price":"1.50"}`,
  source: `{"connector":"kit","n":${id}}`,
  commitMs: 1_700_000_000_000 + id,
  readMs: 1_700_000_000_001,
  below: null,
  ...over,
})
/** From 0 on without a gap, unless the log's own marks stand between. */
export function expectOffsets(
  records: readonly { readonly offset: number }[],
  { hasMarkers }: { readonly hasMarkers?: boolean },
): void {
  const offsets = records.map(one => one.offset)
  if (!hasMarkers) expect(offsets, 'no gap').toEqual(records.map((_, i) => i))
  else expect(offsets, 'rising').toEqual([...new Set(offsets)].sort((a, b) => a - b))
}
const sweep = (): ChangeRecord =>
  change(0, { op: 'sweep', key: '{"sweep":"test.kit"}', after: null, below: -1 })
const changes = (from: number, to: number): ChangeRecord[] =>
  Array.from({ length: to - from }, (_, i) => change(from + i))

const source = (over: Partial<Context> = {}) => testContext({ pipeline: 'kit', task: 'kit/source', ...over })
const keysOf = (records: readonly LogRecord[]): string[] => records.map(one => one.key)

async function batches(
  log: ChangeLog,
  partition = 0,
  from: LogOffset | null = null,
  maxRecords?: number,
): Promise<Batch[]> {
  const found: Batch[] = []
  await using reader = await log.reader({
    consumer: 'kit/reader/0',
    partition,
    from: from as unknown as Offset,
    signal: new AbortController().signal,
    untilEnd: true,
    ...(maxRecords === undefined ? {} : { maxRecords }),
  })
  for await (const batch of reader) found.push(batch)
  return found
}

const all = async (log: ChangeLog, partition = 0, from: LogOffset | null = null): Promise<LogRecord[]> =>
  (await batches(log, partition, from)).flatMap(batch => batch.records)

interface Opened<L> {
  open(partitions?: number): Promise<L>
  /** Of the table that the kit writes. */
  topic(): string
  deadTopic(): string
  readonly kit: LogKit<L>
}

/** Opens on one target a test, closes whatever is open behind it, and looks for handles that were left. */
export function opening<L extends AsyncDisposable>(kit: LogKit<L>): Opened<L> {
  let target: LogTarget<L> | null = null
  let log: L | null = null
  let handles = 0
  const close = async () => {
    await log?.[Symbol.asyncDispose]()
    log = null
  }
  const leftOver = () => process.getActiveResourcesInfo().length - handles
  beforeEach(() => {
    handles = process.getActiveResourcesInfo().length
  })
  afterEach(async () => {
    await close()
    await target?.[Symbol.asyncDispose]()
    target = null
    for (let waitedMs = 0; waitedMs <= (kit.settleMs ?? 0) && leftOver() > 1; waitedMs += 5)
      await new Promise(resolve => setTimeout(resolve, 5))
    expect(leftOver(), `no handle is left open of ${process.getActiveResourcesInfo()}`).toBeLessThanOrEqual(1)
  })
  return {
    kit,
    deadTopic: () => `${target?.topicPrefix ?? ''}kit.dead`,
    topic: () => `${target?.topicPrefix ?? ''}${TABLE_TOPIC}`,
    async open(partitions = 1) {
      await close()
      target ??= await kit.target(partitions)
      log = await target.open()
      return log
    },
  }
}

export function changeLogConformance(kit: LogKit<ChangeLog>): void {
  describe(`${kit.name}: log of changes`, () => {
    const opened = opening(kit)
    writing(opened)
    owning(opened)
    reading(opened)
  })
}

function writing({ open, topic, kit }: Opened<ChangeLog>): void {
  it('keeps records, offsets, numbers and the position over a restart; numbers rise with the log (V1)', async () => {
    let log = await open()
    const { id } = log
    let writer = await log.writer(source(), 0)
    expect(await writer.position?.(), 'nothing is known of a new log').toBeNull()
    expect(await writer.write({ records: changes(1, 3), offset: { lsn: '1' } })).toEqual([])
    await writer.write({ records: [], offset: { lsn: '2' } })
    log = await open()
    expect(log.id, 'made with the log (V5)').toBe(id)
    writer = await log.writer(source({ epoch: 2 }), 0)
    expect(await writer.position?.()).toEqual({ lsn: '2' })
    await writer.write({ records: [change(3)], offset: { lsn: '3' } })
    const records = await all(log)
    expect(records).toMatchObject([1, 2, 3].map(n => ({ ...change(n), topic: topic(), partition: 0 })))
    expectOffsets(records, kit)
    const versions = records.map(one => one.version)
    expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b))
    expect(Math.abs(versions[0]! - Date.now() * 1000), 'microseconds').toBeLessThan(DAY_US)
  })

  it('knows the ends of what it has just written, of a topic that is new as well', async () => {
    const log = await open()
    const writer = await log.writer(source(), 0)
    await writer.write({ records: changes(1, 3), offset: 1 })
    expect(await log.ends()).toMatchObject([{ topic: topic(), partition: 0 }])
    expect((await log.ends())[0]!.end).toBeGreaterThanOrEqual(2)
  })

  it('numbers above the floor, and refuses to go on from a number a day ahead of the clock (V3)', async () => {
    const log = await open()
    const floor = Date.now() * 1000 + 5_000_000
    const writer = await log.writer(source(), floor)
    await writer.write({ records: [change(1)], offset: 1 })
    expect((await all(log))[0]!.version).toBe(floor + 1)
    const ahead = log.writer(source({ epoch: 2 }), Date.now() * 1000 + 2 * DAY_US)
    await expect(ahead).rejects.toMatchObject({ kind: 'config' })
  })

  it('places keys as Kafka does, and a sweep in every partition with one number (S1)', async () => {
    const log = await open(3)
    expect(log.partitions).toBe(3)
    const writer = await log.writer(source(), 0)
    await writer.write({ records: [...changes(0, 30), sweep(), ...changes(0, 30)], offset: 1 })
    const lists = await Promise.all([0, 1, 2].map(partition => all(log, partition)))
    const sweeps = lists.flat().filter(one => one.op === 'sweep')
    expect(sweeps.map(one => one.partition)).toEqual([0, 1, 2])
    expect(new Set(sweeps.map(one => one.below)).size).toBe(1)
    expect(sweeps[0]!.below).toBe(Math.min(...sweeps.map(one => one.version)))
    for (const [partition, list] of lists.entries()) {
      expectOffsets(list, kit)
      const at = list.findIndex(one => one.op === 'sweep')
      expect(at, 'as many in front of the sweep as behind it').toBe((list.length - 1) / 2)
      for (const { op, key } of list) if (op !== 'sweep') expect(partitionOf(key, 3)).toBe(partition)
    }
    expect(lists.flat()).toHaveLength(63)
    const tops = (await log.ends()).map(({ topic, partition, start, end }) => ({
      topic,
      partition,
      start,
      end,
    }))
    expect(tops.map(({ end, ...one }) => one)).toEqual(
      lists.map((_, partition) => ({ topic: topic(), partition, start: 0 })),
    )
    for (const [partition, list] of lists.entries()) {
      const behind = list.at(-1)!.offset + 1
      if (kit.hasMarkers) expect(tops[partition]!.end).toBeGreaterThanOrEqual(behind)
      else expect(tops[partition]!.end).toBe(behind)
    }
  })

  it('gives each table a topic of its own, and keeps the order over topics by number', async () => {
    const log = await open()
    const writer = await log.writer(source(), 0)
    const other = { ...KIT_TABLE, schema: 'a.b', name: 'ünï "q"' }
    const records = [...Array(20).keys()].map(n => change(n, n % 2 === 0 ? {} : { table: other }))
    await writer.write({ records, offset: 1 })
    const read = (await all(log)).sort((a, b) => a.version - b.version)
    expect(keysOf(read)).toEqual(records.map(one => one.key))
    expect(read[1]).toMatchObject({ topic: topic().replace(TABLE_TOPIC, 'kit.a_b._n___q_'), table: other })
  })

  it('keeps the order of a topic when the shape changes inside a batch', async () => {
    const log = await open()
    const writer = await log.writer(source(), 0)
    const same = { ...KIT_TABLE, columns: [...KIT_TABLE.columns] } // told again, not changed
    const big = 'x'.repeat(100_000)
    const records = [...Array(24).keys()].map(n =>
      change(1, { table: [KIT_TABLE, same, WIDER_TABLE][n % 3]!, after: `{"id":1,"n":${n},"big":"${big}"}` }),
    )
    await writer.write({ records, offset: 1 })
    const read = await all(log)
    expect(read.map(one => one.after!.slice(0, 16))).toEqual(records.map(one => one.after!.slice(0, 16)))
    expect(read.map(one => one.version)).toEqual([...read.map(one => one.version)].sort((a, b) => a - b))
    expect(read.map(one => one.table.columns.length)).toEqual(records.map(one => one.table.columns.length))
  })

  it('keeps nasty values and big ones, and every kind of change', async () => {
    const log = await open()
    const writer = await log.writer(source(), 0)
    const texts = [...NASTY_TEXTS, '","after":{"id":2}', '}],{', '\\', 'x'.repeat(5_000_000)]
    const rows = texts.map(text => JSON.stringify({ id: 9007199254740993n.toString(), name: text }))
    const records = rows.flatMap((row, id) => [
      change(id, { op: 'r', after: row }),
      change(id, { op: 'c', after: row }),
      change(id, { op: 'u', before: row, after: row }),
      change(id, { op: 'd', before: row, after: null }),
    ])
    await writer.write({ records, offset: 1 })
    const read = await all(log)
    expect(read).toHaveLength(records.length)
    // Not by toEqual: it would print megabytes.
    for (const [i, { op, key, before, after }] of records.entries()) {
      const found = read[i]!
      expect([found.op, found.key], `change ${i}`).toEqual([op, key])
      expect(found.before === before && found.after === after, `values of change ${i}`).toBe(true)
    }
  })
}

function owning({ open }: Opened<ChangeLog>): void {
  it('fences an older writer, also one whose lease ran out; what it wrote is not there (P2, L1)', async () => {
    const log = await open()
    const old = await log.writer(source(), 0)
    await old.write({ records: [change(1)], offset: 1 })
    const young = await log.writer(source({ epoch: 5 }), 0)
    expect(await young.position?.()).toBe(1)
    await expect(old.write({ records: [change(2)], offset: 2 })).rejects.toThrow(Fenced)
    await young.write({ records: [change(3)], offset: 3 })
    expect(keysOf(await all(log))).toEqual(['{"id":1}', '{"id":3}'])
    const refused = await log.writer(source({ epoch: 5 }), 0).catch(error => error as Fenced)
    expect(refused).toBeInstanceOf(Fenced)
    await expect(log.writer(source({ epoch: 9, deadlineMs: () => 0 }), 0)).rejects.toThrow(Fenced)
  })

  it('two writers that write at once: each batch is in the log wholly, and the older one ends fenced (V1, P2)', async () => {
    const log = await open()
    const old = await log.writer(source(), 0)
    let written = 0
    const writing = (async () => {
      for (let i = 0; i < 200; i++) {
        await old.write({ records: changes(i * 3, i * 3 + 3), offset: i + 1 })
        written = i + 1
      }
    })().catch(error => error as Error)
    await new Promise(resolve => setTimeout(resolve, 20))
    const young = await log.writer(source({ epoch: 2 }), 0)
    const taken = (await young.position?.()) as number | null
    await young.write({ records: [change(1_000_000)], offset: 1_000 })
    const ended = await writing
    if (ended instanceof Error) expect(ended).toBeInstanceOf(Fenced)
    expect(taken ?? 0, 'whatever was acknowledged was taken over').toBeGreaterThanOrEqual(
      ended instanceof Error ? written : 200,
    )
    const keys = keysOf(await all(log))
    expect(keys).toEqual([...changes(0, (taken ?? 0) * 3), change(1_000_000)].map(one => one.key))
  })

  it('keeps tasks apart: another one has a position and numbers of its own', async () => {
    const log = await open()
    const one = await log.writer(source(), 0)
    await one.write({ records: [change(1)], offset: 'one' })
    const other = await log.writer(source({ task: 'kit/other' }), 0)
    expect(await other.position?.()).toBeNull()
    await one.write({ records: [change(2)], offset: 'two' })
  })
}

function reading({ open, topic }: Opened<ChangeLog>): void {
  it('brings the same records behind every offset it handed out, also in the middle of a batch', async () => {
    const log = await open()
    const writer = await log.writer(source(), 0)
    await writer.write({ records: changes(0, 20), offset: 1 })
    await writer.write({ records: changes(20, 23), offset: 2 })
    const found = await batches(log, 0, null, 1)
    expect(found.every(batch => batch.records.length <= 1)).toBe(true)
    const keys = keysOf(found.flatMap(batch => batch.records))
    expect(keys).toHaveLength(23)
    let passed = 0
    for (const { records, offset } of found) {
      passed += records.length
      const from = JSON.parse(JSON.stringify(offset)) as LogOffset
      expect(keysOf(await all(log, 0, from)), `behind record ${passed}`).toEqual(keys.slice(passed))
    }
  })

  it('refuses positions that are none of its own; no reader ever jumps (V5)', async () => {
    const log = await open()
    const writer = await log.writer(source(), 0)
    await writer.write({ records: changes(1, 3), offset: 1 })
    const end = (await log.ends())[0]!.end
    expect(keysOf(await all(log, 0, { log: log.id, next: { [topic()]: 1 } }))).toEqual(['{"id":2}'])
    expect(await all(log, 0, { log: log.id, next: { [topic()]: end } }), 'the end is a position').toEqual([])
    for (const from of [
      { log: 'another', next: {} },
      { log: log.id, next: { [topic()]: end + 10 } },
      { log: log.id, next: { nothing: 1 } },
    ])
      await expect(all(log, 0, from), JSON.stringify(from)).rejects.toMatchObject({ kind: 'offset_lost' })
  })

  it('wakes readers that wait, each at its own pace, and ends them by their signal', async () => {
    const log = await open()
    const writer = await log.writer(source(), 0)
    const stop = new AbortController()
    const follow = async (consumer: string, pauseMs: number): Promise<string[]> => {
      const keys: string[] = []
      await using reader = await log.reader({ consumer, partition: 0, from: null, signal: stop.signal })
      for await (const { records, offset } of reader) {
        keys.push(...keysOf(records))
        await new Promise(resolve => setTimeout(resolve, pauseMs))
        await reader.commit?.(offset)
        if (keys.length === 60) break
      }
      return keys
    }
    const idle = follow('kit/idle/0', 0)
    const readers = [idle, follow('kit/fast/0', 0), follow('kit/slow/0', 20)]
    for (let i = 0; i < 20; i++) await writer.write({ records: changes(i * 3, i * 3 + 3), offset: i })
    for (const keys of await Promise.all(readers)) expect(keys).toEqual(keysOf(await all(log)))
    const waits = follow('kit/waits/0', 0)
    await new Promise(resolve => setTimeout(resolve, 50))
    const end = (await log.ends())[0]!.end
    await using waiting = await log.reader({
      consumer: 'kit/waits/1',
      partition: 0,
      from: { log: log.id, next: { [topic()]: end } } as unknown as Offset,
      signal: stop.signal,
    })
    const next = waiting[Symbol.asyncIterator]().next()
    stop.abort()
    expect((await next).done).toBe(true)
    await waits
  })
}
