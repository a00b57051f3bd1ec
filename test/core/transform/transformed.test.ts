/** Steps before a writer: what it is given, and that every rejection is of the record as it was read. */
import { describe, expect, it } from 'vitest'
import type { Batch, Offset, Rejected, Writer } from '../../../core/connector.ts'
import { ConnectorError, Fenced } from '../../../core/errors.ts'
import { pump } from '../../../core/pump.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { type Step, transformed, transforms } from '../../../core/transform/transform.ts'

const products: Table = {
  schema: 'shop',
  name: 'products',
  key: ['id'],
  columns: [
    { name: 'id', type: 'int8' },
    { name: 'email', type: 'text' },
  ],
}
const other: Table = { ...products, name: 'other', columns: [{ name: 'id', type: 'int8' }] }

const record = (
  offset: number,
  of: Table = products,
  after: string | null = `{"id":${offset},"email":"a${offset}"}`,
): LogRecord => ({
  op: 'c',
  table: of,
  key: `{"id":${offset}}`,
  before: null,
  after,
  source: '{}',
  commitMs: 1,
  readMs: 2,
  below: null,
  topic: 'p.shop.products',
  partition: 3,
  offset,
  version: 1000 + offset,
})

const mask = (): Step => {
  const { schema, make } = transforms.get('mask')!
  return make(schema.parse({ fields: ['email'] }) as never)
}

/** Throws for one offset. */
const picky = (bad: number, error: unknown): Step => ({
  name: 'picky',
  shape: table => table,
  apply: one => {
    if ((one as unknown as LogRecord).offset === bad) throw error
    return one
  },
  unmatched: () => [],
})

interface Kept {
  readonly writer: Writer
  readonly batches: Batch[]
  /** What lies in the sink. */
  readonly rows: LogRecord[]
}

function sink({
  refuses = [],
  hasPosition = false,
}: {
  refuses?: readonly number[]
  hasPosition?: boolean
} = {}): Kept {
  const batches: Batch[] = []
  const rows: LogRecord[] = []
  let position: Offset | null = null
  const writer: Writer = {
    async write(batch) {
      batches.push(batch)
      const bad = batch.records.filter(one => refuses.includes(one.offset))
      if (hasPosition && bad.length > 0) return bad.map(refused)
      rows.push(...batch.records.filter(one => !bad.includes(one)))
      position = batch.offset
      return bad.map(refused)
    },
    async [Symbol.asyncDispose]() {},
  }
  if (hasPosition) {
    writer.position = async () => position
    writer.highest = async () => 17
  }
  return { writer, batches, rows }
}
const refused = (one: LogRecord): Rejected => ({
  record: one,
  stage: 'sink',
  error: new ConnectorError('data', 'no'),
})

describe('transformed', () => {
  it('hands over what the steps made, with place and version', async () => {
    const { writer, rows } = sink()
    await transformed(writer, [mask()]).write({ records: [record(1)], offset: 1 })
    expect(rows).toEqual([{ ...record(1), table: expect.anything(), after: '{"id":1,"email":"***"}' }])
    expect(rows[0]!.table.columns.map(one => one.name)).toEqual(['id', 'email'])
  })

  it('hands over the batch itself when no step touches it, caughtUp and all', async () => {
    const { writer, batches } = sink()
    const sweep: LogRecord = {
      ...record(2),
      op: 'sweep',
      key: '{"sweep":"shop.products"}',
      after: null,
      below: 5,
    }
    const untouched: Batch = { records: [record(1, other, '{"id":1}'), sweep], offset: 1, caughtUp: true }
    await transformed(writer, [mask(), mask()]).write(untouched)
    expect(batches[0]).toBe(untouched)
    await transformed(writer, [mask()]).write({ records: [record(1), sweep], offset: 2, caughtUp: true })
    expect(batches[1]).toMatchObject({ offset: 2, caughtUp: true })
    expect(batches[1]!.records[1]).toBe(sweep)
  })

  it('does not show sweeps to a step', async () => {
    const { writer, rows } = sink()
    const sweep: LogRecord = { ...record(2), op: 'sweep', after: null, below: 5 }
    expect(
      await transformed(writer, [picky(2, new Error('seen'))]).write({ records: [sweep], offset: 1 }),
    ).toEqual([])
    expect(rows).toEqual([sweep])
  })

  it('makes a throw a rejection of the record as it was read, after the steps before it', async () => {
    const { writer, rows } = sink()
    const read = [record(1), record(2), record(3)]
    const error = new ConnectorError('data', 'not this one', { hint: 'why' })
    const rejected = await transformed(writer, [mask(), picky(2, error)]).write({ records: read, offset: 3 })
    expect(rejected).toHaveLength(1)
    expect(rejected[0]).toEqual({ record: read[1], stage: 'picky', error })
    expect(rejected[0]!.record).toBe(read[1])
    expect(rows.map(one => one.offset)).toEqual([1, 3])
  })

  it('tells nothing of the row when a step throws anything else', async () => {
    const { writer } = sink()
    const broken = record(1, products, 'secret, no JSON')
    const [rejected] = await transformed(writer, [mask()]).write({ records: [broken], offset: 1 })
    expect(rejected!.error).toMatchObject({ kind: 'data', message: expect.not.stringContaining('secret') })
  })

  it('lets Fenced through', async () => {
    const fenced = transformed(sink().writer, [picky(1, new Fenced('newer'))])
    await expect(fenced.write({ records: [record(1)], offset: 1 })).rejects.toThrow(Fenced)
  })

  it('maps what the writer refuses back to what was read', async () => {
    const { writer, rows } = sink({ refuses: [1, 3] })
    const read = [record(1), record(2), record(3, other, '{"id":3}')]
    const rejected = await transformed(writer, [mask()]).write({ records: read, offset: 3 })
    expect(rejected.map(one => one.stage)).toEqual(['sink', 'sink'])
    expect(rejected.map(one => one.record)).toEqual([read[0], read[2]])
    expect(rejected[0]!.record).toBe(read[0])
    expect(rows.map(one => one.offset)).toEqual([2])
  })

  it('returns both kinds of rejections when the writer keeps no position', async () => {
    const { writer, rows } = sink({ refuses: [1] })
    const steps = [mask(), picky(2, new ConnectorError('data', 'x'))]
    const rejected = await transformed(writer, steps).write({
      records: [record(1), record(2), record(3)],
      offset: 3,
    })
    expect(rejected.map(one => [one.stage, one.record.offset, one.record.after])).toEqual([
      ['picky', 2, '{"id":2,"email":"a2"}'],
      ['sink', 1, '{"id":1,"email":"a1"}'],
    ])
    expect(rows.map(one => one.offset)).toEqual([3])
  })

  it('writes nothing while one is rejected when the writer keeps its position', async () => {
    const { writer, rows, batches } = sink({ hasPosition: true })
    const both = transformed(writer, [mask(), picky(2, new ConnectorError('data', 'x'))])
    const read = [record(1), record(2), record(3)]
    expect((await both.write({ records: read, offset: 3 })).map(one => one.record)).toEqual([read[1]])
    expect(batches).toEqual([])
    expect(await both.write({ records: [read[0]!, read[2]!], offset: 3 })).toEqual([])
    expect(rows.map(one => one.offset)).toEqual([1, 3])
    expect(await both.position!()).toBe(3)
    expect(await both.highest!()).toBe(17)
  })

  it('has a position exactly when the writer has one', () => {
    expect(transformed(sink().writer, [mask()])).not.toHaveProperty('position')
    expect(transformed(sink().writer, [mask()])).not.toHaveProperty('highest')
  })

  it.each([true, false])('loses nothing through the pump (position: %s)', async hasPosition => {
    const { writer, rows } = sink({ refuses: [2, 5], hasPosition })
    const dead: LogRecord[] = []
    const read = Array.from({ length: 8 }, (_, i) => record(i + 1))
    async function* batches() {
      yield { records: read.slice(0, 4), offset: 4 }
      yield { records: read.slice(4), offset: 8 }
    }
    const reader = Object.assign(batches(), { async [Symbol.asyncDispose]() {} })
    const steps = [picky(3, new ConnectorError('data', 'x')), mask(), picky(6, new TypeError('y'))]
    const progress = { load: async () => null, save: async () => {} }
    const letters = {
      add: async (rejected: readonly Rejected[]) => void dead.push(...rejected.map(one => one.record)),
    }
    await pump(reader, transformed(writer, steps), progress, letters)
    expect(dead.map(one => one.offset).sort()).toEqual([2, 3, 5, 6])
    for (const one of dead) expect(read).toContain(one)
    expect(rows.map(one => [one.offset, one.after])).toEqual(
      [1, 4, 7, 8].map(n => [n, `{"id":${n},"email":"***"}`]),
    )
  })
})
