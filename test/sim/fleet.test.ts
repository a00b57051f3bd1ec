import { expect, it } from 'vitest'
import { runFleetSeed } from './fleet.ts'

const SEEDS = Number(process.env.MILLRACE_FLEET_SEEDS ?? 100)

it(`keeps every change, once and in order, on a cluster and with workers that are killed, frozen and cut off, and a queue that forgets: ${SEEDS} seeds`, async () => {
  let kills = 0
  for (let seed = 1; seed <= SEEDS; seed++) kills += (await runFleetSeed(seed)).kills
  expect(kills).toBeGreaterThan(SEEDS / 2)
}, 600_000)
