/** The PostgreSQL sink: how rows are written, in batches of any size, to keys of any names; appended, and forgotten. */
import { expect, it } from 'vitest'
import { postgresSink } from '../../../connectors/postgres/sink.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { write } from '../writing.ts'
import type { Kept } from './kept.ts'

export function rowCases({ server, open, rows }: Kept): void {
  it('a large batch of new rows goes by COPY, and by a statement where one is there already; the newer stays', async () => {
    const writer = await open()
    const many = (from: number, name: string, version: number) =>
      Array.from({ length: 3_000 }, (_, i) =>
        recordOf({ op: 'r', id: from + i, name: `${name}\t${i}\\`, version: version + i }),
      )
    await write(writer, ...many(0, 'a', 10_000))
    await write(writer, ...many(2_000, 'b', 1_000)) // 1,000 of them stand there, newer
    const held = await rows()
    expect(held.size).toBe(5_000)
    expect(held.get('2500')).toMatchObject({ version: 12_500, document: { name: 'a\t2500\\' } })
    expect(held.get('4999')).toMatchObject({ version: 3_999, document: { name: 'b\t2999\\' } })
    await write(writer, ...many(5_000, 'c', 20_000), ...many(8_000, 'd', 30_000))
    expect((await rows()).size).toBe(11_000)
  })

  it('a bad value among thousands of new rows is found, and nothing of the batch is written (P1)', async () => {
    const writer = await open()
    const records = Array.from({ length: 2_000 }, (_, i) => recordOf({ op: 'r', id: i, version: i + 1 }))
    const bad = [100, 1_500].map(i => {
      const broken: LogRecord = { ...records[i]!, after: `{"id":${i},"name":"x","price":"much"}` }
      records[i] = broken
      return broken
    })
    const half = { ...records[700]!, after: '{"id":700,"name":"\\ud83d","price":"1"}' }
    records[700] = half
    const rejected = await writer.write(batchOf(records))
    expect(rejected.map(one => one.record)).toEqual([bad[0], half, bad[1]])
    expect(rejected[0]!.error.message).toContain('much')
    expect(rejected[1]!.error.message).toContain('name holds half of a surrogate pair')
    expect((await rows()).size).toBe(0)
    await write(writer, ...records.filter(one => one !== half && !bad.includes(one)))
    expect((await rows()).size).toBe(1_997)
  })

  it('keys of several columns, with names that need quotes', async () => {
    const table: Table = {
      schema: 'test',
      name: 'Odd "Name"',
      key: ['z z', 'a"b'],
      columns: [
        { name: 'a"b', type: 'text' },
        { name: 'v', type: 'numeric' },
        { name: 'z z', type: 'int4' },
      ],
    }
    const of = (z: number, a: string, v: string | null, version: number): LogRecord => ({
      ...recordOf({ version, op: v === null ? 'd' : 'u' }),
      table,
      key: JSON.stringify({ 'z z': z, 'a"b': a }),
      after: v === null ? null : JSON.stringify({ 'a"b': a, v, 'z z': z }),
    })
    const writer = await open()
    await write(writer, of(1, 'a,"b"', '1.0', 1), of(1, '{c}', '2', 2), of(2, 'a,"b"', '3', 3))
    await write(writer, of(1, '{c}', null, 4), of(2, 'a,"b"', '4.00', 5))
    const found = await server().sql('SELECT "z z" AS z, "a""b" AS a, v FROM kept."Odd ""Name""" ORDER BY 1')
    expect(found).toEqual([
      { z: 1, a: 'a,"b"', v: '1.0' },
      { z: 2, a: 'a,"b"', v: '4.00' },
    ])
  })

  it('append: each change once, with what is known of it; a sweep is one of them', async () => {
    const writer = await open({ mode: 'append' })
    const batch = batchOf([
      recordOf({ id: 1, version: 1 }),
      { ...recordOf({ op: 'd', id: 1, version: 2 }), before: '{"id":1,"name":"a","price":"1.50"}' },
      recordOf({ op: 'd', id: 2, version: 3 }),
      recordOf({ op: 'sweep', version: 4, below: 4 }),
    ])
    expect(await writer.write(batch)).toEqual([])
    const found = await server().sql(
      `SELECT id, name, price, millrace_op AS op, millrace_version AS version, millrace_origin AS origin,
       (extract(epoch FROM millrace_committed_at) * 1000)::int8 AS ms FROM kept.kit ORDER BY millrace_version`,
    )
    const beside = (op: string, version: string) => ({
      ...{ op, version, origin: 'kit.test.kit/0', ms: '1700000000000' },
    })
    expect(found).toEqual([
      { id: '1', name: 'a', price: '1.50', ...beside('u', '1') },
      { id: '1', name: 'a', price: '1.50', ...beside('d', '2') },
      { id: '2', name: null, price: null, ...beside('d', '3') },
      { id: null, name: null, price: null, ...beside('sweep', '4') },
    ])
    expect(writer.highest).toBeUndefined()
    await write(writer, recordOf({ id: 1, version: 5 }))
    const next = await open({ mode: 'append' }, { epoch: 2 })
    expect(await next.position!()).toEqual({ log: 'kit', next: { 'kit.test.kit': 6 } })
  })

  it('forget takes the position and leaves the rows', async () => {
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
    const options = postgresSink.config.parse({ url: server().url, schema: 'kept' }) as never
    await postgresSink.forget!(options, ['test/sink/0'], testContext())
    expect(await server().sql('SELECT * FROM kept.millrace_progress')).toEqual([])
    expect((await rows()).size).toBe(1)
    await postgresSink.forget!(
      { ...(options as object), schema: 'nowhere' } as never,
      ['test/sink/0'],
      testContext(),
    )
  })
}
