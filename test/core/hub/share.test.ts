/** How tasks are spread over workers: evenly, as far as kinds and concurrency allow, and with no move too many. */
import { describe, expect, it } from 'vitest'
import { sharesOf } from '../../../core/hub/share.ts'
import type { Presence, TaskKind } from '../../../core/queue/queue.ts'
import { randomOf } from '../../sim/random.ts'

const worker = (
  owner: string,
  [source, sink]: readonly [number, number],
  concurrency = 100,
  kinds: readonly TaskKind[] = ['source', 'sink'],
): Presence => ({ owner, kinds, concurrency, held: { source, sink } })
const shares = (workers: readonly Presence[], waiting: readonly [number, number] = [0, 0]) =>
  Object.fromEntries(
    [...sharesOf({ workers, waiting: { source: waiting[0], sink: waiting[1] } })].map(([owner, of]) => [
      owner,
      [of.source, of.sink],
    ]),
  )

describe('the share of a worker', () => {
  it('is all that there is, for one alone, up to its concurrency', () => {
    expect(shares([worker('a', [0, 0])], [3, 7])).toEqual({ a: [3, 7] })
    expect(shares([worker('a', [0, 0], 4)], [3, 7])).toEqual({ a: [3, 1] })
  })

  it('of one that comes: what must move, and from whoever has the most', () => {
    expect(shares([worker('a', [6, 0]), worker('b', [6, 0]), worker('c', [0, 0])])).toEqual({
      a: [4, 0],
      b: [4, 0],
      c: [4, 0],
    })
    expect(shares([worker('a', [4, 0]), worker('b', [3, 0]), worker('c', [3, 0])])).toEqual({
      a: [4, 0],
      b: [3, 0],
      c: [3, 0],
    })
    const one = shares([worker('a', [3, 0]), worker('b', [3, 0]), worker('c', [3, 0]), worker('d', [1, 0])])
    expect(Object.values(one).filter(([source]) => source === 3)).toHaveLength(2)
    expect(one.d).toEqual([2, 0])
  })

  it('of those that stay, when one has left: what it had', () => {
    expect(shares([worker('a', [2, 0]), worker('b', [2, 0])], [2, 0])).toEqual({ a: [3, 0], b: [3, 0] })
  })

  it('heeds room and kinds: what only some take goes to those, and moves only among them', () => {
    expect(shares([worker('a', [0, 8]), worker('b', [0, 0], 2)])).toEqual({ a: [0, 6], b: [0, 2] })
    expect(shares([worker('a', [0, 8]), worker('b', [0, 0], 0)])).toEqual({ a: [0, 8], b: [0, 0] })
    expect(shares([worker('a', [8, 0]), worker('b', [0, 0], 9, ['sink'])])).toEqual({ a: [8, 0], b: [0, 0] })
    expect(shares([worker('a', [4, 4]), worker('b', [0, 0], 9, ['sink'])])).toEqual({ a: [4, 0], b: [0, 4] })
  })

  it('holds for any fleet: nothing is lost, nobody has too many, none could be more alike, and it stays', () => {
    for (let seed = 1; seed <= 400; seed++) {
      const random = randomOf(seed)
      const kindsOf = (): readonly TaskKind[] => random.pick([['source', 'sink'], ['source'], ['sink']])
      const workers = Array.from({ length: random.int(1, 6) }, (_, i) => {
        const [kinds, concurrency] = [kindsOf(), random.int(0, 12)]
        const source = kinds.includes('source') ? random.int(0, concurrency) : 0
        const sink = kinds.includes('sink') ? random.int(0, concurrency - source) : 0
        return worker(`w${i}`, [source, sink], concurrency, kinds)
      })
      const waiting = { source: random.int(0, 5), sink: random.int(0, 5) }
      const found = sharesOf({ workers, waiting })
      const sum = (kind: TaskKind) => [...found.values()].reduce((all, one) => all + one[kind], 0)
      for (const kind of ['source', 'sink'] as const) {
        const held = workers.reduce((all, one) => all + one.held[kind], 0)
        expect(sum(kind)).toBeGreaterThanOrEqual(held)
        expect(sum(kind)).toBeLessThanOrEqual(held + waiting[kind])
      }
      const after = workers.map(one => ({ ...one, held: found.get(one.owner)! }))
      const load = ({ held }: Presence) => held.source + held.sink
      for (const one of after) expect(load(one), `seed ${seed}`).toBeLessThanOrEqual(one.concurrency)
      for (const kind of ['source', 'sink'] as const)
        for (const from of after.filter(one => one.held[kind] > 0))
          for (const to of after.filter(one => one.kinds.includes(kind) && load(one) < one.concurrency))
            expect(load(from) - load(to), `seed ${seed}`).toBeLessThan(2)
      expect(sharesOf({ workers: after, waiting: { source: 0, sink: 0 } }), `seed ${seed}`).toEqual(found)
    }
  })
})
