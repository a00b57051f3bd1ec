import { expect, it } from 'vitest'
import { runHandoff } from '../../sim/handoff.ts'

const SEEDS = Number(process.env.MILLRACE_SEEDS ?? 300)

it(`hands over from snapshot to stream without loss, double or step back: ${SEEDS} seeds (H1 to H5, H10)`, async () => {
  let records = 0
  for (let seed = 1; seed <= SEEDS; seed++) records += (await runHandoff(seed)).records
  expect(records).toBeGreaterThan(SEEDS)
}, 120_000)
