/** A look at all objects: which of them are to be read next, and which have to wait. */
import type { ReadFormat } from '../../core/format/reading.ts'
import { kindOfName } from '../../core/format/reading.ts'
import { type Done, folderOf } from './done.ts'
import type { ObjectSourceConfig } from './source-config.ts'
import type { Found, ReadableStore } from './store.ts'

export interface Look {
  /** In the order in which they are read. */
  readonly ready: readonly Found[]
  /** Names of those that are too young, and of what must not be read before them. */
  readonly waiting: ReadonlySet<string>
  /** There is more than `ready` has. */
  readonly isCut: boolean
  /** Not read, since a greater name of their folder was before they came. */
  readonly late: readonly string[]
  /** Of all that are there. */
  readonly youngestMs: number
}

/** What is held of a listing. */
const MOST_READY = 10_000
const MOST_LATE = 10

export interface LookOptions {
  readonly store: ReadableStore
  readonly done: Done
  readonly options: Pick<ObjectSourceConfig, 'order' | 'settle_ms'>
  readonly isWanted: (name: string) => boolean
  readonly nowMs: number
  /** By the look before; null: there was none. */
  readonly youngestMs: number | null
}

export async function look(given: LookOptions): Promise<Look> {
  const { store, done, isWanted, nowMs } = given
  const { order, settle_ms: settleMs } = given.options
  let ready: Found[] = []
  let isCut = false
  const late: string[] = []
  const waiting = new Set<string>()
  const held = new Set<string>()
  let youngestMs = 0
  for await (const page of store.list()) {
    for (const object of page) {
      if (!isWanted(object.name)) continue
      youngestMs = Math.max(youngestMs, object.modifiedMs)
      if (done.has(object)) {
        const isLate = order === 'name' && given.youngestMs !== null && object.modifiedMs > given.youngestMs
        if (isLate && late.length < MOST_LATE) late.push(object.name)
        continue
      }
      const folder = folderOf(object.name)
      if (nowMs - object.modifiedMs < settleMs || held.has(folder)) {
        waiting.add(object.name)
        if (order === 'name') held.add(folder) // those behind it wait, too
        continue
      }
      ready.push(object)
    }
    if (ready.length > 2 * MOST_READY) {
      ready = ready.sort(done.compare).slice(0, MOST_READY)
      isCut = true
      if (order === 'name') break // those to come are behind all of these
    }
  }
  ready.sort(done.compare)
  // Once some were left out, those that came afterwards may be behind them.
  if (isCut) ready = ready.slice(0, MOST_READY)
  return { ready, waiting, isCut, late, youngestMs }
}

/** What is being written, what is hidden, what others (and our own sinks, in `_millrace`) keep for themselves. */
const LEFT_OUT = /(?:^|\/)[._]|\.(?:tmp|part)$/

export function wanted({
  pattern,
  format,
}: {
  readonly pattern?: string | undefined
  readonly format?: ReadFormat | undefined
}): (name: string) => boolean {
  const fits = pattern === undefined ? null : globOf(pattern)
  return name => {
    if (LEFT_OUT.test(name)) return false
    if (fits) return fits.test(name)
    const kind = kindOfName(name)
    return kind !== null && (format === undefined || kind.format === format)
  }
}

/** `**` any characters, `*` any but /, `?` one of those. */
function globOf(pattern: string): RegExp {
  const body = pattern
    .split(/(\*\*\/?|\*|\?)/)
    .map(part =>
      part === '**/'
        ? '(?:.*/)?'
        : part === '**'
          ? '.*'
          : part === '*'
            ? '[^/]*'
            : part === '?'
              ? '[^/]'
              : part.replace(/[\\^$.|+()[\]{}]/g, '\\$&'),
    )
    .join('')
  return new RegExp(`^${pattern.includes('/') ? '' : '(?:.*/)?'}${body}$`, 'su')
}
