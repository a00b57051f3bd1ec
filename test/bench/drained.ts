/** The log into a sink, by the real reader, pump and writer; what a bench measures beside a limit. */
import type { Sink } from '../../core/connector.ts'
import { prefetched } from '../../core/flow.ts'
import type { FileLog } from '../../core/log/file.ts'
import { pump } from '../../core/pump.ts'
import { contextOf, forEver, spend, type Took } from './filled-log.ts'
import { line, procOf } from './report.ts'

const NOTHING_DEAD = {
  add: async () => {
    throw new Error('a record was refused')
  },
}
const NO_PROGRESS = { load: async () => null, save: async () => {} }

let runs = 0

/** All `records` of the log into a sink that keeps its position. */
export async function drained(log: FileLog, sink: Sink, options: object, records: number): Promise<Took> {
  const run = ++runs
  const context = { ...contextOf(run), task: `shop/${sink.name}-${run}/0` }
  return spend(async () => {
    await using writer = await sink.open(sink.config.parse(options) as never, context)
    await using reader = await log.reader({
      consumer: `bench-${run}`,
      partition: 0,
      from: null,
      signal: forEver,
      untilEnd: true,
      ...(sink.batch ? { maxRecords: sink.batch.records, maxBytes: sink.batch.bytes } : {}),
    })
    await pump(prefetched(reader), writer, NO_PROGRESS, NOTHING_DEAD)
    const position = (await writer.position!()) as { next: Record<string, number> }
    if (Object.values(position.next)[0] !== records) throw new Error('not all was written')
  })
}

const rate = ({ seconds }: Took, records: number) => records / seconds
const cpu = ({ cpuSeconds }: Took, records: number) =>
  `${((cpuSeconds / records) * 1e6).toFixed(1)} CPU s a million`

export const limitLine = (what: string, took: Took, records: number): void =>
  line(`limit: ${what}`, rate(took, records), cpu(took, records))

/** As a share of what `of` took. */
export function shareLine(what: string, took: Took, of: Took, records: number, ofWhat = 'the limit'): void {
  const share = Math.round((100 * rate(took, records)) / rate(of, records))
  const peak = procOf(process.pid)?.peakMb
  line(
    `millrace: ${what}`,
    rate(took, records),
    `${cpu(took, records)}; ${share} % of ${ofWhat}; peak ${peak} MB`,
  )
}
