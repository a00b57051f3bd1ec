/**
 * The upstream of a simulation: record n is a pure function of (seed, n), so that "every change exactly once" can be checked,
 * and it forgets what it was told to forget: whoever then goes on below that has lost data, and the check of the log finds it.
 */
import type { Batch, Offset, Reader } from '../../core/connector.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { type Random, randomOf } from './random.ts'

export interface LedgerOptions {
  readonly seed: number
  readonly changes: number
  readonly keys: number
  /** One in so many records cannot be taken by the sinks. 0: none. */
  readonly badEvery: number
  /** One in so many is a sweep of the whole table (TRUNCATE). 0: none. */
  readonly sweepEvery: number
}

export const TABLES: readonly Table[] = ['accounts', 'orders'].map(name => ({
  schema: 'sim',
  name,
  key: ['id'],
  columns: [
    { name: 'id', type: 'int8' },
    { name: 'n', type: 'int8' },
  ],
}))

export interface LedgerRecord extends ChangeRecord {
  readonly n: number
  readonly isBad: boolean
}

export function ledgerRecord(options: LedgerOptions, n: number): LedgerRecord {
  const random = randomOf(options.seed * 1_000_003 + n)
  const table = random.pick(TABLES)
  const isSweep = options.sweepEvery > 0 && random.int(1, options.sweepEvery) === 1
  const isBad = !isSweep && options.badEvery > 0 && random.int(1, options.badEvery) === 1
  const id = random.int(1, options.keys)
  const deletes = random.chance(0.2)
  return {
    op: isSweep ? 'sweep' : deletes ? 'd' : 'u',
    table,
    key: isSweep ? `{"sweep":"sim.${table.name}"}` : `{"id":${id}}`,
    before: null,
    after: isSweep || deletes ? null : `{"id":${id},"n":${n},"pad":"${'x'.repeat(random.int(0, 60))}"}`,
    source: `{"n":${n},"bad":${isBad}}`,
    commitMs: n,
    readMs: n,
    below: isSweep ? -1 : null,
    n,
    isBad,
  }
}

export const nOf = (record: ChangeRecord): number => (JSON.parse(record.source) as { n: number }).n
export const isBad = (record: ChangeRecord): boolean => record.source.includes('"bad":true')

/** What every sink must hold in the end: `<table>/<id>` → n of the last change. */
export function expectedRows(options: LedgerOptions): Map<string, number> {
  const rows = new Map<string, number>()
  for (let n = 0; n < options.changes; n++) {
    const record = ledgerRecord(options, n)
    if (record.isBad) continue
    const { id } = JSON.parse(record.key) as { id?: number }
    const row = `${record.table.name}/${id}`
    if (record.op === 'sweep')
      for (const key of [...rows.keys()]) key.startsWith(`${record.table.name}/`) && rows.delete(key)
    else if (record.op === 'd') rows.delete(row)
    else rows.set(row, n)
  }
  return rows
}

export interface Ledger {
  open(from: Offset | null): Reader<ChangeRecord>
  /** Everything below was let go by a commit. */
  forgotten(): number
}

/** `pause`: some other time, perhaps never (the caller's process was killed). */
export function ledgerOf(
  options: LedgerOptions,
  random: Random,
): Ledger & { reader(from: Offset | null, pause: () => Promise<void>): Reader<ChangeRecord> } {
  let forgotten = 0
  const reader = (from: Offset | null, pause: () => Promise<void>): Reader<ChangeRecord> => {
    // What was let go cannot be had again. Who is fenced may open at an old place, and must not get anything written.
    let next = Math.max(forgotten, from === null ? 0 : (from as { next: number }).next)
    return {
      async *[Symbol.asyncIterator](): AsyncGenerator<Batch<ChangeRecord>> {
        while (next < options.changes) {
          await pause()
          const count = random.chance(0.1) ? 0 : random.int(1, 7)
          const records: ChangeRecord[] = []
          for (; records.length < count && next < options.changes; next++) {
            const { n: _, isBad: __, ...record } = ledgerRecord(options, next)
            records.push(record)
          }
          yield { records, offset: { next } }
        }
      },
      async commit(offset) {
        forgotten = Math.max(forgotten, (offset as { next: number }).next)
      },
      async [Symbol.asyncDispose]() {},
    }
  }
  return { reader, open: from => reader(from, async () => {}), forgotten: () => forgotten }
}
