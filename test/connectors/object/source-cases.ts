/**
 * What every object source does, on a place that a test can write to: kit, formats, order, what is new, what was written anew, what cannot
 * be read. Files of CSV and Parquet are made by DuckDB or by hand, never by our own code.
 */
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { Batch, Offset } from '../../../core/connector.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { sourceConformance } from '../../conform/source.ts'
import { idsOf, linesFrom, noting, type ObjectPlace, openSource, readAll } from './source-place.ts'

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)
const typesOf = ({ table }: ChangeRecord) =>
  Object.fromEntries(table.columns.map(({ name, type }) => [name, type]))
const typesAt = (records: readonly ChangeRecord[], at: number) => typesOf(records.at(at)!)

export function objectSourceCases(open: () => Promise<ObjectPlace>): void {
  const using = async (work: (place: ObjectPlace) => Promise<void>) => {
    await using place = await open()
    await work(place)
  }

  for (const order of ['name', 'modified'] as const)
    sourceConformance({
      name: `objects by ${order}`,
      async setUp() {
        const place = await open()
        await place.write('orders/a.jsonl', linesFrom(0, 15))
        await place.write('orders/b.jsonl.gz', gzipSync(linesFrom(15, 30)))
        await place.write(
          'items/a.csv',
          `id,name\n${range(30, 40)
            .map(id => `${id},"a\nb ${id}"\n`)
            .join('')}`,
        )
        await place.write('items/b.jsonl', '')
        return {
          open: (from, context) => openSource(place, { order, batch_rows: 4 }, from, context),
          async change() {
            // Behind all in both orders, so that they come behind it again: times of some stores are whole seconds.
            await new Promise(resolve => setTimeout(resolve, 1_100))
            await place.write(
              'orders/b2.csv',
              `id,name\n${range(40, 45)
                .map(id => `${id},x\n`)
                .join('')}`,
            )
            await place.write('orders/c.jsonl', linesFrom(45, 60))
          },
          [Symbol.asyncDispose]: () => place[Symbol.asyncDispose](),
        }
      },
      isFixed: () => true,
      isResumable: () => true,
      quietMs: 1_500,
      resumes: 5,
    })

  it('resumes behind every single row of an object', () =>
    using(async place => {
      await place.write('a.jsonl', `${linesFrom(0, 3)}\n${linesFrom(3, 6)}`)
      await place.write('b.jsonl.gz', gzipSync(linesFrom(6, 12)))
      await place.write('c.csv', `id,t\r\n12,"x\r\ny"\r\n13,\r\n14,""\r\n15,z`)
      const whole = await readAll(place, { batch_rows: 1 })
      expect(idsOf(whole).map(Number)).toEqual(range(0, 16))
      for (const [i, offset] of whole.offsets.slice(0, 16).entries()) {
        const rest = await readAll(place, { batch_rows: 3 }, offset)
        expect(
          rest.records.map(one => one.after),
          `behind row ${i}`,
        ).toEqual(whole.records.slice(i + 1).map(one => one.after))
      }
    }))

  it('makes a table of each first folder, and a key of the place', () =>
    using(async place => {
      await place.write('orders/2026/a.jsonl', '{"id":1}\n\n{ "id" : 2 }\n')
      const { records } = await readAll(place)
      expect(records.map(({ op, table, key, after }) => [op, table.name, table.key, key, after])).toEqual([
        [
          ...['c', 'orders', ['_object', '_line']],
          ...[
            '{"_object":"orders/2026/a.jsonl","_line":1}',
            '{"_object":"orders/2026/a.jsonl","_line":1,"id":1}',
          ],
        ],
        [
          ...['c', 'orders', ['_object', '_line']],
          ...[
            '{"_object":"orders/2026/a.jsonl","_line":3}',
            '{"_object":"orders/2026/a.jsonl","_line":3,"id":2}',
          ],
        ],
      ])
      expect(records[0]!.table).toBe(records[1]!.table)
      expect(records[0]!.table.schema).toBe(place.source.name)
    }))

  it('takes key, table and types from its options', () =>
    using(async place => {
      const row = { id: '7', price: 12.5, at: '2026-01-31 10:00:00.120+02:00', tags: [1] }
      await place.write('a.jsonl', `${JSON.stringify(row)}\n`)
      const { records } = await readAll(place, {
        table: 'orders',
        key: ['id'],
        columns: { id: 'int8', price: 'numeric', at: 'timestamptz' },
      })
      expect(records[0]).toMatchObject({
        op: 'u',
        key: '{"id":7}',
        after: '{"id":7,"price":"12.5","at":"2026-01-31T08:00:00.12Z","tags":[1]}',
      })
      expect(records[0]!.table).toMatchObject({ name: 'orders', key: ['id'] })
      expect(typesAt(records, 0)).toEqual({ id: 'int8', price: 'numeric', at: 'timestamptz', tags: 'jsonb' })
    }))

  it('keeps the type of a column over nulls, and widens it', () =>
    using(async place => {
      const values = ['1', 'null', '1.5', '2', '9007199254740993', '"x"', 'null']
      await place.write('a.jsonl', values.map(value => `{"v":${value}}\n`).join(''))
      const { records } = await readAll(place)
      const types = records.map(one => typesOf(one).v)
      expect(types).toEqual(['int8', 'int8', 'float8', 'float8', 'float8', 'text', 'text'])
      expect(records[4]!.after).toContain('"v":9007199254740993')
    }))

  it('reads CSV: nothing is null, "" the empty text; quotes, delimiters, no header', () =>
    using(async place => {
      await place.write('a.csv', '\ufeffid;t\n1;"a;""b"""\n2;\n\n3;""\n')
      const one = await readAll(place, { delimiter: ';', key: ['id'], columns: { id: 'int4' } })
      expect(one.records.map(record => record.after)).toEqual([
        '{"id":1,"t":"a;\\"b\\""}',
        '{"id":2,"t":null}',
        '{"id":3,"t":""}',
      ])
      const bare = await readAll(place, { delimiter: ';', header: false, pattern: 'a.*', key: ['column1'] })
      expect(bare.records.map(record => record.key)).toEqual(
        ['id', '1', '2', '3'].map(id => `{"column1":"${id}"}`),
      )
    }))

  describe('what is new', () => {
    it('takes objects that come, once each, and says when all that stood there was read', () =>
      using(async place => {
        await place.write('t/1.jsonl', linesFrom(0, 5))
        const read = await readAll(place, {}, null, {
          onLevel: () => place.write('t/2.jsonl', linesFrom(5, 10)),
          until: records => records.length >= 10,
        })
        expect(idsOf(read)).toEqual(range(0, 10))
        const again = await readAll(place, {}, read.offset)
        expect(again.records).toEqual([])
      }))

    it('by name: rises within each folder, and warns of what comes below', () =>
      using(async place => {
        await place.write('t/p=1/2.jsonl', linesFrom(0, 2))
        const { log, warnings } = noting()
        const onLevel = async () => {
          await new Promise(resolve => setTimeout(resolve, 1_100)) // times of some stores are whole seconds
          await place.write('t/p=0/1.jsonl', linesFrom(2, 4)) // another folder
          await place.write('t/p=1/1.jsonl', linesFrom(9, 10))
          await place.write('t/p=1/3.jsonl', linesFrom(4, 6))
        }
        const isDone = (records: readonly ChangeRecord[]) => records.length >= 6
        const read = await readAll(place, { follow_ms: 100 }, null, { onLevel, until: isDone, log })
        expect(idsOf(read).sort()).toEqual(range(0, 6))
        expect(warnings.join()).toContain('t/p=1/1.jsonl')
      }))

    it('by time: any name, and what was written anew is read again', () =>
      using(async place => {
        await place.write('t/b.jsonl', linesFrom(0, 2))
        const first = await readAll(place, { order: 'modified' })
        expect(idsOf(first)).toEqual([0, 1])
        await place.write('t/a.jsonl', linesFrom(2, 4))
        const second = await readAll(place, { order: 'modified' }, first.offset)
        expect(idsOf(second)).toEqual([2, 3])
        await place.write('t/b.jsonl', linesFrom(7, 9))
        const third = await readAll(place, { order: 'modified' }, second.offset)
        expect(idsOf(third)).toEqual([7, 8])
        expect((await readAll(place, { order: 'modified' }, third.offset)).records).toEqual([])
      }))

    it('by name: what was read and is written anew is left', () =>
      using(async place => {
        await place.write('a.jsonl', linesFrom(0, 2))
        const first = await readAll(place)
        await place.write('a.jsonl', linesFrom(5, 9))
        expect((await readAll(place, {}, first.offset)).records).toEqual([])
      }))

    it('waits until an object is old enough, and counts it as standing there', () =>
      using(async place => {
        await place.write('a.jsonl', linesFrom(0, 2))
        const read = await readAll(place, { settle_ms: 1_500 })
        expect(idsOf(read)).toEqual([0, 1])
      }))

    it('leaves out what is hidden, unfinished, of Millrace itself, or of another pattern', () =>
      using(async place => {
        for (const name of [
          ...['.a.jsonl', '_SUCCESS', '_millrace/x/0/1.jsonl', 'shop/_millrace/u/1.jsonl', 'b.jsonl.tmp'],
          ...['c.jsonl.part', '.d/a.jsonl', 'readme.txt', 'e.json'],
        ])
          await place.write(name, linesFrom(7, 8))
        await place.write('x/y/good.jsonl', linesFrom(0, 1))
        await place.write('x/log-1.txt', linesFrom(1, 2))
        expect(idsOf(await readAll(place))).toEqual([0])
        expect(idsOf(await readAll(place, { pattern: 'log-?.txt', format: 'jsonl' }))).toEqual([1])
        expect(idsOf(await readAll(place, { pattern: 'x/**/*.jsonl' }))).toEqual([0])
        const { error } = await readAll(place, { pattern: '*.txt' })
        expect(error).toMatchObject({ kind: 'config', message: expect.stringContaining('readme.txt') })
      }))

    it('refuses an offset of the other order', () =>
      using(async place => {
        await place.write('a.jsonl', linesFrom(0, 2))
        const { offset } = await readAll(place)
        const opened = openSource(place, { order: 'modified' }, offset, testContext())
        await expect(opened).rejects.toMatchObject({ kind: 'offset_lost' })
      }))
  })

  it('says that an object is done when its last row was the last of a batch, and so needs it no more', () =>
    using(async place => {
      await place.write('a.jsonl', linesFrom(0, 2))
      const stop = new AbortController()
      const reader = await openSource(place, { batch_rows: 4 }, null, testContext({ signal: stop.signal }))
      const timer = setTimeout(() => stop.abort(), 5_000)
      let rows = 0
      let offset: Offset = null
      for await (const batch of reader as AsyncIterable<Batch<ChangeRecord>>) {
        rows += batch.records.length
        offset = batch.offset
        if (batch.caughtUp) await place.write('b.jsonl', linesFrom(2, 10))
        if (rows === 10 && (offset as { open: unknown }).open === null) break
      }
      clearTimeout(timer)
      await reader[Symbol.asyncDispose]()
      expect(rows).toBe(10)
      await place.remove('b.jsonl') // as who moves away what was read
      expect(await readAll(place, {}, offset)).toMatchObject({ error: null, records: [] })
    }))

  describe('what was written anew while it was half read', () => {
    const half = async (place: ObjectPlace) => {
      await place.write('a.jsonl', linesFrom(0, 6))
      const { offsets } = await readAll(place, { batch_rows: 2 })
      return offsets[1]!
    }
    it('halts, and names it', () =>
      using(async place => {
        const offset = await half(place)
        await place.write('a.jsonl', linesFrom(10, 16))
        const { error } = await readAll(place, {}, offset)
        expect(error).toMatchObject({
          kind: 'offset_lost',
          message: expect.stringMatching(/a\.jsonl of .* was written anew, and was read up to line 4/),
          hint: expect.stringContaining('on_changed'),
        })
      }))
    it('is read again, if that is asked for; one that is gone is left', () =>
      using(async place => {
        const offset = await half(place)
        await place.write('a.jsonl', linesFrom(10, 16))
        expect(idsOf(await readAll(place, { on_changed: 'again' }, offset))).toEqual(range(10, 16))
        await place.remove('a.jsonl')
        expect((await readAll(place, {}, offset)).error).toMatchObject({
          message: expect.stringContaining('is gone'),
        })
        expect((await readAll(place, { on_changed: 'again' }, offset)).records).toEqual([])
      }))
  })

  describe('what cannot be read', () => {
    it.each([
      [
        'no JSON',
        'a.jsonl',
        '{"id":0}\n{"id":1}\n{"id":\n{"id":2}\n',
        /a\.jsonl of .*: line 3 is no JSON object/,
      ],
      ['a list for an object', 'a.jsonl', '{"id":0}\n{"id":1}\n[1]\n', /line 3 is no JSON object/],
      ['no UTF-8', 'a.jsonl', Buffer.from([0x7b, 0xff, 0x7d]), /not UTF-8/],
      ['too many values', 'a.csv', 'id\n0\n1\n2,3\n', /a\.csv of .*: line 4 has 2 values/],
      ['a broken quote', 'a.csv', 'id,t\n0,a\n1,b\n2,"x"y\n', /line 4 has more behind the closing quote/],
      ['a column twice', 'a.csv', 'id,id\n0,1\n', /column id twice/],
      ['no gzip', 'a.jsonl.gz', '{"id":0}', /no whole file of gzip/],
      ['no Parquet', 'a.parquet', 'PAR1 and nothing else of it PAR1', /cannot be read as Parquet/],
    ])('%s halts with the object and the line, behind the rows before it', (_, name, bytes, said) =>
      using(async place => {
        await place.write(name, bytes)
        const read = await readAll(place)
        expect(read.error).toMatchObject({ kind: 'config', message: expect.stringMatching(said) })
        expect(read.error!.hint).toBeTruthy()
        if (/line [34]/.test(read.error!.message)) expect(idsOf(read).map(Number)).toEqual([0, 1])
      }),
    )

    it('a cut gzip halts, and what it holds before is read', () =>
      using(async place => {
        const whole = gzipSync(linesFrom(0, 50_000))
        await place.write('a.jsonl.gz', whole.subarray(0, whole.length - 20))
        const read = await readAll(place)
        expect(read.error).toMatchObject({
          kind: 'config',
          message: expect.stringContaining('no whole file of gzip'),
        })
        expect(read.records.length).toBeGreaterThan(0)
      }))

    it('a value that is not of its declared type, and a row without its key', () =>
      using(async place => {
        await place.write('a.jsonl', '{"id":1,"n":"12x"}\n')
        expect((await readAll(place, { columns: { n: 'int4' } })).error).toMatchObject({
          kind: 'config',
          message: expect.stringContaining('line 1 holds in n "12x", which is no int4'),
        })
        expect((await readAll(place, { key: ['no'] })).error).toMatchObject({
          kind: 'config',
          message: expect.stringContaining('line 1 has no no'),
        })
      }))
  })

  it('plans its tables, and checks by listing', () =>
    using(async place => {
      await place.write('orders/a.jsonl', 'not read')
      await place.write('items/a.csv', 'not read')
      const { source } = place
      const config = source.config.parse({ ...place.place, columns: { n: 'int4' } }) as never
      await source.check(config, testContext())
      const { tables, upstream } = await source.plan(config, testContext())
      expect(upstream).toEqual([])
      expect(tables.map(({ table, rows }) => [table.schema, table.name, table.key, rows])).toEqual([
        [source.name, 'items', ['_object', '_line'], null],
        [source.name, 'orders', ['_object', '_line'], null],
      ])
      expect(tables[0]!.table.columns.map(column => column.type)).toEqual(['text', 'int8', 'int4'])
    }))
}
