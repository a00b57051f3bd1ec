import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { runFleetSeed } from './fleet.ts'

const SEEDS = Number(process.env.MILLRACE_FLEET_SEEDS ?? 100)

it(`keeps every change, once and in order, on a cluster and with workers that are killed, frozen and cut off, and a queue that forgets: ${SEEDS} seeds`, async () => {
  let kills = 0
  for (let seed = 1; seed <= SEEDS; seed++) kills += (await runFleetSeed(seed)).kills
  expect(kills).toBeGreaterThan(SEEDS / 2)
}, 600_000)

it('keeps every seed that ever failed', async () => {
  const seeds = readFileSync(new URL('./seeds.txt', import.meta.url), 'utf8')
    .split('\n')
    .filter(line => line.startsWith('fleet '))
  for (const line of seeds) await runFleetSeed(Number.parseInt(line.slice('fleet '.length), 10))
  expect(seeds.length).toBeGreaterThan(0)
}, 60_000)
