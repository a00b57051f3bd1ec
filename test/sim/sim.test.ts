import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { runSeed } from './run.ts'

const SEEDS = Number(process.env.MILLRACE_SEEDS ?? 1_000)

it(`keeps every change, once and in order, through kills, lost answers, two owners, clock jumps, a disk that forgets and a log at its limit: ${SEEDS} seeds`, async () => {
  let kills = 0
  let detached = 0
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = await runSeed(seed)
    kills += outcome.kills
    detached += outcome.detached
  }
  expect(kills).toBeGreaterThan(SEEDS / 2)
  expect(detached).toBeGreaterThan(SEEDS / 20)
}, 600_000)

it('keeps every seed that ever failed', async () => {
  const seeds = readFileSync(new URL('./seeds.txt', import.meta.url), 'utf8')
    .split('\n')
    .filter(line => /^\d/.test(line))
  for (const line of seeds) await runSeed(Number.parseInt(line, 10))
  expect(seeds.length).toBeGreaterThan(0)
}, 60_000)
