import { describe, expect, it } from 'vitest'
import { missingFor } from '../servers/search.ts'
import { firstFound } from './check.ts'
import { killRounds } from './kills.ts'
import { searchSink } from './sinks.ts'

const KIND = 'elasticsearch-9'
const missing = missingFor(KIND)

describe.skipIf(missing !== null)(`kill rounds into ${KIND}${missing === null ? '' : `: ${missing}`}`, () => {
  it('20 rounds of kill -9, of the program, the database and the cluster: nothing lost, doubled or gone back (V4, S3)', async () => {
    const said: string[] = []
    await using sink = await searchSink(KIND)
    const report = await killRounds(20, 11, text => said.push(text), sink)
    const found = firstFound(report)
    expect(found, [...found, ...said].join('\n')).toEqual([])
    expect(report.rounds).toBe(20)
    expect(report.sinkKills + report.sinkFreezes).toBeGreaterThan(0)
    expect(report.changes).toBeGreaterThan(1_000)
    expect(report.documents).toBeGreaterThan(10_000)
  }, 1_200_000)
})
