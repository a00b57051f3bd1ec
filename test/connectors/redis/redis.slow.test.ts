/** The Redis sink on real servers: the kits, and the cases of structures, faults and a cluster. */
import { afterAll, beforeAll, describe } from 'vitest'
import { redis } from '../../../connectors/redis/sink.ts'
import { cutConformance } from '../../conform/cuts.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { appendingSinkConformance, keyedSinkConformance } from '../../conform/sink.ts'
import {
  missingForRedis,
  type RedisCluster,
  type RedisNode,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '../../servers/redis.ts'
import { casesOn } from '../writing.ts'
import { clusterCases } from './cluster-cases.ts'
import { faultCases } from './fault-cases.ts'
import { keptOn } from './kept.ts'
import { readHash, streamOn, targetOn } from './reading.ts'
import { structureCases } from './structure-cases.ts'

definitionConformance(redis as never)

const missing = missingForRedis()
describe.skipIf(missing !== null)(missing ?? 'redis', () => {
  let server: RedisServer
  const nodes: RedisServer[] = []
  const options = { url: '' }
  const hashes = { url: '', structure: 'hash' }
  const streams = { url: '', structure: 'stream', key: 'changes' }
  beforeAll(async () => {
    server = await startRedis()
    nodes.push(server)
    options.url = server.url
    hashes.url = server.url
    streams.url = server.url
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  keyedSinkConformance({ name: 'redis, JSON', target: targetOn(nodes, options) })
  keyedSinkConformance({ name: 'redis, hashes', target: targetOn(nodes, hashes, readHash) })
  appendingSinkConformance({ name: 'redis, a stream', target: streamOn(nodes, streams) })

  const through = (port: number) => ({ url: `redis://127.0.0.1:${port}` })
  const port = () => Number(new URL(server.url).port)
  cutConformance({ name: 'redis, JSON', port, target: to => targetOn(nodes, through(to))() })
  cutConformance({
    name: 'redis, hashes',
    port,
    target: to => targetOn(nodes, { ...through(to), structure: 'hash' }, readHash)(),
  })
  cutConformance({
    name: 'redis, a stream',
    port,
    target: to => streamOn(nodes, { ...through(to), structure: 'stream', key: 'changes' })(),
    keepsDeleted: true,
  })

  casesOn(
    keptOn(() => server),
    { structures: structureCases },
  )
  describe('faults', faultCases)
})

describe.skipIf(missing !== null)('a cluster', () => {
  let cluster: RedisCluster
  const nodes: RedisNode[] = []
  const options = { url: 'redis://cluster', cluster: [] as string[] }
  const tagged = { ...options, key: '{kit}:${table}:${key}' }
  beforeAll(async () => {
    cluster = await startRedisCluster()
    nodes.push(...cluster.masters)
    options.cluster.push(...cluster.addresses)
  })
  afterAll(() => cluster?.[Symbol.asyncDispose]())

  keyedSinkConformance({ name: 'redis, a cluster', target: targetOn(nodes, options) })
  keyedSinkConformance({ name: 'redis, one slot of a cluster', target: targetOn(nodes, tagged) })

  clusterCases({ nodes, options, tagged })
})
