/**
 * A batch as steps in an order that keeps its meaning: runs of records between two sweeps (a sweep is a barrier, S3); in a run the last
 * record of each id wins, and deletes go before upserts, so that a value that moved from one row to another is free when it arrives.
 */
import { idOf } from '../../core/format/document.ts'
import { isMissingColumns, type LogRecord, originOf } from '../../core/record.ts'

export type Step<T> =
  | { readonly kind: 'remove' | 'append'; readonly target: T; readonly records: readonly LogRecord[] }
  | {
      readonly kind: 'upsert'
      readonly target: T
      readonly records: readonly LogRecord[]
      readonly isFresh: boolean
    }
  | { readonly kind: 'sweep'; readonly target: T; readonly origin: string; readonly below: number }

/** `named`: a target of one table of the database; targets of several shapes may share it. */
export interface Placed<T> {
  readonly target: T
  readonly named: string
}

const isGone = ({ op, after }: LogRecord): boolean => op === 'd' || after === null

export function upsertSteps<T>(
  records: readonly LogRecord[],
  placeOf: (record: LogRecord) => Placed<T>,
): Step<T>[] {
  const steps: Step<T>[] = []
  let run = new Map<string, Map<string, LogRecord>>()
  const flush = () => {
    for (const byId of run.values()) steps.push(...runSteps([...byId.values()], placeOf))
    run = new Map()
  }
  for (const record of records) {
    const { target, named } = placeOf(record)
    if (record.op === 'sweep') {
      flush()
      steps.push({ kind: 'sweep', target, origin: originOf(record), below: record.below! })
      continue
    }
    if (isMissingColumns(record)) continue
    let byId = run.get(named)
    if (!byId) {
      byId = new Map()
      run.set(named, byId)
    }
    byId.set(idOf(record), record)
  }
  flush()
  return steps
}

function runSteps<T>(records: readonly LogRecord[], placeOf: (record: LogRecord) => Placed<T>): Step<T>[] {
  const removes = grouped(records.filter(isGone), placeOf)
  const upserts = grouped(
    records.filter(record => !isGone(record)),
    placeOf,
  )
  return [
    ...removes.map(([target, list]) => ({ kind: 'remove' as const, target, records: list })),
    ...upserts.map(([target, list]) => ({
      kind: 'upsert' as const,
      target,
      records: list,
      isFresh: list.every(({ op }) => op === 'r' || op === 'c'),
    })),
  ]
}

/** Every change in its order; one whose columns are missing is left out, as its delete follows. */
export const appendSteps = <T>(
  records: readonly LogRecord[],
  placeOf: (record: LogRecord) => Placed<T>,
): Step<T>[] =>
  grouped(
    records.filter(record => !isMissingColumns(record)),
    placeOf,
  ).map(([target, list]) => ({ kind: 'append', target, records: list }))

function grouped<T>(
  records: readonly LogRecord[],
  placeOf: (record: LogRecord) => Placed<T>,
): [T, LogRecord[]][] {
  const byTarget = new Map<T, LogRecord[]>()
  for (const record of records) {
    const { target } = placeOf(record)
    const list = byTarget.get(target)
    if (list) list.push(record)
    else byTarget.set(target, [record])
  }
  return [...byTarget]
}
