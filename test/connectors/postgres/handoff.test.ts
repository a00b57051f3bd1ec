import { expect, it } from 'vitest'
import type { ChunkServer } from '../../../connectors/postgres/chunk.ts'
import { handoffOf } from '../../../connectors/postgres/handoff.ts'
import { runHandoff } from '../../sim/handoff.ts'

const SEEDS = Number(process.env.MILLRACE_SEEDS ?? 300)

it(`hands over from snapshot to stream without loss, double or step back: ${SEEDS} seeds (H1 to H5, H10)`, async () => {
  let records = 0
  for (let seed = 1; seed <= SEEDS; seed++) records += (await runHandoff(seed)).records
  expect(records).toBeGreaterThan(SEEDS)
}, 120_000)

it('a table that is gone is no snapshot: what others must see stays on the list (H1, H2)', async () => {
  const fill = { nodes: { 1: 1 }, shape: 's', left: [[1, 0, 100]] as const }
  const handoff = handoffOf({ 'public.gone': fill }, [5n], {
    chunkRows: 10,
    maxBytes: 1_000,
    parallel: 1,
    firstBlocks: 1,
    session: 'x',
    nearMs: 1_000,
    maxRemembered: 100,
  })
  let stopped = false
  const server: ChunkServer = {
    async begin() {
      return { snapshot: { sees: () => true }, found: null, copy: async () => null, async end() {} }
    },
    emit: async token => handoff.message(token),
    async plan() {
      stopped = true // before the plan is known to be empty, which ends the fill and with it the list
      return fill
    },
    nowMs: () => 0,
    sleep: async () => {},
  }
  await handoff.run(
    server,
    () => {},
    () => stopped,
  )
  expect(handoff.unseen()).toEqual([5n])
})
