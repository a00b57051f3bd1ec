/** A log on a simulated disk, and changes to put into it: what the tests of the embedded log share. */
import type { Context } from '../../../core/connector.ts'
import { type FileLog, openFileLog } from '../../../core/log/file.ts'
import type { LogOffset } from '../../../core/log/log.ts'
import type { ChangeRecord, LogRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { change as kitChange } from '../../conform/log.ts'
import { type SimDisk, simDisk } from '../../sim/disk.ts'
import { randomOf } from '../../sim/random.ts'

export const DIRECTORY = '/log'
export const silent = { debug() {}, info() {}, warn() {}, error() {} }
export const NOW_US = 1_750_000_000_000_000
export const clock = { nowUs: () => NOW_US, monotonicMs: () => 0, sleep: async () => {} }

/** The kit's, all of one moment: golden files hold it. */
export const change = (id: number, over: Partial<ChangeRecord> = {}): ChangeRecord =>
  kitChange(id, { commitMs: 1_700_000_000_000, ...over })

export type Over = Partial<Parameters<typeof openFileLog>[0]>
export const openOn = (disk: SimDisk, over: Over = {}): Promise<FileLog> =>
  openFileLog({
    directory: DIRECTORY,
    disk: disk.mount(async () => {}),
    clock,
    log: silent,
    name: 'kit',
    partitions: 1,
    compression: 'lz4',
    limitBytes: Number.POSITIVE_INFINITY,
    lingerMs: 0,
    batchBytes: 1e6,
    ...over,
  })
export const source = (over: Partial<Context> = {}) =>
  testContext({ pipeline: 'kit', task: 'kit/source', clock, ...over })
export const newDisk = () => simDisk(randomOf(1).next)

export async function all(log: FileLog, partition = 0, from: LogOffset | null = null): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  await using reader = await log.reader({
    consumer: 'test',
    partition,
    from: from as never,
    signal: new AbortController().signal,
    untilEnd: true,
  })
  for await (const batch of reader) records.push(...batch.records)
  return records
}

export const segmentPath = (number: number) => `${DIRECTORY}/${String(number).padStart(20, '0')}.seg`
