/**
 * The kit every sink passes. A connector's test hands it a way to open writers on one target and a way to read what the target
 * holds, by the target's own means; the kit does the rest.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Context, Offset, Writer } from '../../core/connector.ts'
import { Fenced } from '../../core/errors.ts'
import type { LogRecord } from '../../core/record.ts'
import { testContext } from './context.ts'
import { batchOf, KIT_TOPIC, NASTY_TEXTS, recordOf } from './kit-table.ts'

export interface Held {
  readonly document: unknown
  readonly version: number
  readonly origin: string
}

export interface SinkTarget extends AsyncDisposable {
  open(context: Context): Promise<Writer>
  /** Rows of table `kit` by id, read by the target's own means. */
  rows(): Promise<ReadonlyMap<string, Held>>
}

export interface SinkKit {
  readonly name: string
  /** A new, empty target. */
  target(): Promise<SinkTarget>
  /** A record that the target refuses, if there is such a thing. */
  readonly bad?: (good: LogRecord) => LogRecord
  /** Texts that no column of the target can hold: they must be rejected, never altered. */
  readonly cannotHold?: (text: string) => boolean
}

const nameOf = (held: Held | undefined): unknown => (held?.document as { name?: unknown } | undefined)?.name

/** A target for each test of a kit, whose writers are closed after it; none may leave a handle open. */
function targets(kit: SinkKit) {
  let target: SinkTarget
  let writers: Writer[]
  let handles: number
  beforeEach(async () => {
    handles = process.getActiveResourcesInfo().length
    target = await kit.target()
    writers = []
  })
  afterEach(async () => {
    for (const writer of writers) await writer[Symbol.asyncDispose]()
    await target[Symbol.asyncDispose]()
    // A socket is gone when the other side has answered: a busy machine takes its time, and what is left open stays.
    for (let i = 0; i < 1_000 && process.getActiveResourcesInfo().length > handles + 1; i++)
      await new Promise(resolve => setTimeout(resolve, 5))
    expect(process.getActiveResourcesInfo().length, 'no handle is left open').toBeLessThanOrEqual(handles + 1)
  })
  return {
    target: () => target,
    async open(over: Partial<Context> = {}): Promise<Writer> {
      const writer = await target.open(testContext(over))
      writers.push(writer)
      return writer
    },
  }
}

/** Sinks that append, and keep their position with the data; `rows` are of the last record of each id. Flushed at each write. */
export function appendingSinkConformance(kit: SinkKit): void {
  describe(`${kit.name}: appending sink`, () => {
    const { target, open } = targets(kit)

    it('takes the same batch twice as once, and nothing older behind something newer', async () => {
      const writer = await open()
      const batch = batchOf([recordOf({ id: 1, version: 10 }), recordOf({ id: 2, version: 11 })])
      await writer.write(batch)
      await writer.write(batch)
      await writer.write(batchOf([recordOf({ id: 3, version: 9 })]))
      expect([...(await target().rows()).keys()]).toEqual(['1', '2'])
    })

    it('says what is durable: nothing before the first write, and its offset behind it', async () => {
      const writer = await open()
      if (!writer.durable) return // all that was written is
      expect(writer.durable()).toBeNull()
      const batch = batchOf([recordOf({ id: 1, version: 10 })])
      await writer.write(batch)
      expect(writer.durable()).toEqual(batch.offset)
    })

    leaseTests(open, target)
    badTests(kit, open, target)
    positionTests(open, target)
  })
}

/** Sinks that hand every change on, perhaps twice; `rows` are of the last record of each id that came. */
export function atLeastOnceSinkConformance(kit: SinkKit): void {
  describe(`${kit.name}: sink that delivers at least once`, () => {
    const { target, open } = targets(kit)

    it('hands on every record of a batch, in order', async () => {
      const writer = await open()
      const batch = [
        recordOf({ op: 'r', id: 1, version: 10 }),
        recordOf({ op: 'c', id: 2, version: 11 }),
        recordOf({ op: 'u', id: 1, name: 'b', version: 12 }),
      ]
      expect(await writer.write(batchOf(batch))).toEqual([])
      const rows = await target().rows()
      expect([...rows].map(([id, held]) => [id, nameOf(held), held.version]).sort()).toEqual([
        ['1', 'b', 12],
        ['2', 'a', 11],
      ])
    })

    it('takes deletes, sweeps and a batch without records', async () => {
      const writer = await open()
      const batch = [
        recordOf({ op: 'd', id: 1, version: 10 }),
        recordOf({ op: 'sweep', version: 11, below: 11 }),
        recordOf({ id: 2, version: 12 }),
      ]
      expect(await writer.write(batchOf(batch))).toEqual([])
      expect(await writer.write(batchOf([], 13))).toEqual([])
      expect((await target().rows()).get('2')?.version, 'and what comes behind them').toBe(12)
    })

    it('goes on in a new writer', async () => {
      await (await open()).write(batchOf([recordOf({ id: 1, version: 10 })]))
      await (await open({ epoch: 2 })).write(batchOf([recordOf({ id: 2, version: 11 })]))
      expect([...(await target().rows()).keys()].sort()).toEqual(['1', '2'])
    })

    leaseTests(open, target)
    badTests(kit, open, target)
  })
}

export function keyedSinkConformance(kit: SinkKit): void {
  describe(`${kit.name}: keyed sink`, () => {
    const { target, open } = targets(kit)
    const versions = async () =>
      Object.fromEntries([...(await target().rows())].map(([id, held]) => [id, held.version]))

    it('writes inserts, updates and deletes, the last of a key winning inside a batch', async () => {
      const writer = await open()
      const batch = [
        recordOf({ op: 'r', id: 1, version: 10 }),
        recordOf({ op: 'c', id: 2, version: 11 }),
        recordOf({ op: 'u', id: 1, name: 'b', version: 12 }),
        recordOf({ op: 'd', id: 2, version: 13 }),
        recordOf({ op: 'd', id: 3, version: 14 }),
        recordOf({ op: 'c', id: 3, name: 'again', version: 15 }),
      ]
      expect(await writer.write(batchOf(batch))).toEqual([])
      expect(await versions()).toEqual({ 1: 12, 3: 15 })
      const rows = await target().rows()
      expect(nameOf(rows.get('1'))).toBe('b')
      expect(rows.get('1')?.origin).toBe(`${KIT_TOPIC}/0`)
    })

    it('takes the same batch twice as once', async () => {
      const writer = await open()
      const batch = batchOf([recordOf({ id: 1, version: 10 }), recordOf({ op: 'd', id: 2, version: 11 })])
      await writer.write(batch)
      const before = await target().rows()
      await writer.write(batch)
      expect(await target().rows()).toEqual(before)
    })

    it('lets nothing older in behind something newer (V4)', async () => {
      const writer = await open()
      await writer.write(batchOf([recordOf({ id: 1, name: 'new', version: 20 })]))
      await writer.write(batchOf([recordOf({ id: 1, name: 'old', version: 10 })]))
      await writer.write(batchOf([recordOf({ op: 'd', id: 1, version: 15 })]))
      expect(nameOf((await target().rows()).get('1'))).toBe('new')
      expect(await versions()).toEqual({ 1: 20 })
    })

    it('sweeps rows of its own origin below the number, with that number (S1, S2)', async () => {
      const writer = await open()
      const other = await open({ task: 'test/sink/1' })
      await other.write(batchOf([recordOf({ id: 9, version: 5, partition: 1 })]))
      await writer.write(batchOf([recordOf({ id: 1, version: 10 }), recordOf({ id: 2, version: 30 })]))
      await writer.write(batchOf([recordOf({ op: 'sweep', version: 40, below: 20 })]))
      expect(await versions()).toEqual({ 2: 30, 9: 5 })
      // Had the sweep deleted with its own number 40, this row of a re-snapshot would be refused for ever.
      await writer.write(batchOf([recordOf({ id: 1, name: 'back', version: 25 })]))
      expect(await versions()).toEqual({ 1: 25, 2: 30, 9: 5 })
    })

    it('takes a sweep as a barrier inside a batch (S3)', async () => {
      const writer = await open()
      await writer.write(
        batchOf([
          recordOf({ id: 1, version: 5 }),
          recordOf({ id: 2, version: 6 }),
          recordOf({ op: 'sweep', version: 7, below: 7 }),
          recordOf({ id: 1, name: 'after', version: 8 }),
        ]),
      )
      expect(await versions()).toEqual({ 1: 8 })
    })

    it('leaves out an update whose columns are missing (H9)', async () => {
      const writer = await open()
      await writer.write(batchOf([recordOf({ id: 1, name: 'whole', version: 5 })]))
      const cut = {
        ...recordOf({ id: 1, row: '{"id":1}', version: 6 }),
        source: '{"connector":"kit","missing":["name"]}',
      }
      await writer.write(batchOf([cut]))
      // The insert that a key change brings can lack them as well: no document without them may be seen.
      await writer.write(
        batchOf([{ ...cut, op: 'c', key: '{"id":2}', after: '{"id":2}', version: 7, offset: 7 }]),
      )
      expect((await target().rows()).has('2')).toBe(false)
      expect(nameOf((await target().rows()).get('1'))).toBe('whole')
    })

    it('keeps nasty values', async () => {
      const writer = await open()
      const records = NASTY_TEXTS.map((name, i) => recordOf({ id: i + 1, name, version: i + 1 }))
      const isHeld = (name: string) => !kit.cannotHold?.(name)
      const rejected = await writer.write(batchOf(records))
      expect(rejected.map(one => one.record)).toEqual(records.filter((_, i) => !isHeld(NASTY_TEXTS[i]!)))
      if (rejected.length > 0)
        expect(await writer.write(batchOf(records.filter((_, i) => isHeld(NASTY_TEXTS[i]!))))).toEqual([])
      const rows = await target().rows()
      for (const [i, name] of NASTY_TEXTS.entries())
        expect(nameOf(rows.get(String(i + 1))), `value ${i}`).toBe(isHeld(name) ? name : undefined)
      const most = recordOf({
        row: '{"id":9223372036854775807,"name":null,"price":"NaN"}',
        version: 100,
      })
      await writer.write(batchOf([{ ...most, key: '{"id":9223372036854775807}' }]))
      expect((await target().rows()).has('9223372036854775807')).toBe(true)
    })

    it('keeps numeric columns as numbers with all digits, and says its highest version (V3)', async () => {
      const writer = await open({ pipeline: 'kit' }) // whose topics the records are of
      expect(await writer.highest?.()).toBe(0)
      await writer.write(
        batchOf([
          recordOf({ id: 1, row: '{"id":1,"name":"a","price":"12345678901234567890.10"}', version: 7 }),
        ]),
      )
      expect((await target().rows()).get('1')?.document).toMatchObject({
        price: Number('12345678901234567890.10'),
      })
      expect(await writer.highest?.()).toBe(7)
    })

    leaseTests(open, target)
    badTests(kit, open, target)
    positionTests(open, target)
  })
}

type Open = (over?: Partial<Context>) => Promise<Writer>

function leaseTests(open: Open, target: () => SinkTarget): void {
  it('writes nothing once its lease has run out (L1)', async () => {
    let deadline = Number.POSITIVE_INFINITY
    const writer = await open({ deadlineMs: () => deadline })
    deadline = 0
    await expect(writer.write(batchOf([recordOf({ version: 1 })]))).rejects.toThrow(Fenced)
    expect((await target().rows()).size).toBe(0)
  })
}

function badTests({ bad }: SinkKit, open: Open, target: () => SinkTarget): void {
  if (!bad) return
  it('names the one bad record among good ones, as it was read, and loses none of the good (P1)', async () => {
    const writer = await open()
    const records = [1, 2, 3, 4].map(id => recordOf({ id, version: id }))
    const broken = bad(recordOf({ id: 5, version: 5 }))
    const batch = batchOf([records[0]!, records[1]!, broken, records[2]!, records[3]!], 6)
    const rejected = await writer.write(batch)
    expect(rejected.map(one => one.record)).toEqual([broken])
    expect(rejected[0]!.record, 'the very object').toBe(broken)
    expect(rejected[0]!.error.kind).toBe('data')
    if (writer.position) {
      expect((await target().rows()).size, 'a position() writer wrote nothing').toBe(0)
      expect(await writer.write({ ...batch, records })).toEqual([])
    }
    expect([...(await target().rows()).keys()]).toEqual(['1', '2', '3', '4'])
  })
}

/** For writers that keep their position with the data. */
function positionTests(open: (over?: Partial<Context>) => Promise<Writer>, target: () => SinkTarget): void {
  it('keeps the position with the data: resumes after every batch', async () => {
    let expected: Offset | null = null
    for (let epoch = 1; epoch <= 5; epoch++) {
      const writer = await open({ epoch })
      if (!writer.position) return
      expect(await writer.position()).toEqual(expected)
      const batch = batchOf([recordOf({ id: epoch, version: epoch })])
      await writer.write(batch)
      expected = JSON.parse(JSON.stringify(batch.offset)) as Offset
    }
    const writer = await open({ epoch: 6 })
    await writer.write({ records: [], offset: { log: 'kit', next: { heartbeat: 1 } } })
    const last = await open({ epoch: 7 })
    expect(await last.position?.(), 'an empty batch moves the offset').toEqual({
      log: 'kit',
      next: { heartbeat: 1 },
    })
  })

  it('fences the older of two writers (P2)', async () => {
    const old = await open({ epoch: 1 })
    if (!old.position) return
    await old.position()
    await old.write(batchOf([recordOf({ id: 1, name: 'first', version: 1 })]))
    const young = await open({ epoch: 2 })
    expect(await young.position?.()).toEqual(batchOf([recordOf({ version: 1 })]).offset)
    await expect(old.write(batchOf([recordOf({ id: 2, version: 2 })]))).rejects.toThrow(Fenced)
    expect((await target().rows()).size, 'the fenced write left nothing').toBe(1)
    await young.write(batchOf([recordOf({ id: 3, version: 3 })]))
    expect((await target().rows()).size).toBe(2)
  })

  it('refuses to open with an epoch that is not newer, and tells which one it found (L1)', async () => {
    const young = await open({ epoch: 5 })
    if (!young.position) return
    const refused = await open({ epoch: 5 }).then(
      () => null,
      error => error as Fenced,
    )
    expect(refused).toBeInstanceOf(Fenced)
    expect(refused?.epoch).toBe(5)
  })

  it('compares-and-sets the position on the previous one, not only the epoch (P2)', async () => {
    const one = await open({ epoch: 1 })
    if (!one.position) return
    const two = await open({ epoch: 2, task: 'test/sink/0' })
    await two.write(batchOf([recordOf({ id: 1, version: 1 })]))
    await expect(one.write(batchOf([recordOf({ id: 2, version: 2 })]))).rejects.toThrow(Fenced)
    expect((await target().rows()).size).toBe(1)
  })
}
