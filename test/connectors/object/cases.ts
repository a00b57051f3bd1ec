/** What object sinks do with names, folders, rotation, shapes, deletes and formats: cases that hold for every store. */
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Batch, Clock, Context, Writer } from '../../../core/connector.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, KIT_TABLE, recordOf } from '../../conform/kit-table.ts'
import { linesOf, type ObjectTarget } from './objects.ts'

const START_MS = Date.UTC(2026, 2, 28, 23, 30)
const MINUTE_MS = 60_000

interface Place {
  readonly target: ObjectTarget
  readonly clock: { now: number }
  readonly context: Context
  open(options?: object, over?: Partial<Context>): Promise<Writer>
  /** Names, in order. */
  names(): Promise<string[]>
  /** Ids of each object, in the order of the names. */
  ids(): Promise<(number | undefined)[][]>
}

const handClock = (at: { now: number }): Clock => ({
  nowUs: () => (START_MS + at.now) * 1_000,
  monotonicMs: () => at.now,
  sleep: async () => {},
})

async function within(target: ObjectTarget, run: (place: Place) => Promise<void>): Promise<void> {
  await using _ = target
  const writers: Writer[] = []
  const clock = { now: 0 }
  const context = testContext({ clock: handClock(clock) })
  const place: Place = {
    target,
    clock,
    context,
    async open(options = {}, over = {}) {
      const writer = await target.open(options, { ...context, ...over })
      writers.push(writer)
      return writer
    },
    names: async () => [...(await target.objects()).keys()],
    ids: async () => [...(await target.objects())].map(one => linesOf(new Map([one])).map(({ id }) => id)),
  }
  try {
    await run(place)
  } finally {
    for (const writer of writers) await writer[Symbol.asyncDispose]()
  }
}

/** Offsets from `first` on; a record a minute. */
const some = (count: number, first = 0, more: (i: number) => Partial<LogRecord> = () => ({})): LogRecord[] =>
  Array.from({ length: count }, (_, i) => {
    const at = first + i
    const record = { ...recordOf({ id: at, name: `n${at % 2}`, version: at + 1 }), offset: at }
    return { ...record, commitMs: START_MS + at * MINUTE_MS, ...more(at) }
  })

const named = (count: number, nameOf: (i: number) => string | null): LogRecord[] =>
  some(count, 0, i => ({ after: `{"id":${i},"name":${JSON.stringify(nameOf(i))},"price":"1.50"}` }))

const silence = (next: number): Batch => batchOf([], next)
const NOW = { rotate: { idle_ms: 0 } }
const FILE = (offset: number, extension = 'jsonl') =>
  `kit.test.kit-0-${String(offset).padStart(20, '0')}.${extension}`
const WIDER: Table = { ...KIT_TABLE, columns: [...KIT_TABLE.columns, { name: 'more', type: 'text' }] }

export function objectCases(makeTarget: () => ObjectTarget): void {
  const on = (run: (place: Place) => Promise<void>) => () => within(makeTarget(), run)
  describe('names', () => names(on))
  describe('folders', () => folders(on))
  describe('rotation', () => rotation(on))
  describe('records', () => records(on))
  describe('owners', () => owners(on))
}

type On = (run: (place: Place) => Promise<void>) => () => Promise<void>

function names(on: On): void {
  it(
    'is of topic, partition and first offset with twenty digits, in folders of topic and partition',
    on(async ({ open, names }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(3, 7)))
      expect(await names()).toEqual([`kit.test.kit/partition=0/${FILE(7)}`])
    }),
  )

  it(
    'takes topic, schema and table from the path, and escapes what is more than a name',
    on(async ({ open, names }) => {
      const table = { ...KIT_TABLE, schema: 'a/b', name: 'ö x..' }
      const writer = await open({ ...NOW, path: 'raw/${schema}/${table}/t=${topic}/${partition}' })
      await writer.write(batchOf(some(1, 0, () => ({ table }))))
      expect(await names()).toEqual([`raw/a%2Fb/%C3%B6 x../t=kit.test.kit/partition=0/${FILE(0)}`])
    }),
  )

  it(
    'may leave the folders out',
    on(async ({ open, names }) => {
      const writer = await open({ ...NOW, path: 'all' })
      await writer.write(batchOf(some(1)))
      expect(await names()).toEqual([`all/${FILE(0)}`])
    }),
  )

  it(
    'ends by format and compression',
    on(async ({ open, names }) => {
      let offset = 0
      for (const [format, compression] of [
        ['jsonl', 'gzip'],
        ['csv', 'none'],
        ['csv', 'gzip'],
        ['avro', 'gzip'],
        ['parquet', 'snappy'],
      ]) {
        const writer = await open({ ...NOW, format, compression, path: 'x' }, { epoch: offset + 1 })
        await writer.write(batchOf(some(1, offset)))
        offset++
      }
      expect(await names()).toEqual(
        ['jsonl.gz', 'csv', 'csv.gz', 'avro', 'parquet'].map((extension, i) => `x/${FILE(i, extension)}`),
      )
    }),
  )

  it(
    'is of its own for each partition of the log',
    on(async ({ open, names }) => {
      for (const partition of [0, 1]) {
        const writer = await open({ ...NOW, path: 'x' }, { task: `test/sink/${partition}` })
        await writer.write(batchOf(some(1, 0, () => ({ partition }))))
      }
      expect(await names()).toEqual([`x/${FILE(0)}`, `x/${FILE(0).replace('kit-0', 'kit-1')}`])
    }),
  )

  it(
    'keeps manifests apart, for each task, two of them',
    on(async ({ open, target }) => {
      for (const task of ['test/sink/0', 'test/sink/1']) {
        const writer = await open(NOW, { task })
        for (let i = 0; i < 4; i++)
          await writer.write(batchOf(some(1, i, () => ({ partition: Number(task.at(-1)) }))))
      }
      const found = await target.manifests()
      expect(found).toHaveLength(4)
      for (const name of found) expect(name).toMatch(/^_millrace\/test\/sink\/[01]\/\d{20}\.json$/)
    }),
  )

  it(
    'refuses to go on where another has written an object of its name, and leaves that as it is',
    on(async ({ open, ids }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(2)))
      const other = await open(NOW, { task: 'other/sink/0' })
      const error = await other.write(batchOf(some(3))).catch(thrown => thrown as ConnectorError)
      expect(error).toMatchObject({ kind: 'config', message: expect.stringContaining(FILE(0)) })
      expect(await ids()).toEqual([[0, 1]])
    }),
  )
}

function folders(on: On): void {
  it(
    'of a field: its value',
    on(async ({ open, names, ids }) => {
      const writer = await open({ ...NOW, partition: { by: 'field', fields: ['name'] } })
      await writer.write(batchOf(some(5)))
      expect(await names()).toEqual([`kit.test.kit/name=n0/${FILE(0)}`, `kit.test.kit/name=n1/${FILE(1)}`])
      expect(await ids()).toEqual([
        [0, 2, 4],
        [1, 3],
      ])
    }),
  )

  it(
    'of two fields, one in the other; numbers as they are written',
    on(async ({ open, names }) => {
      const writer = await open({
        ...NOW,
        path: '${partition}',
        partition: { by: 'field', fields: ['name', 'price'] },
      })
      await writer.write(batchOf(some(1)))
      expect(await names()).toEqual([`name=n0/price=1.50/${FILE(0)}`])
    }),
  )

  it(
    'of nasty values: escaped, so that none leaves its folder',
    on(async ({ open, names }) => {
      const values = ['../../x', 'a/b', 'a=b', '', '.', '..', '%2F', 'ü', null]
      const writer = await open({
        ...NOW,
        path: '${partition}',
        partition: { by: 'field', fields: ['name'] },
      })
      await writer.write(batchOf(named(values.length, i => values[i]!)))
      const found = await names()
      expect(found.map(name => name.slice(0, name.indexOf('/'))).sort()).toEqual(
        [
          'name=..%2F..%2Fx',
          'name=a%2Fb',
          'name=a%3Db',
          'name=%20',
          'name=%2E',
          'name=%2E%2E',
          'name=%252F',
          'name=%C3%BC',
          'name=__HIVE_DEFAULT_PARTITION__',
        ].sort(),
      )
    }),
  )

  it(
    'of a delete: by what the source still knew of the row',
    on(async ({ open, names }) => {
      const writer = await open({
        ...NOW,
        path: '${partition}',
        partition: { by: 'field', fields: ['name'] },
      })
      const gone = (i: number): Partial<LogRecord> =>
        i === 0 ? { op: 'd', after: null, before: '{"id":0,"name":"old"}' } : { op: 'd', after: null }
      await writer.write(batchOf(some(2, 0, gone)))
      expect(await names()).toEqual([`name=__HIVE_DEFAULT_PARTITION__/${FILE(1)}`, `name=old/${FILE(0)}`])
    }),
  )

  it(
    'of the time of the commit: by hour in UTC',
    on(async ({ open, names }) => {
      const writer = await open({ ...NOW, path: '${partition}', partition: { by: 'time' } })
      await writer.write(batchOf(some(32, 0)))
      expect(await names()).toEqual([
        `year=2026/month=03/day=28/hour=23/${FILE(0)}`,
        `year=2026/month=03/day=29/hour=00/${FILE(30)}`,
      ])
    }),
  )

  it(
    'of the time in a zone, over the hour that summer time leaves out',
    on(async ({ open, names, ids }) => {
      const partition = { by: 'time', pattern: 'YYYY-MM-DD/HHmm', zone: 'Europe/Berlin' }
      const writer = await open({ ...NOW, path: '${partition}', partition })
      const at = [
        Date.UTC(2026, 2, 29, 0, 59),
        Date.UTC(2026, 2, 29, 1, 0),
        Date.UTC(2026, 9, 25, 0, 30),
        Date.UTC(2026, 9, 25, 1, 30),
      ]
      await writer.write(batchOf(some(4, 0, i => ({ commitMs: at[i]! }))))
      expect(await names()).toEqual([
        `2026-03-29/0159/${FILE(0)}`,
        `2026-03-29/0300/${FILE(1)}`,
        `2026-10-25/0230/${FILE(2)}`,
      ])
      expect((await ids()).at(-1)).toEqual([2, 3])
    }),
  )

  it(
    'of a zone with half an hour',
    on(async ({ open, names }) => {
      const partition = { by: 'time', pattern: 'HH-mm', zone: 'Asia/Kolkata' }
      const writer = await open({ ...NOW, path: '${partition}', partition })
      await writer.write(batchOf(some(1)))
      expect(await names()).toEqual([`05-00/${FILE(0)}`])
    }),
  )

  it(
    'of a time in a column; null has a folder, and what is no time is a dead letter',
    on(async ({ open, names }) => {
      const partition = { by: 'time', pattern: 'day=YYYY-MM-DD', time_field: 'name' }
      const writer = await open({ ...NOW, path: '${partition}', partition })
      const values = [
        '2025-12-31T23:59:59.123456',
        '2026-01-01T00:30:00+01:00',
        '2024-02-29',
        null,
        'yesterday',
      ]
      const all = named(5, i => values[i]!)
      expect((await writer.write(batchOf(all))).map(({ record }) => record.offset)).toEqual([4])
      await writer.write(batchOf(all.slice(0, 4)))
      expect(await names()).toEqual([
        `__HIVE_DEFAULT_PARTITION__/${FILE(3)}`,
        `day=2024-02-29/${FILE(2)}`,
        `day=2025-12-31/${FILE(0)}`,
      ])
    }),
  )

  it(
    'takes times out of order: each record in its folder, in the order of the log',
    on(async ({ open, ids }) => {
      const writer = await open({ ...NOW, partition: { by: 'time', pattern: 'HH' } })
      const hours = [3, 1, 2, 1, 3, 2]
      await writer.write(batchOf(some(6, 0, i => ({ commitMs: Date.UTC(2026, 0, 1, hours[i]) }))))
      expect(await ids()).toEqual([
        [1, 3],
        [2, 5],
        [0, 4],
      ])
    }),
  )
}

function rotation(on: On): void {
  it(
    'by records, exactly, in the midst of a batch',
    on(async ({ open, ids }) => {
      const writer = await open({ rotate: { records: 4 } })
      await writer.write(batchOf(some(10)))
      expect(await ids()).toEqual([
        [0, 1, 2, 3],
        [4, 5, 6, 7],
      ])
    }),
  )

  it(
    'by bytes',
    on(async ({ open, ids }) => {
      const writer = await open({ rotate: { bytes: 1_000 } })
      await writer.write(batchOf(named(6, () => 'x'.repeat(400))))
      expect((await ids()).map(one => one.length)).toEqual([2, 2, 2])
    }),
  )

  it(
    'completes the open objects of a topic together, and those of another topic not',
    on(async ({ open, ids, names }) => {
      const writer = await open({ rotate: { records: 3 }, partition: { by: 'field', fields: ['name'] } })
      const other = some(1, 0, () => ({ topic: 'kit.test.other' }))
      const offset = { log: 'kit', next: { 'kit.test.kit': 5, 'kit.test.other': 1 } }
      await writer.write({ records: [...other, ...some(5)], offset })
      expect(await ids()).toEqual([
        [0, 2, 4],
        [1, 3],
      ])
      expect((await names()).every(name => name.startsWith('kit.test.kit/'))).toBe(true)
      expect(writer.durable!()).toEqual({ log: 'kit', next: { 'kit.test.other': 0, 'kit.test.kit': 5 } })
    }),
  )

  it(
    'by the span of the records’ own times',
    on(async ({ open, ids }) => {
      const writer = await open({ rotate: { span_ms: 3 * MINUTE_MS } })
      await writer.write(batchOf(some(7)))
      expect(await ids()).toEqual([
        [0, 1, 2],
        [3, 4, 5],
      ])
    }),
  )

  it(
    'by the time that a record waits, though others come',
    on(async ({ open, ids, clock }) => {
      const writer = await open({ rotate: { open_ms: 1_000 } })
      for (let i = 0; i < 4; i++) {
        await writer.write(batchOf(some(1, i)))
        clock.now += 400
      }
      expect(await ids()).toEqual([[0, 1, 2, 3]])
    }),
  )

  it(
    'by idle time, when the log is silent: the late tail',
    on(async ({ open, ids, clock }) => {
      const writer = await open({ rotate: { idle_ms: 1_000 } })
      await writer.write(batchOf(some(2)))
      clock.now += 999
      await writer.write(silence(2))
      expect(await ids()).toEqual([])
      expect(writer.durable!()).toBeNull()
      clock.now += 1
      await writer.write(silence(2))
      expect(await ids()).toEqual([[0, 1]])
      expect(writer.durable!()).toEqual(silence(2).offset)
    }),
  )

  it(
    'by another shape of the table, in the midst of a file, once and not for each record',
    on(async ({ open, ids }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(6, 0, i => ({ table: i < 3 ? { ...KIT_TABLE } : { ...WIDER } }))))
      expect(await ids()).toEqual([
        [0, 1, 2],
        [3, 4, 5],
      ])
    }),
  )

  it(
    'makes no object of nothing; but says how far it is',
    on(async ({ open, names, target, clock }) => {
      const writer = await open({ rotate: { idle_ms: 1_000 } })
      clock.now += 2_000
      await writer.write(silence(5))
      expect(await names()).toEqual([])
      expect(writer.durable!()).toEqual(silence(5).offset)
      const before = await target.manifests()
      clock.now += 2_000
      await writer.write(silence(5))
      expect(await target.manifests(), 'not again').toEqual(before)
    }),
  )

  it(
    'keeps what does not fit into memory on disk, and writes it as if it had',
    on(async ({ open, target, clock }) => {
      const partition = { by: 'field', fields: ['name'] }
      const spill = mkdtempSync(join(tmpdir(), 'millrace-spill-'))
      const writer = await open({ memory_bytes: 1_000_000, spill, partition, rotate: { idle_ms: 1_000 } })
      const long = 'x'.repeat(1_000)
      const row = (i: number) => ({ after: `{"id":${i},"name":"n${i % 50}","price":"${long}"}` })
      for (let batch = 0; batch < 40; batch++) await writer.write(batchOf(some(500, batch * 500, row)))
      expect(openFilesIn(spill), 'nameless, and gone with the process').toBe(1)
      expect(readdirSync(spill)).toEqual([])
      clock.now += 1_000
      await writer.write(silence(20_000))
      expect(openFilesIn(spill)).toBe(0)
      const lines = linesOf(await target.objects())
      expect(lines.map(({ id }) => id).sort((a, b) => a! - b!)).toEqual(
        Array.from({ length: 20_000 }, (_, i) => i),
      )
      expect(new Set(lines.map(({ price }) => price))).toEqual(new Set([long]))
      rmSync(spill, { recursive: true })
    }),
  )
}

/** Also those without a name any more. */
const openFilesIn = (folder: string): number =>
  readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder)
    } catch {
      return false
    }
  }).length

function records(on: On): void {
  it(
    'are rows with op, version and time of the commit',
    on(async ({ open, target }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(1)))
      expect(linesOf(await target.objects())).toEqual([
        {
          _op: 'u',
          _version: 1,
          _committed_at: '2026-03-28T23:30:00.000Z',
          id: 0,
          name: 'n0',
          price: '1.50',
        },
      ])
    }),
  )

  it(
    'are as bare or as told as the metadata say',
    on(async ({ open, target }) => {
      const bare = await open({ ...NOW, metadata: [], path: 'a' })
      await bare.write(batchOf(some(1)))
      const told = await open({ ...NOW, metadata: ['topic', 'partition', 'offset'], path: 'b' }, { epoch: 2 })
      await told.write(batchOf(some(1, 1)))
      expect(linesOf(await target.objects())).toEqual([
        { id: 0, name: 'n0', price: '1.50' },
        { _topic: 'kit.test.kit', _partition: 0, _offset: 1, id: 1, name: 'n1', price: '1.50' },
      ])
    }),
  )

  it(
    'are whole changes with that envelope',
    on(async ({ open, target }) => {
      const writer = await open({ ...NOW, envelope: 'change' })
      const gone = { op: 'd' as const, before: '{"id":0}', after: null }
      await writer.write(batchOf(some(1, 0, () => gone)))
      expect(linesOf(await target.objects())).toMatchObject([
        {
          topic: 'kit.test.kit',
          offset: 0,
          version: 1,
          op: 'd',
          key: { id: 0 },
          before: { id: 0 },
          after: null,
          below: null,
        },
      ])
    }),
  )

  it(
    'of deletes have the columns that were known, or their key; or are skipped',
    on(async ({ open, target }) => {
      const gone = (i: number): Partial<LogRecord> => ({
        op: 'd',
        after: null,
        before: i === 0 ? '{"id":0,"name":"x"}' : null,
      })
      const writer = await open({ ...NOW, metadata: ['op'] })
      await writer.write(batchOf(some(2, 0, gone)))
      expect(linesOf(await target.objects())).toEqual([
        { _op: 'd', id: 0, name: 'x' },
        { _op: 'd', id: 1 },
      ])
      const skipping = await open({ ...NOW, deletes: 'skip' }, { epoch: 2 })
      await skipping.write(batchOf(some(1, 2, gone)))
      expect(linesOf(await target.objects())).toHaveLength(2)
      expect(skipping.durable!()).toEqual(silence(3).offset)
    }),
  )

  it(
    'of sweeps are records, or are skipped; nothing that stands is taken away',
    on(async ({ open, target }) => {
      const sweep = { ...recordOf({ op: 'sweep', version: 9, below: 9 }), offset: 1 }
      const writer = await open({ ...NOW, metadata: ['op'] })
      await writer.write(batchOf([...some(1), sweep]))
      expect(linesOf(await target.objects())).toEqual([
        { _op: 'u', id: 0, name: 'n0', price: '1.50' },
        { _op: 'sweep' },
      ])
      const skipping = await open({ ...NOW, sweeps: 'skip' }, { epoch: 2 })
      await skipping.write(batchOf([{ ...sweep, offset: 2 }]))
      expect(linesOf(await target.objects())).toHaveLength(2)
    }),
  )

  it(
    'with missing columns are left out of rows (H9), and not of changes',
    on(async ({ open, target }) => {
      const cut = { source: '{"connector":"kit","missing":["name"]}' }
      const writer = await open(NOW)
      await writer.write(batchOf(some(1, 0, () => cut)))
      expect(linesOf(await target.objects())).toEqual([])
      const changes = await open({ ...NOW, envelope: 'change' }, { epoch: 2 })
      await changes.write(batchOf(some(1, 1, () => cut)))
      expect(linesOf(await target.objects())).toHaveLength(1)
    }),
  )

  it(
    'keep nasty values and all digits',
    on(async ({ open, target }) => {
      const nasty = [
        '',
        ' ',
        '"\\/\b\f\n\r\t',
        '\u0000',
        '\u2028\u2029',
        '😀',
        'ß ı İ ﷺ',
        'x'.repeat(100_000),
      ]
      const writer = await open(NOW)
      await writer.write(batchOf(named(nasty.length, i => nasty[i]!)))
      expect(linesOf(await target.objects()).map(({ name }) => name)).toEqual(nasty)
      await writer.write(
        batchOf(some(1, 50, () => ({ after: '{"id":9223372036854775807,"price":"1e400"}' }))),
      )
      expect(String([...(await target.objects()).values()].at(-1))).toContain('"id":9223372036854775807,')
    }),
  )

  it(
    'that their column cannot hold are dead letters in typed formats, alone',
    on(async ({ open, names }) => {
      const writer = await open({
        ...NOW,
        format: 'parquet',
        numeric: 'decimal',
        decimal: { precision: 4, scale: 2 },
      })
      const prices = ['1.5', 'NaN', '123.4', '0.001', '99.99']
      const all = some(5, 0, i => ({ after: `{"id":${i},"name":"a","price":"${prices[i]}"}` }))
      const rejected = await writer.write(batchOf(all))
      expect(rejected.map(({ record }) => record.offset)).toEqual([1, 2, 3])
      for (const { error } of rejected)
        expect(error).toMatchObject({ kind: 'data', message: expect.stringContaining('price') })
      expect(await names()).toEqual([])
      await writer.write({ ...batchOf(all), records: [all[0]!, all[4]!] })
      expect(await names()).toHaveLength(1)
    }),
  )
}

function owners(on: On): void {
  const life = { rotate: { idle_ms: 1_000 } }

  it(
    'that stop drop what they gathered, and the next one writes it',
    on(async ({ open, ids, clock }) => {
      const first = await open(life)
      await first.write(batchOf(some(3)))
      await first[Symbol.asyncDispose]()
      const second = await open(life, { epoch: 2 })
      expect(await second.position!()).toBeNull()
      await second.write(batchOf(some(5)))
      clock.now += 1_000
      await second.write(silence(5))
      expect(await ids()).toEqual([[0, 1, 2, 3, 4]])
    }),
  )

  it(
    'that are fenced add nothing, whatever they gathered',
    on(async ({ open, ids, clock }) => {
      const first = await open(life)
      await first.write(batchOf(some(3)))
      const second = await open(life, { epoch: 2 })
      clock.now += 1_000
      await expect(first.write(silence(3))).rejects.toThrow('newer owner')
      expect(await ids()).toEqual([])
      await second.write(batchOf(some(2)))
      clock.now += 1_000
      await second.write(silence(2))
      expect(await ids()).toEqual([[0, 1]])
    }),
  )

  it(
    'whose lease ran out between two objects write no further one',
    on(async ({ open, ids }) => {
      let puts = 0
      const deadlineMs = () => (puts++ < 6 ? Number.POSITIVE_INFINITY : 0)
      const writer = await open({ ...NOW, partition: { by: 'field', fields: ['id'] } }, { deadlineMs })
      await expect(writer.write(batchOf(some(20)))).rejects.toThrow('lease')
      const made = (await ids()).length
      expect(made).toBeLessThan(20)
      const next = await open({ ...NOW, partition: { by: 'field', fields: ['id'] } }, { epoch: 2 })
      await next.write(batchOf(some(20)))
      expect((await ids()).flat().sort((a, b) => a! - b!)).toEqual(some(20).map(({ offset }) => offset))
    }),
  )

  it(
    'with other options do not touch what was announced with those of before, and say so',
    on(async ({ open, ids }) => {
      const deadlineMs = (
        left => () =>
          left-- > 0 ? Number.POSITIVE_INFINITY : 0
      )(4)
      const writer = await open({ ...NOW, partition: { by: 'field', fields: ['name'] } }, { deadlineMs })
      await expect(writer.write(batchOf(some(4)))).rejects.toThrow('lease')
      const other = await open(NOW, { epoch: 2 })
      await expect(other.write(batchOf(some(4)))).rejects.toThrow(/announced .* and the records now make/)
      const back = await open({ ...NOW, partition: { by: 'field', fields: ['name'] } }, { epoch: 3 })
      await back.write(batchOf(some(4)))
      expect((await ids()).map(one => one.length)).toEqual([2, 2])
    }),
  )

  it(
    'forget: manifests go, objects stay, and it may be said twice',
    on(async ({ open, target, names, context }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(1)))
      const config = target.sink.config.parse(target.place) as never
      for (let i = 0; i < 2; i++) await target.sink.forget!(config, [context.task], context)
      expect(await target.manifests()).toEqual([])
      expect(await names()).toHaveLength(1)
    }),
  )

  it(
    'check: leaves nothing behind; plan: says where, of which columns, and that nothing is swept',
    on(async ({ target, context }) => {
      const config = target.sink.config.parse({ ...target.place, path: '${table}/${partition}' }) as never
      await target.sink.check(config, context)
      expect(await target.manifests()).toEqual([])
      const [plan] = await target.sink.plan!(config, [{ table: KIT_TABLE, topic: 'kit.test.kit' }], context)
      expect(plan).toMatchObject({
        name: expect.stringMatching(/kit\/$/),
        tables: ['test.kit'],
        exists: false,
        definition: { format: 'jsonl', sweeps: expect.stringContaining('never taken away') },
      })
      expect((plan!.definition as { columns: string[] }).columns).toContain('price numeric')
    }),
  )

  it(
    'plan refuses a field that a table does not have',
    on(async ({ target, context }) => {
      const config = target.sink.config.parse({
        ...target.place,
        partition: { by: 'field', fields: ['country'] },
      }) as never
      await expect(
        target.sink.plan!(config, [{ table: KIT_TABLE, topic: 'kit.test.kit' }], context),
      ).rejects.toMatchObject({
        kind: 'config',
        message: expect.stringContaining('country'),
      })
    }),
  )
}
