/**
 * A sink that keeps its position, cut before and behind every call to its server, and slowed: whoever opens anew goes on from the position
 * it finds, and in the end the target holds what the records say, each once.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Batch, Writer } from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'
import type { LogOffset } from '../../core/log/log.ts'
import { type Cut, startWireProxy, type WireProxy } from '../servers/wire-proxy.ts'
import { testContext } from './context.ts'
import { batchOf, recordOf, WIDER_TABLE } from './kit-table.ts'
import type { SinkTarget } from './sink.ts'

export interface CutKit {
  readonly name: string
  /** Where the server listens. */
  port(): number
  /** A new, empty target, which writers reach by way of this port. */
  target(port: number): Promise<SinkTarget>
  /** The proxy's own port, where the server has to know it. */
  readonly proxyPort?: () => number
  /** Rows of what was deleted remain, with the document null. */
  readonly keepsDeleted?: boolean
}

const wide = (id: number, version: number) => ({
  ...recordOf({ id, version, row: `{"id":${id},"name":"w","price":"2.00","more":"m${version}"}` }),
  table: WIDER_TABLE,
})

const BATCHES: readonly Batch[] = [
  batchOf([1, 2, 3, 4, 5].map(id => recordOf({ id, op: 'c', version: id }))),
  batchOf([
    recordOf({ id: 2, name: 'b', version: 6 }),
    recordOf({ id: 3, op: 'd', version: 7 }),
    recordOf({ id: 6, op: 'c', version: 8 }),
    recordOf({ id: 2, name: 'c', version: 9 }),
  ]),
  batchOf([wide(4, 10), wide(7, 11)]),
  batchOf([recordOf({ op: 'sweep', below: 6, version: 12 }), recordOf({ id: 8, op: 'c', version: 13 })]),
]
/** Of ids 1 and 5 the sweep leaves nothing, 3 was deleted. */
const LEFT = { 2: 9, 4: 10, 6: 8, 7: 11, 8: 13 }
const MOST_LIVES = 12

/** One owner after another until all is written. Answers with how many there were. */
async function liveThrough(target: SinkTarget): Promise<number> {
  for (let epoch = 1; epoch <= MOST_LIVES; epoch++) {
    let writer: Writer | null = null
    try {
      writer = await target.open(testContext({ epoch, task: 'kit/cut/0' }))
      const position = (await writer.position!()) as unknown as LogOffset | null
      const next = position?.next['kit.test.kit'] ?? 0
      for (const batch of BATCHES)
        if (Number((batch.offset as unknown as LogOffset).next['kit.test.kit']) > next)
          expect(await writer.write(batch)).toEqual([])
      return epoch
    } catch (error) {
      // An epoch that was stored by an owner whose answer was lost is no fault either.
      if (error instanceof Fenced) continue
      expect(error).toBeInstanceOf(ConnectorError)
      expect(error, (error as Error).message).toMatchObject({ kind: 'unavailable' })
    } finally {
      await writer?.[Symbol.asyncDispose]()
    }
  }
  throw new Error(`${MOST_LIVES} owners did not bring it to an end`)
}

export function cutConformance(kit: CutKit): void {
  describe(`${kit.name}: cut and slowed`, () => {
    let proxy: WireProxy
    beforeAll(async () => {
      proxy = await startWireProxy(kit.port(), kit.proxyPort?.())
    })
    afterAll(() => proxy?.[Symbol.asyncDispose]())

    const run = async (cut: Cut | null, delayMs = 0): Promise<number> => {
      await using target = await kit.target(proxy.port)
      proxy.arm(cut, delayMs)
      const lives = await liveThrough(target)
      const what = cut ? `cut ${cut.where} call ${cut.call}` : 'not cut'
      const rows = await target.rows()
      const isLeft = ([, { document }]: readonly [string, { document: unknown }]) =>
        !kit.keepsDeleted || document !== null
      const versions = Object.fromEntries(
        [...rows].filter(isLeft).map(([id, { version }]) => [id, version] as const),
      )
      expect(versions, what).toEqual(kit.keepsDeleted ? { 1: 1, 5: 5, ...LEFT } : LEFT)
      expect((rows.get('2')!.document as { name?: unknown }).name, what).toBe('c')
      return lives
    }

    for (const where of ['before', 'behind'] as const)
      it(`${where} every call: nothing is lost, doubled or set back`, async () => {
        expect(await run(null)).toBe(1)
        const calls = proxy.calls()
        expect(calls).toBeGreaterThan(BATCHES.length)
        let cuts = 0
        for (let call = 0; call < calls; call++) {
          await run({ call, where })
          if (proxy.wasCut()) cuts++
        }
        expect(cuts, 'calls that were cut').toBeGreaterThan(0.8 * calls)
      })

    it('slow: each answer comes late', async () => {
      expect(await run(null, 30)).toBe(1)
    })
  })
}
