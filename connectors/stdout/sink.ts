/** Prints each record as a line of JSON: {topic, partition, offset, version, key, value}. At least once; for people and pipes. */
import { fstatSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { z } from 'zod'
import { assertLease, type Context, defineSink, type Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { LogRecord } from '../../core/record.ts'
import { encodeValue } from '../../core/row.ts'

const config = z.strictObject({})

/** The value is the log's; key and value are JSON, not strings of JSON. */
const lineOf = (r: LogRecord): string =>
  `{"topic":${JSON.stringify(r.topic)},"partition":${r.partition},"offset":${r.offset},"version":${r.version},"key":${r.key},"value":${encodeValue(r, r.version)}}\n`

export const stdout = defineSink({
  name: 'stdout',
  summary: 'Prints each record as a line of JSON on standard output.',
  config,
  examples: [{ title: 'Print every change', config: {} }],
  keyed: () => false,
  delivery: () => 'at_least_once',
  async check() {},
  open: async (_, context) => writerTo(standardOutput(), context),
})

let output: Writable | null = null

/**
 * Node writes to a pipe synchronously: one that nobody reads would stop the whole process, its leases and its sources. A socket on
 * the same descriptor waits instead. A file or a terminal stays what it is.
 */
function standardOutput(): Writable {
  if (output) return output
  const kind = fstatSync(1)
  output =
    kind.isFIFO() || kind.isSocket() ? new Socket({ fd: 1, readable: false, writable: true }) : process.stdout
  output.on('error', () => {}) // told by the write that meets it
  return output
}

export function writerTo(stream: Writable, context: Context): Writer {
  return {
    async write(batch) {
      assertLease(context)
      await print(stream, batch.records.map(lineOf).join(''), context.signal)
      return []
    },
    async [Symbol.asyncDispose]() {},
  }
}

/**
 * Resolves when the operating system has it: what waits in this process would be lost with it. A reader that has gone (`| head`) is
 * no fault of the data: the task waits as for any other sink that is away.
 */
function print(stream: Writable, text: string, signal: AbortSignal): Promise<void> {
  if (text === '') return Promise.resolve()
  return new Promise((resolve, reject) => {
    const closed = (cause?: unknown) =>
      reject(new ConnectorError('unavailable', 'standard output is closed', { cause }))
    const onStop = () =>
      reject(new ConnectorError('unavailable', 'stopped while standard output was not read'))
    if (stream.destroyed || stream.writableEnded) return closed()
    signal.addEventListener('abort', onStop, { once: true })
    stream.write(text, error => {
      signal.removeEventListener('abort', onStop)
      if (error) closed(error)
      else resolve()
    })
  })
}
