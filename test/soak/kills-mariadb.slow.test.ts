import { describe, expect, it } from 'vitest'
import { missingForMariadb } from '../servers/mariadb.ts'
import { firstFound } from './check.ts'
import { killRounds } from './kills.ts'
import { mariadbSink } from './sinks.ts'

const missing = missingForMariadb()

describe.skipIf(missing !== null)(`kill rounds into MariaDB${missing === null ? '' : `: ${missing}`}`, () => {
  it('8 rounds of kill -9, of the program, the database and MariaDB: nothing lost, doubled or gone back (P1, P2, S3)', async () => {
    const said: string[] = []
    await using sink = await mariadbSink()
    const report = await killRounds(8, 53, text => said.push(text), sink)
    const found = firstFound(report)
    expect(found, [...found, ...said].join('\n')).toEqual([])
    expect(report.rounds).toBe(8)
    expect(report.changes).toBeGreaterThan(1_000)
    expect(report.documents).toBeGreaterThan(10_000)
  }, 1_200_000)
})
