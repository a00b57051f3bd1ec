/**
 * How tasks are spread over the workers that are there: pure, so that each worker reckons the same from what all of them tell. Tasks that
 * wait go to whoever has the fewest; then one after the other moves from whoever has the most to whoever has the fewest, as long as that
 * makes the two more alike. So no more moves than must, and what moved does not move back.
 */
import type { Fleet, Presence, TaskKind } from '../queue/queue.ts'

export type Share = Readonly<Record<TaskKind, number>>

interface Load {
  readonly owner: string
  readonly kinds: readonly TaskKind[]
  readonly concurrency: number
  readonly of: Record<TaskKind, number>
}

const KINDS: readonly TaskKind[] = ['source', 'sink']
const loadOf = ({ owner, kinds, concurrency, held }: Presence): Load => ({
  owner,
  kinds,
  concurrency,
  of: { ...held },
})
const total = ({ of }: Load): number => of.source + of.sink
const hasRoom = (one: Load, kind: TaskKind): boolean =>
  one.kinds.includes(kind) && total(one) < one.concurrency

/** Tasks that each is to have, by owner. A worker with room for few has few; whose room is left is the same for all others. */
export function sharesOf({ workers, waiting }: Fleet): ReadonlyMap<string, Share> {
  // Sorted by name: among equals everybody must choose the same one.
  const loads = workers.map(loadOf).sort((a, b) => (a.owner < b.owner ? -1 : 1))
  for (const kind of KINDS)
    for (let left = waiting[kind]; left > 0; left--) {
      const to = fewest(loads, kind)
      if (!to) break
      to.of[kind]++
    }
  while (move(loads));
  return new Map(loads.map(({ owner, of }) => [owner, of]))
}

/** One move; false: none makes it better. */
function move(loads: readonly Load[]): boolean {
  let best: { from: Load; to: Load; kind: TaskKind } | null = null
  let gain = 1 // between loads that differ by one a move changes nothing
  for (const kind of KINDS) {
    const to = fewest(loads, kind)
    if (!to) continue
    for (const from of loads) {
      if (from.of[kind] === 0 || total(from) - total(to) <= gain) continue
      best = { from, to, kind }
      gain = total(from) - total(to)
    }
  }
  if (!best) return false
  best.from.of[best.kind]--
  best.to.of[best.kind]++
  return true
}

function fewest(loads: readonly Load[], kind: TaskKind): Load | null {
  let found: Load | null = null
  for (const one of loads) if (hasRoom(one, kind) && (!found || total(one) < total(found))) found = one
  return found
}
