/** How the cases of sinks write: to writers that are closed before the next case, and batches that must be taken whole. */
import { expect } from 'vitest'
import type { Context, Writer } from '../../core/connector.ts'
import type { LogRecord } from '../../core/record.ts'
import { testContext } from '../conform/context.ts'
import { batchOf } from '../conform/kit-table.ts'

export interface Writers {
  open(options?: object, context?: Partial<Context>): Promise<Writer>
  closeAll(): Promise<void>
}

export function writersOf(open: (options: object, context: Context) => Promise<Writer>): Writers {
  const opened: Writer[] = []
  return {
    async open(options = {}, context = {}) {
      const writer = await open(options, testContext(context))
      opened.push(writer)
      return writer
    },
    async closeAll() {
      for (const writer of opened.splice(0)) await writer[Symbol.asyncDispose]()
    },
  }
}

export const write = async (writer: Writer, ...records: LogRecord[]): Promise<void> =>
  expect(await writer.write(batchOf(records))).toEqual([])
