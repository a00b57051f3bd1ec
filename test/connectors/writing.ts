/** How the cases of sinks write: to a place that is made anew for each of them, in batches that must be taken whole. */
import { afterAll, beforeEach, describe, expect } from 'vitest'
import type { Context, Writer } from '../../core/connector.ts'
import type { LogRecord } from '../../core/record.ts'
import { testContext } from '../conform/context.ts'
import { batchOf } from '../conform/kit-table.ts'

export interface Place {
  open(options?: object, context?: Partial<Context>): Promise<Writer>
  closeAll(): Promise<void>
  /** Closes the writers, and takes away what was written. */
  anew(): Promise<void>
}

export function placeOf(
  open: (options: object, context: Context) => Promise<Writer>,
  empty: () => Promise<unknown>,
): Place {
  const opened: Writer[] = []
  const closeAll = async () => {
    for (const writer of opened.splice(0)) await writer[Symbol.asyncDispose]()
  }
  return {
    async open(options = {}, context = {}) {
      const writer = await open(options, testContext(context))
      opened.push(writer)
      return writer
    },
    closeAll,
    async anew() {
      await closeAll()
      await empty()
    },
  }
}

/** Groups of cases by name. */
export function casesOn<P extends Place>(
  place: P,
  groups: Readonly<Record<string, (place: P) => void>>,
): void {
  for (const [name, cases] of Object.entries(groups))
    describe(name, () => {
      beforeEach(place.anew)
      afterAll(place.closeAll)
      cases(place)
    })
}

export const write = async (writer: Writer, ...records: LogRecord[]): Promise<void> =>
  expect(await writer.write(batchOf(records))).toEqual([])
