/** The MariaDB sink: types, keys, large batches, appended changes; forgotten. */
import { expect, it } from 'vitest'
import type { LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, KIT_TABLE, recordOf } from '../../conform/kit-table.ts'
import { refusalOf } from '../../conform/refusal.ts'
import { shaped, withColumns } from '../sql/shapes.ts'
import { write } from '../writing.ts'
import type { Kept } from './kept.ts'
import { rows } from './reading.ts'

export function rowCases({ sink, server, open }: Kept): void {
  it('every type comes back as it was', async () => {
    const table = withColumns(
      ['b', 'bool'],
      ['i', 'int4'],
      ['f', 'float8'],
      ['n', 'numeric'],
      ['t', 'text'],
      ['d', 'date'],
      ['at', 'timestamptz'],
      ['local', 'timestamp'],
      ['o', 'time'],
      ['j', 'jsonb'],
      ['x', 'bytea'],
      ['tags', 'text[]'],
      ['u', 'uuid'],
    )
    const row = {
      id: 1,
      b: true,
      i: -5,
      f: 1.5e300,
      n: '12345678901234567890.123456789',
      t: `it's "so" \\ \u20ac 😀\n`,
      d: '2024-02-29',
      at: '2024-02-29T11:14:15.123456Z',
      local: '2024-02-29T11:14:15.5',
      o: '13:14:15.123456',
      x: '3q2+7wA=',
      tags: ['a', `b'"\\`, null],
      u: '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
    }
    const record = shaped(table, row, recordOf({ id: 1, version: 1 }))
    const writer = await open()
    await write(writer, {
      ...record,
      after: record.after!.replace('"x":', '"j":{"a":1.50,"b":"\\\\\\"\'"},"x":'),
    })
    const [found] = await server().sql(
      'SELECT b, i, f, n, t, d, at, local, o, j, hex(x) AS x, tags, u FROM kit',
    )
    expect(found).toEqual({
      b: 1,
      i: -5,
      f: 1.5e300,
      n: row.n,
      t: row.t,
      d: '2024-02-29',
      at: '2024-02-29 11:14:15.123456',
      local: '2024-02-29 11:14:15.500000',
      o: '13:14:15.123456',
      j: '{"a":1.50,"b":"\\\\\\"\'"}',
      x: 'DEADBEEF00',
      tags: JSON.stringify(row.tags),
      u: row.u,
    })
    await write(writer, shaped(table, { id: 1 }, recordOf({ id: 1, version: 2 })))
    expect((await server().sql('SELECT b, t, j FROM kit'))[0]).toEqual({ b: null, t: null, j: null })
    // What a type of MariaDB cannot hold is told, and never cut.
    const rejected = await writer.write(
      batchOf([shaped(table, { id: 2, at: 'infinity' }, recordOf({ id: 2, version: 3 }))]),
    )
    expect(rejected[0]!.error).toMatchObject({ kind: 'data', message: expect.stringContaining('infinity') })
  })

  it('keys are told apart by their bytes: case and trailing spaces', async () => {
    const table: Table = {
      ...KIT_TABLE,
      key: ['k', 'id'],
      columns: [
        { name: 'k', type: 'text' },
        { name: 'id', type: 'int4' },
      ],
    }
    const of = (k: string, version: number, isGone = false): LogRecord => ({
      ...recordOf({ version, op: isGone ? 'd' : 'u' }),
      table,
      key: JSON.stringify({ k, id: 1 }),
      after: isGone ? null : JSON.stringify({ k, id: 1 }),
    })
    const writer = await open()
    await write(writer, ...['a', 'A', 'a ', 'ä', `'\\`].map((k, i) => of(k, i + 1)))
    await write(writer, of('A', 10, true), of(`'\\`, 11, true))
    expect(
      (await server().sql<{ k: string }>('SELECT k FROM kit ORDER BY millrace_version')).map(({ k }) => k),
    ).toEqual(['a', 'a ', 'ä'])
  })

  it('a batch larger than a packet goes in parts; a row larger than one says what to set', async () => {
    const writer = await open()
    const name = 'é"\\'.repeat(70_000)
    await write(writer, ...Array.from({ length: 100 }, (_, i) => recordOf({ id: i, name, version: i + 1 })))
    expect(
      (
        await server().sql<{ n: string }>('SELECT count(*) AS n FROM kit WHERE char_length(name) = 210000')
      )[0]!.n,
    ).toBe('100')
    await write(
      writer,
      ...Array.from({ length: 1_200 }, (_, i) => recordOf({ op: 'd', id: i, version: 1_000 + i })),
    )
    expect((await rows(server())).size).toBe(0)
    const error = await refusalOf(
      writer.write(batchOf([recordOf({ id: 1, name: 'x'.repeat(17 << 20), version: 5_000 })])),
    )
    expect(error).toMatchObject({
      kind: 'config',
      hint: expect.stringMatching(/^SET GLOBAL max_allowed_packet = \d+;/),
    })
    await write(writer, recordOf({ id: 1, version: 5_000 }))
  })

  it('append: each change once; what is known of a delete; a sweep is one of them', async () => {
    const writer = await open({ mode: 'append' })
    await write(
      writer,
      recordOf({ id: 1, version: 1 }),
      recordOf({ op: 'd', id: 2, version: 2 }),
      recordOf({ op: 'sweep', version: 3, below: 3 }),
    )
    const beside = { millrace_origin: 'kit.test.kit/0', millrace_committed_at: '2023-11-14 22:13:20.000' }
    expect(await server().sql('SELECT * FROM kit ORDER BY millrace_version')).toEqual([
      { id: '1', name: 'a', price: '1.50', millrace_op: 'u', millrace_version: '1', ...beside },
      { id: '2', name: null, price: null, millrace_op: 'd', millrace_version: '2', ...beside },
      { id: null, name: null, price: null, millrace_op: 'sweep', millrace_version: '3', ...beside },
    ])
  })

  it('forget takes the position and leaves the rows', async () => {
    await write(await open(), recordOf({ id: 1, version: 1 }))
    await sink.forget!(sink.config.parse({ url: server().url }) as never, ['test/sink/0'], testContext())
    expect(await server().sql('SELECT * FROM millrace_progress')).toEqual([])
    expect((await rows(server())).size).toBe(1)
  })
}
