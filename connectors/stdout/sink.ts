/** Prints each record as a line of JSON: {topic, partition, offset, version, key, value}. At least once; for people and pipes. */
import { once } from 'node:events'
import { z } from 'zod'
import { assertLease, type Context, defineSink, type Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { LogRecord } from '../../core/record.ts'

const config = z.strictObject({})

/** The value is the log's; key and value are JSON, not strings of JSON. */
const lineOf = (r: LogRecord): string => {
  const below = r.below === null ? '' : `,"below":${r.below}`
  const value = `{"op":"${r.op}","before":${r.before},"after":${r.after},"source":${r.source},"ts_ms":${r.readMs}${below}}`
  return `{"topic":${JSON.stringify(r.topic)},"partition":${r.partition},"offset":${r.offset},"version":${r.version},"key":${r.key},"value":${value}}\n`
}

export const stdout = defineSink({
  name: 'stdout',
  summary: 'Prints each record as a line of JSON on standard output.',
  config,
  examples: [{ title: 'Print every change', config: {} }],
  keyed: false,
  delivery: () => 'at_least_once',
  async check() {},
  async open(_, context: Context): Promise<Writer> {
    return {
      async write(batch) {
        assertLease(context)
        await print(batch.records.map(lineOf).join(''))
        return []
      },
      async [Symbol.asyncDispose]() {},
    }
  },
})

/** A reader that has gone (`| head`) is no fault of the data: the task waits as for any other sink that is away. */
async function print(text: string): Promise<void> {
  if (text === '') return
  if (process.stdout.destroyed || process.stdout.writableEnded)
    throw new ConnectorError('unavailable', 'standard output is closed')
  if (!process.stdout.write(text)) await once(process.stdout, 'drain')
}
