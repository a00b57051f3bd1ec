/** Frames and lines without a server: cut anywhere, escaped anyhow. */
import { describe, expect, it, vi } from 'vitest'
import { rowText } from '../../../connectors/postgres/copy.ts'
import { keyText, Out, rowPlan, Slots } from '../../../connectors/postgres/encode.ts'
import { TEXT, typeOf } from '../../../connectors/postgres/values.ts'
import { errorOf, type Frames, framesOf } from '../../../connectors/postgres/wire.ts'
import { ConnectorError } from '../../../core/errors.ts'

let seed = 11
const random = (below: number) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return seed % below
}
const frame = (type: string, payload: Buffer) => {
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeUInt32BE(payload.length + 4, 1)
  return Buffer.concat([head, payload])
}

describe('frames', () => {
  it('are the same however the bytes are cut into reads, and whenever it is paused', () => {
    for (let round = 0; round < 300; round++) {
      const payloads = Array.from({ length: 1 + random(20) }, () =>
        Buffer.alloc(random(5) === 0 ? random(5000) : random(20), 97 + random(26)),
      )
      const all = Buffer.concat(payloads.map(payload => frame('d', payload)))
      const got: string[] = []
      let isPaused = false
      const frames: Frames = framesOf((type, buffer, start, end) => {
        expect(isPaused, 'nothing comes while paused').toBe(false)
        got.push(`${String.fromCharCode(type)}${buffer.toString('latin1', start, end)}`)
        if (random(4) === 0) {
          isPaused = true
          frames.pause()
        }
      })
      const resume = () => {
        while (isPaused) {
          isPaused = false
          frames.resume()
        }
      }
      for (let at = 0; at < all.length; ) {
        const to = Math.min(all.length, at + 1 + random(random(3) === 0 ? 3000 : 9))
        frames.push(all.subarray(at, to))
        if (random(2) === 0) resume()
        at = to
      }
      resume()
      expect(got).toEqual(payloads.map(payload => `d${payload.toString('latin1')}`))
      expect(frames.rest()).toHaveLength(0)
    }
  })

  it('a large one is put together once, not once per read', () => {
    const all = frame('d', Buffer.alloc(64 << 20, 120))
    let length = 0
    const frames = framesOf((_, __, start, end) => {
      length = end - start
    })
    const concat = vi.spyOn(Buffer, 'concat')
    for (let at = 0; at < all.length; at += 16_384) frames.push(all.subarray(at, at + 16_384))
    const copied = concat.mock.results.reduce((sum, { value }) => sum + (value as Buffer).length, 0)
    concat.mockRestore()
    expect(length).toBe(64 << 20)
    expect(copied).toBeLessThan(all.length + 100_000)
  })

  it('of impossible length are refused; errors are read', () => {
    const frames = framesOf(() => {})
    expect(() => frames.push(Buffer.from([100, 0, 0, 0, 3, 0]))).toThrow(ConnectorError)
    const fields = Buffer.from('SERROR\0C57014\0Mcanceling statement\0Dwhy\0\0')
    expect(errorOf(fields, 0, fields.length)).toMatchObject({
      message: 'canceling statement',
      code: '57014',
      detail: 'why',
    })
    for (let end = 0; end < fields.length; end++) errorOf(fields, 0, end)
  })
})

/** COPY's text format as PostgreSQL documents it. */
const escaped = (value: string | null): string =>
  value === null
    ? '\\N'
    : value.replace(
        /[\\\b\f\n\r\t\v]/g,
        c => `\\${{ '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v' }[c]}`,
      )

describe('lines of COPY', () => {
  const plan = rowPlan(
    's',
    't',
    ['b', 'id'],
    [
      { name: 'id', type: typeOf(23), isTaken: true },
      { name: 'a', type: TEXT, isTaken: true },
      { name: 'b', type: TEXT, isTaken: true },
    ],
  )
  const read = (line: Buffer) => {
    const out = new Out()
    const slots = new Slots(3)
    const row = rowText(out, new Out(), plan, slots, line, 0, line.length)
    return { row, key: keyText(out, plan, slots) }
  }

  it('become the rows they are, with any characters', () => {
    for (let round = 0; round < 3000; round++) {
      const value = () =>
        random(6) === 0
          ? null
          : Array.from({ length: random(20) }, () =>
              String.fromCodePoint(
                [1 + random(31), 92, 34, 78, 32 + random(95), 200 + random(9000)][random(6)]!,
              ),
            ).join('')
      const [a, b] = [value(), value() ?? '']
      const { row, key } = read(Buffer.from([String(round), escaped(a), escaped(b)].join('\t')))
      expect(JSON.parse(row)).toEqual({ id: round, a, b })
      expect(row).toBe(JSON.stringify({ id: round, a, b }))
      expect(key).toBe(JSON.stringify({ b, id: round }))
    }
  })

  it('"\\N" as a text is no null, and a lone backslash at the end is itself', () => {
    expect(JSON.parse(read(Buffer.from('1\t\\\\N\t\\N')).row)).toEqual({ id: 1, a: '\\N', b: null })
    expect(JSON.parse(read(Buffer.from('1\tx\ty\\')).row)).toEqual({ id: 1, a: 'x', b: 'y\\' })
  })

  it('with another number of values are refused', () => {
    for (const line of ['1', '1\ta', '1\ta\tb\tc', ''])
      expect(() => read(Buffer.from(line)), line).toThrow(ConnectorError)
  })
})
