/**
 * A model of what of PostgreSQL the handoff rests on, small enough to be run through every interleaving by seed:
 *
 *   - a transaction's commit is *decoded* at once, in commit order, but becomes *visible* to snapshots some time later
 *     (it waits for its synchronous standby); what it locks stays locked until then
 *   - a snapshot is a set of visible transactions; rows have addresses, an update moves a row to another address
 *   - TRUNCATE and rewrites (ALTER TYPE, VACUUM FULL) wait for readers that hold the table's lock, change the file node, and
 *     are not MVCC-safe: an older snapshot finds the table empty; VACUUM FULL is not in the stream at all
 *   - messages are transactions of their own, visible at once (synchronous_commit = local)
 *
 * The table holds key → seq; each change of a key raises seq by one, deletes included.
 */
import type { ChunkRows, ChunkServer, ChunkSession } from '../../connectors/postgres/chunk.ts'
import type { Fill, TidRange } from '../../connectors/postgres/position.ts'
import type { Random } from './random.ts'

export const MODEL_TABLE = 'sim.rows'

export type ModelChange =
  | { readonly kind: 'set'; readonly key: number; readonly seq: number }
  | { readonly kind: 'delete'; readonly key: number; readonly seq: number }
  | { readonly kind: 'truncate' }
  | { readonly kind: 'shape' }
  | { readonly kind: 'message'; readonly token: string }

export interface ModelTransaction {
  readonly xid: bigint
  /** Commit record; the end is one more. */
  readonly commitLsn: bigint
  readonly changes: readonly ModelChange[]
}

interface Version {
  readonly key: number
  readonly seq: number
  readonly address: number
  readonly xmin: bigint
  xmax: bigint | null
}

export interface Model extends ChunkServer {
  /** The change log, in commit order. */
  readonly wal: readonly ModelTransaction[]
  /** One random thing happens: a transaction commits, one becomes visible, a rewrite. */
  shake(): void
  /** The client was killed: its sessions end. */
  disconnect(): void
  /** Nothing is held back any more. */
  settleDown(): void
  /** Highest seq by key ever given. */
  readonly seqs: ReadonlyMap<number, number>
  /** The table as a new snapshot sees it. */
  rows(): ReadonlyMap<number, number>
  firstPlan(): Fill
  /** Committed, and visible to nobody yet. */
  running(): readonly bigint[]
}

const BLOCKS = 40
const FIRST_XID = 100n

export interface ModelOptions {
  readonly random: Random
  readonly pause: () => Promise<void>
  readonly sleep: (ms: number) => Promise<void>
  readonly nowMs: () => number
  readonly keys: number
  readonly ddl: boolean
  readonly slowCommits: boolean
}

export function modelOf({ random, pause, sleep, nowMs, keys, ddl, slowCommits }: ModelOptions): Model {
  let versions: Version[] = []
  let node = 1
  let shape = 1
  /** Versions from before the last rewrite or truncate are not found by anybody who looks later. */
  let epoch = 0
  let nextXid = FIRST_XID
  let lsn = 1000n
  let locks = 0
  const wal: ModelTransaction[] = []
  const invisible = new Set<bigint>()
  const lockedKeys = new Map<number, bigint>()
  const seqs = new Map<number, number>()
  const address = () => random.int(0, BLOCKS - 1) * 4096 + random.int(1, 50)
  const raise = (key: number): number => {
    const seq = (seqs.get(key) ?? 0) + 1
    seqs.set(key, seq)
    return seq
  }
  const commit = (xid: bigint, changes: readonly ModelChange[]): void => {
    lsn += 10n
    wal.push({ xid, commitLsn: lsn, changes })
  }
  const current = (key: number) => versions.find(one => one.key === key && one.xmax === null)
  const put = (key: number, xid: bigint): ModelChange => {
    const old = current(key)
    if (old) old.xmax = xid
    const seq = raise(key)
    versions.push({ key, seq, address: address(), xmin: xid, xmax: null })
    return { kind: 'set', key, seq }
  }
  const remove = (key: number, xid: bigint): ModelChange | null => {
    const old = current(key)
    if (!old) return null
    old.xmax = xid
    return { kind: 'delete', key, seq: raise(key) }
  }
  const write = (): void => {
    const xid = nextXid++
    const changes: ModelChange[] = []
    const mine: number[] = []
    for (let i = random.int(1, 5); i > 0; i--) {
      const key = random.int(1, keys)
      if (lockedKeys.has(key) && lockedKeys.get(key) !== xid) continue // it would wait for the other's commit to be visible
      lockedKeys.set(key, xid)
      mine.push(key)
      const change = random.chance(0.25) ? remove(key, xid) : put(key, xid)
      if (change) changes.push(change)
    }
    const release = () => {
      for (const key of mine) lockedKeys.delete(key)
    }
    if (changes.length === 0) {
      release()
      return
    }
    commit(xid, changes)
    if (slowCommits && random.chance(0.3)) invisible.add(xid)
    else release()
  }
  /** An AccessExclusiveLock waits for readers and writers, and whoever comes meanwhile waits behind it. */
  let wanted = false
  const rewrite = (): void => {
    wanted = locks > 0 || invisible.size > 0
    if (wanted) return
    const xid = nextXid++
    const kind = random.pick(['truncate', 'alter', 'vacuum'] as const)
    node++
    epoch++
    if (kind === 'truncate') {
      versions = []
      commit(xid, [{ kind: 'truncate' }])
    } else {
      versions = versions.filter(one => one.xmax === null).map(one => ({ ...one, address: address() }))
      if (kind === 'alter') shape++
    }
  }
  let toldShape = 1
  const snapshotNow = () => {
    const hidden = new Set(invisible)
    const horizon = nextXid
    return { sees: (xid: bigint) => xid < horizon && !hidden.has(xid) }
  }
  const planNow = (): Fill => ({ nodes: { 1: node }, shape: String(shape), left: [[1, 0, BLOCKS * 4096]] })
  const reveal = (xid: bigint) => {
    invisible.delete(xid)
    for (const [key, owner] of lockedKeys) if (owner === xid) lockedKeys.delete(key)
  }
  const begin = async (): Promise<ChunkSession> => {
    await pause()
    while (wanted) await pause()
    locks++
    await pause()
    const snapshot = snapshotNow()
    const taken = epoch
    const found = { nodes: { 1: node }, shape: String(shape) }
    let ended = false
    return {
      snapshot,
      found,
      async copy([, from, to]: TidRange, maxRows): Promise<ChunkRows | null> {
        const visible = versions.filter(
          one => snapshot.sees(one.xmin) && (one.xmax === null || !snapshot.sees(one.xmax)),
        )
        for (let i = random.int(0, 6); i > 0; i--) await pause()
        if (taken !== epoch) throw new Error('the model let a rewrite through while a reader held the lock')
        const rows = visible.filter(one => one.address >= from && one.address < to)
        if (rows.length > maxRows) return null
        return {
          keys: rows.map(one => `{"id":${one.key}}`),
          rows: rows.map(one => `{"id":${one.key},"seq":${one.seq}}`),
          bytes: rows.length * 20,
        }
      },
      async end() {
        if (!ended) locks--
        ended = true
        await pause()
      },
    }
  }
  for (let key = 1; key <= keys; key++) if (random.chance(0.7)) put(key, 1n)
  for (const key of [...seqs.keys()]) seqs.set(key, current(key)?.seq ?? 0)
  return {
    wal,
    seqs,
    begin,
    async emit(token) {
      await pause()
      commit(nextXid++, [{ kind: 'message', token }])
      await pause()
    },
    async plan() {
      await pause()
      return planNow()
    },
    firstPlan: planNow,
    running: () => [...invisible],
    nowMs,
    sleep,
    shake() {
      if (ddl && (wanted || random.chance(0.06))) rewrite()
      if (wanted && invisible.size === 0) return
      if (invisible.size > 0 && random.chance(wanted ? 0.5 : 0.15)) reveal(random.pick([...invisible]))
      else if (!wanted) {
        // A Relation message comes before the first change under the new shape.
        if (toldShape !== shape) commit(nextXid++, [{ kind: 'shape' }])
        toldShape = shape
        write()
      }
    },
    settleDown() {
      for (const xid of [...invisible]) reveal(xid)
      if (wanted) rewrite()
    },
    disconnect() {
      locks = 0
    },
    rows() {
      const snapshot = snapshotNow()
      return new Map(
        versions
          .filter(one => snapshot.sees(one.xmin) && (one.xmax === null || !snapshot.sees(one.xmax)))
          .map(one => [one.key, one.seq]),
      )
    },
  }
}
