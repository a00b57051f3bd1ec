/** A sink that keeps its position, on a server that is killed under it three times: whoever opens anew finds position and rows of the same moment. */
import { expect } from 'vitest'
import type { Context, Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { LogOffset } from '../../core/log/log.ts'
import { testContext } from './context.ts'
import { batchOf, KIT_TOPIC, recordOf } from './kit-table.ts'

export interface KilledSink {
  readonly server: { kill9(): Promise<void>; start(): Promise<void> }
  open(context: Context): Promise<Writer>
  /** How many rows there are, by the server's own means. */
  held(): Promise<number>
  /** Rows of each batch. */
  readonly rows: number
  /** When the server is killed, from the opening on. */
  readonly killMs: (round: number) => number
}

/** Writes until the first failure. Answers with it, and how many rows were acknowledged, those of before counted in. */
async function writeOn(writer: Writer, rows: number, before: number): Promise<[unknown, number]> {
  for (let done = before; ; done += rows)
    try {
      const batch = Array.from({ length: rows }, (_, i) =>
        recordOf({ op: 'r', id: done + i + 1, version: done + i + 1 }),
      )
      await writer.write(batchOf(batch))
    } catch (error) {
      return [error, done]
    }
}

export async function killThrice({ server, open, held, rows, killMs }: KilledSink): Promise<void> {
  let epoch = 1
  let done = 0
  for (let round = 0; round < 3; round++) {
    const writer = await open(testContext({ epoch: epoch++ }))
    const killing = new Promise(resolve => setTimeout(resolve, killMs(round))).then(() => server.kill9())
    const [failure, acknowledged] = await writeOn(writer, rows, done)
    expect(failure).toBeInstanceOf(ConnectorError)
    expect(failure).toMatchObject({ kind: 'unavailable' })
    await killing
    await writer[Symbol.asyncDispose]()
    await server.start()
    await using next = await open(testContext({ epoch: epoch++ }))
    const position = (await next.position!()) as unknown as LogOffset | null
    done = (position?.next[KIT_TOPIC] ?? 1) - 1
    expect(await held(), 'the position and the rows are of one moment').toBe(done)
    expect(done).toBeGreaterThanOrEqual(acknowledged)
  }
  expect(done).toBeGreaterThan(0)
}
