import { describe, expect, it } from 'vitest'
import { missingForKafka } from '../servers/kafka.ts'
import { missingForRedis } from '../servers/redis.ts'
import { missingFor } from '../servers/search.ts'
import { firstFound } from './check.ts'
import { failover, failoverSummary } from './failover.ts'

const missing = missingForKafka() ?? missingForRedis() ?? missingFor('elasticsearch-9')

describe.skipIf(missing !== null)(missing === null ? 'failover' : `failover: ${missing}`, () => {
  it('three minutes of kill -9 of brokers, Redis, database, cluster, hub and workers: nothing lost, doubled or gone back', async () => {
    const report = await failover(3, 5, () => {})
    console.log(failoverSummary(report))
    const found = firstFound(report)
    expect(found, found.join('\n')).toEqual([])
    expect(report.changes).toBeGreaterThan(1_000)
    expect(report.rows).toBeGreaterThan(10_000)
    expect(report.documents).toBeGreaterThan(10_000)
    expect([...report.troubles.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(5)
  }, 900_000)
})
