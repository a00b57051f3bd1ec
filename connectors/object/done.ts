/**
 * Which objects were read: what an offset says of them, bounded. Pure.
 *
 *   name       {"order":"name","after":{"orders/":"2026-01-31.jsonl","":"a.csv"}}      the last name read of each folder
 *   modified   {"order":"modified","before":1700000000000,"recent":[[1700000000500,"<digests>"],…]}
 *
 * By name, all up to the last one of its folder count as read. Of a folder, not of all: objects of Millrace rise by partition, and those of
 * tables by table, and one name for all would lose what comes in a folder behind which another was read.
 *
 * By time there is no such mark, as an object may come later than a younger one (one that is sent in parts has the time of their beginning).
 * So each read one is remembered by a digest of its name and version, for `late_ms` behind the youngest; all older than that count as read.
 * Of more than MOST_RECENT the oldest are forgotten, and what is as old as those counts as read; objects of the youngest time never are.
 */
import { createHash } from 'node:crypto'
import { ConnectorError } from '../../core/errors.ts'
import type { Json } from '../../core/record.ts'
import type { Found } from './store.ts'

export interface Done {
  has(object: Found): boolean
  add(object: Found): void
  /** Which is read first. */
  compare(a: Found, b: Found): number
  toJson(): { readonly [name: string]: Json }
}

type Saved = { readonly [name: string]: Json }

const HAS_BEYOND = /[\ud800-\uffff]/

/** As their UTF-8 bytes are ordered, which is how stores list. */
export function compareNames(a: string, b: string): number {
  if (HAS_BEYOND.test(a) || HAS_BEYOND.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b))
  return a < b ? -1 : a > b ? 1 : 0
}

export const folderOf = (name: string): string => name.slice(0, name.lastIndexOf('/') + 1)

/** Each stands in every offset. */
const MOST_FOLDERS = 5_000

export function doneByName(saved: Saved | null): Done {
  const after = new Map(Object.entries((saved?.after ?? {}) as Record<string, string>))
  return {
    has({ name }) {
      const folder = folderOf(name)
      const last = after.get(folder)
      return last !== undefined && compareNames(name.slice(folder.length), last) <= 0
    },
    add({ name }) {
      const folder = folderOf(name)
      after.set(folder, name.slice(folder.length))
      if (after.size > MOST_FOLDERS)
        throw new ConnectorError('config', `objects stand in more than ${MOST_FOLDERS} folders`, {
          hint: 'By name each is remembered. Set `order: modified` (and make the pipeline anew), or read less by `prefix`.',
        })
    },
    compare: (a, b) => compareNames(a.name, b.name),
    toJson: () => ({ order: 'name', after: Object.fromEntries(after) }),
  }
}

const MOST_RECENT = 10_000
/** Of a digest: 72 bits. */
const DIGEST_CHARACTERS = 12
const DIGESTS = /.{12}/g

const digestOf = ({ name, version, size }: Found): string =>
  createHash('sha256')
    .update(JSON.stringify([name, version, size]))
    .digest('base64url')
    .slice(0, DIGEST_CHARACTERS)

export function doneByTime(saved: Saved | null, lateMs: number): Done {
  let recent = new Map<string, number>()
  for (const [ms, digests] of (saved?.recent ?? []) as [number, string][])
    for (const digest of digests.match(DIGESTS) ?? []) recent.set(digest, ms)
  let beforeMs = (saved?.before as number | null | undefined) ?? Number.NEGATIVE_INFINITY
  let youngestMs = [...recent.values()].reduce((most, ms) => Math.max(most, ms), beforeMs)
  const forgetOldest = () => {
    const times = [...recent.values()].sort((a, b) => a - b)
    // Some more than must be, so that it is not done for each; those of one time go together.
    const cutMs = Math.min(times[Math.floor(times.length / 10)]!, youngestMs - 1)
    beforeMs = Math.max(beforeMs, cutMs + 1)
    recent = new Map([...recent].filter(([, ms]) => ms >= beforeMs))
  }
  return {
    has: object => object.modifiedMs < beforeMs || recent.has(digestOf(object)),
    add(object) {
      recent.set(digestOf(object), object.modifiedMs)
      youngestMs = Math.max(youngestMs, object.modifiedMs)
      beforeMs = Math.max(beforeMs, youngestMs - lateMs)
      if (recent.size > MOST_RECENT) forgetOldest()
    },
    compare: (a, b) => a.modifiedMs - b.modifiedMs || compareNames(a.name, b.name),
    toJson() {
      const byMs = new Map<number, string>()
      for (const [digest, ms] of recent)
        if (ms >= beforeMs) byMs.set(ms, (byMs.get(ms) ?? '') + digest)
        else recent.delete(digest)
      return {
        order: 'modified',
        before: Number.isFinite(beforeMs) ? beforeMs : null,
        recent: [...byMs],
      }
    },
  }
}
