import { expect, it } from 'vitest'
import { firstFound } from './check.ts'
import { killRounds } from './kills.ts'

it('loses nothing, doubles nothing and never goes back in 20 rounds of kill -9, of the program and of the server (H1 to H10, J2, P1)', async () => {
  const said: string[] = []
  const report = await killRounds(20, 7, text => said.push(text))
  const found = firstFound(report)
  expect(found, [...found, ...said].join('\n')).toEqual([])
  expect(report.rounds).toBe(20)
  expect(report.kills.snapshot, JSON.stringify(report.kills)).toBeGreaterThan(0)
  expect(report.kills.stream, JSON.stringify(report.kills)).toBeGreaterThan(0)
  expect(report.changes).toBeGreaterThan(1_000)
  expect(report.rows).toBeGreaterThan(10_000)
}, 900_000)
