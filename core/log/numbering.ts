/**
 * How the one writer of a log numbers its records (V1) and where it puts them: the part that every log driver shares, so that the
 * same batches give the same topics, partitions, order and values in each.
 */
import { ConnectorError, Fenced } from '../errors.ts'
import { partitionOf } from '../kafka/partition.ts'
import type { ChangeRecord, Table } from '../record.ts'
import { topicOf } from './log.ts'

const DAY_US = 86_400_000_000

/** Each table's topic, looked up by identity: records of a shape share their table. */
export function topicsOf(pipeline: string): (table: Table) => string {
  const known = new WeakMap<Table, string>()
  return table => {
    let topic = known.get(table)
    if (topic === undefined) {
      topic = topicOf(pipeline, table)
      known.set(table, topic)
    }
    return topic
  }
}

/** `version`: the record's own; `below`: what a sweep's -1 stands for. */
export type Put = (record: ChangeRecord, partition: number, version: number, below: number) => void

/**
 * Numbers records in log order, `max(last + 1, microseconds of the clock)`; a sweep goes to every partition, all copies with the
 * first one's number as `below` (S1). Answers with the last number given.
 */
export function numbered(
  records: readonly ChangeRecord[],
  previous: number,
  nowUs: number,
  partitions: number,
  put: Put,
): number {
  let last = previous
  for (const record of records) {
    last = Math.max(last + 1, nowUs)
    if (record.op !== 'sweep')
      put(record, record.table.key.length === 0 ? 0 : partitionOf(record.key, partitions), last, last)
    else {
      const below = last // of all its copies the smallest number
      for (let partition = 0; partition < partitions; partition++)
        put(record, partition, partition === 0 ? last : ++last, below)
    }
  }
  if (last > Number.MAX_SAFE_INTEGER)
    throw new ConnectorError('config', `versions have passed 2^53 (${last})`, {
      hint: 'Start the pipeline anew: millrace delete NAME --yes.',
    })
  return last
}

/** V3: a number that is a day ahead of the clock would number the log into the future. */
export function refuseFuture(task: string, last: number, nowUs: number): void {
  if (last <= nowUs + DAY_US) return
  throw new ConnectorError(
    'config',
    `the last version of ${task} is ${last}, more than a day ahead of this machine's clock (${nowUs})`,
    {
      hint: "Set the machine's clock. Versions are microseconds: a clock that was ahead has numbered the log into the future.",
    },
  )
}

/** P2, L1: whoever comes must come with a higher epoch than anybody before. */
export function refuseOlder(task: string, epoch: number, newest: number): void {
  if (epoch <= newest) throw new Fenced(`${task} has a newer owner, epoch ${newest}`, newest)
}
