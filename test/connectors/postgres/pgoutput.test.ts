/** The decoder on bytes made here by the published format: every message, and anything that is none. */
import { describe, expect, it } from 'vitest'
import { rowPlan } from '../../../connectors/postgres/encode.ts'
import { type Change, pgOutputDecoder, type Relation } from '../../../connectors/postgres/pgoutput.ts'
import { typeOf } from '../../../connectors/postgres/values.ts'
import { ConnectorError } from '../../../core/errors.ts'

const int16 = (n: number) => Buffer.from([(n >> 8) & 255, n & 255])
const int32 = (n: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(n >>> 0)
  return bytes
}
const int64 = (n: bigint) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(n)
  return bytes
}
const text = (s: string) => Buffer.from(`${s}\0`)
const message = (tag: string, ...parts: readonly (Buffer | string)[]) =>
  Buffer.concat([
    Buffer.from(tag),
    ...parts.map(part => (typeof part === 'string' ? Buffer.from(part) : part)),
  ])

const COLUMNS = [
  ['b', 25],
  ['id', 20],
  ['big', 25],
  ['hidden', 23],
] as const
const relation = (identity = 'd', oid = 7) =>
  message(
    'R',
    int32(oid),
    text('app'),
    text('t'),
    identity,
    int16(COLUMNS.length),
    ...COLUMNS.flatMap(([name, type]) => [
      Buffer.from([name === 'id' ? 1 : 0]),
      text(name),
      int32(type),
      int32(-1),
    ]),
  )

const UNCHANGED = Symbol('unchanged TOAST')
type Value = string | null | typeof UNCHANGED
const tuple = (values: readonly Value[]) =>
  Buffer.concat([
    int16(values.length),
    ...values.map(value =>
      value === null
        ? Buffer.from('n')
        : value === UNCHANGED
          ? Buffer.from('u')
          : Buffer.concat([Buffer.from('t'), int32(Buffer.byteLength(value)), Buffer.from(value)]),
    ),
  ])

function decoding() {
  const changes: Change[] = []
  const events: unknown[] = []
  const asked: Relation[] = []
  const decoder = pgOutputDecoder(
    known => {
      asked.push(known)
      if (known.oid === 9) return null
      return rowPlan(
        known.schema,
        known.name,
        ['id', 'b'],
        known.columns.map(({ name, oid }) => ({ name, type: typeOf(oid), isTaken: name !== 'hidden' })),
      )
    },
    {
      begin: (...all) => events.push(['begin', ...all]),
      commit: (...all) => events.push(['commit', ...all]),
      relation: one => events.push(['relation', one.name, one.identity]),
      change: change => changes.push(change),
      truncate: (all, options) => events.push(['truncate', all.map(one => one.name), options]),
      message: (...all) => events.push(['message', ...all]),
    },
  )
  return {
    changes,
    events,
    asked,
    decode: (bytes: Buffer, lsn = 1n) => decoder.decode(bytes, 0, bytes.length, lsn),
  }
}

describe('pgoutput', () => {
  it('reads begin, commit, message, truncate, and passes over type and origin', () => {
    const { decode, events } = decoding()
    decode(message('B', int64(0x16b374d848n), int64(1_000_000n), int32(4_000_000_000)))
    decode(message('M', Buffer.from([1]), int64(5n), text('millrace_x'), int32(5), 'h€i'))
    decode(relation('f'))
    decode(message('T', int32(1), Buffer.from([3]), int32(7)))
    decode(message('Y', int32(1), text('s'), text('n')))
    decode(message('O', int64(1n), text('origin')))
    decode(message('C', Buffer.from([0]), int64(0x16b374d848n), int64(0x16b374d880n), int64(0n)))
    expect(events).toEqual([
      ['begin', 4_000_000_000, 0x16b374d848n, Date.UTC(2000, 0, 1, 0, 0, 1) * 1000],
      ['message', true, 'millrace_x', 'h€i', 5n],
      ['relation', 't', 'f'],
      ['truncate', ['t'], { cascade: true, restartIdentity: true }],
      ['commit', 0x16b374d848n, 0x16b374d880n],
    ])
  })

  it('makes rows and keys as text: key order, columns left out, escapes, all digits', () => {
    const { decode, changes } = decoding()
    decode(relation())
    decode(message('I', int32(7), 'N', tuple(['q"\\\n\u0001€', '9223372036854775807', null, '1'])), 99n)
    expect(changes).toEqual([
      expect.objectContaining({
        ...{ op: 'c', oldKey: null, before: null, unchanged: null, lsn: 99n },
        after: '{"b":"q\\"\\\\\\n\\u0001€","id":9223372036854775807,"big":null}',
        key: '{"id":9223372036854775807,"b":"q\\"\\\\\\n\\u0001€"}',
      }),
    ])
    expect(changes[0]!.plan.table).toEqual({
      ...{ schema: 'app', name: 't', key: ['id', 'b'] },
      columns: [
        { name: 'b', type: 'text' },
        { name: 'id', type: 'int8' },
        { name: 'big', type: 'text' },
      ],
    })
  })

  it('update: without old row, with the old key, with the whole old row; unchanged big values', () => {
    const { decode, changes } = decoding()
    decode(relation())
    const last = () => {
      const { op, key, oldKey, before, after, unchanged } = changes.at(-1)!
      return { op, key, oldKey, before, after, unchanged }
    }
    decode(message('U', int32(7), 'N', tuple(['x', '1', UNCHANGED, '5'])))
    expect(last()).toEqual({
      op: 'u',
      key: '{"id":1,"b":"x"}',
      oldKey: null,
      before: null,
      after: '{"b":"x","id":1}',
      unchanged: ['big'],
    })
    decode(message('U', int32(7), 'K', tuple(['x', '1', null, null]), 'N', tuple(['x', '2', 'new', '5'])))
    expect(last()).toEqual({
      op: 'u',
      key: '{"id":2,"b":"x"}',
      oldKey: '{"id":1,"b":"x"}',
      before: null,
      after: '{"b":"x","id":2,"big":"new"}',
      unchanged: null,
    })
    decode(
      message(
        'U',
        int32(7),
        'O',
        tuple(['x', '2', 'ünchanged', '5']),
        'N',
        tuple([UNCHANGED, '2', UNCHANGED, UNCHANGED]),
      ),
    )
    expect(last()).toEqual({
      op: 'u',
      key: '{"id":2,"b":"x"}',
      oldKey: null,
      before: '{"b":"x","id":2,"big":"ünchanged"}',
      after: '{"b":"x","id":2,"big":"ünchanged"}',
      unchanged: null,
    })
    // A big key that did not change: its value is in the old key.
    decode(
      message('U', int32(7), 'K', tuple(['long', '2', null, null]), 'N', tuple([UNCHANGED, '2', 'y', '5'])),
    )
    expect(last()).toMatchObject({
      key: '{"id":2,"b":"long"}',
      oldKey: null,
      after: '{"b":"long","id":2,"big":"y"}',
      unchanged: null,
    })
    decode(message('D', int32(7), 'K', tuple(['x', '2', null, null])))
    expect(last()).toMatchObject({ op: 'd', key: '{"id":2,"b":"x"}', before: null, after: null })
    decode(message('D', int32(7), 'O', tuple(['x', '2', 'v', '5'])))
    expect(last()).toMatchObject({
      op: 'd',
      key: '{"id":2,"b":"x"}',
      before: '{"b":"x","id":2,"big":"v"}',
      after: null,
    })
  })

  it('asks for a plan once per relation message, at the first change, and passes over tables without one', () => {
    const { decode, changes, asked } = decoding()
    decode(relation('d', 7))
    decode(relation('d', 9))
    expect(asked).toHaveLength(0)
    const row = tuple(['x', '1', null, null])
    for (const oid of [7, 9, 7, 9]) decode(message('I', int32(oid), 'N', row))
    expect(asked.map(one => one.oid)).toEqual([7, 9])
    expect(changes).toHaveLength(2)
    decode(relation('d', 7))
    decode(message('I', int32(7), 'N', row))
    expect(asked.map(one => one.oid)).toEqual([7, 9, 7])
  })

  it('strings outlive the buffer they were read from', () => {
    const { decode, changes } = decoding()
    decode(relation())
    const bytes = message('I', int32(7), 'N', tuple(['x', '1', 'y', null]))
    decode(bytes)
    bytes.fill(0)
    decode(message('I', int32(7), 'N', tuple(['z', '2', 'z', null])))
    expect(changes[0]!.after).toBe('{"b":"x","id":1,"big":"y"}')
  })

  it('refuses what is cut short, at every byte, and what is garbage, by a ConnectorError alone', () => {
    const good = [
      message('B', int64(1n), int64(1n), int32(1)),
      message('C', Buffer.from([0]), int64(1n), int64(1n), int64(1n)),
      relation(),
      message('I', int32(7), 'N', tuple(['x', '1', 'y', null])),
      message('U', int32(7), 'O', tuple(['x', '1', 'y', '2']), 'N', tuple(['x', '1', UNCHANGED, null])),
      message('D', int32(7), 'K', tuple(['x', '1', null, null])),
      message('T', int32(1), Buffer.from([0]), int32(7)),
      message('M', Buffer.from([0]), int64(1n), text('p'), int32(1), 'c'),
    ]
    const refuses = (bytes: Buffer, isSure: boolean) => {
      // Behind the message lie bytes that must not be read: an overrun would find a row of theirs.
      const padded = Buffer.concat([bytes, Buffer.alloc(64, 't')])
      const { decode } = decoding()
      decode(relation())
      try {
        decode(padded.subarray(0, bytes.length))
        if (isSure) throw new Error(`took ${bytes.toString('hex')}`)
      } catch (error) {
        expect(error, bytes.toString('hex')).toBeInstanceOf(ConnectorError)
      }
    }
    for (const bytes of good) {
      for (let length = 0; length < bytes.length; length++) refuses(bytes.subarray(0, length), true)
      refuses(Buffer.concat([bytes, Buffer.from([0])]), true)
    }
    let seed = 42
    const random = (below: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
      return seed % below
    }
    for (let round = 0; round < 20_000; round++) {
      const bytes = Buffer.from(good[random(good.length)]!)
      for (let flips = 1 + random(4); flips > 0; flips--) bytes[random(bytes.length)] = random(256)
      refuses(bytes, false)
    }
  })

  it('never reads beyond the end inside a larger buffer', () => {
    const whole = message('I', int32(7), 'N', tuple(['x', '1', 'yyyy', null]))
    for (let end = 1; end < whole.length; end++) {
      const changes: Change[] = []
      const decoder = pgOutputDecoder(
        known =>
          rowPlan(
            known.schema,
            known.name,
            ['id'],
            known.columns.map(({ name, oid }) => ({ name, type: typeOf(oid), isTaken: true })),
          ),
        {
          begin() {},
          commit() {},
          relation() {},
          truncate() {},
          message() {},
          change: change => changes.push(change),
        },
      )
      const shape = relation()
      decoder.decode(shape, 0, shape.length, 0n)
      expect(() => decoder.decode(whole, 0, end, 0n)).toThrow(ConnectorError)
      expect(changes).toEqual([])
    }
  })

  it('decodes 200,000 changes a second and more', () => {
    const bytes = message(
      'I',
      int32(7),
      'N',
      tuple(['customer 12345', '1234567', 'lorem ipsum '.repeat(12), '1']),
    )
    let count = 0
    const decoder = pgOutputDecoder(
      known =>
        rowPlan(
          known.schema,
          known.name,
          ['id'],
          known.columns.map(({ name, oid }) => ({ name, type: typeOf(oid), isTaken: true })),
        ),
      { begin() {}, commit() {}, relation() {}, truncate() {}, message() {}, change: () => count++ },
    )
    const shape = relation()
    decoder.decode(shape, 0, shape.length, 0n)
    let best = 0
    for (let round = 0; round < 5; round++) {
      const from = performance.now()
      for (let i = 0; i < 40_000; i++) decoder.decode(bytes, 0, bytes.length, 0n)
      best = Math.max(best, 40_000 / (performance.now() - from))
    }
    expect(count).toBe(200_000)
    expect(best * 1000).toBeGreaterThan(200_000)
  })
})
