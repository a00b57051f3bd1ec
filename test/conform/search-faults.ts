/** A real cluster with every kind of trouble in front of it: whatever the script, each document is exactly right in the end. */
import { expect, it } from 'vitest'
import type { Sink, Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { LogRecord } from '../../core/record.ts'
import type { SearchServer } from '../servers/search.ts'
import { type Fault, type FaultyCluster, faultyCluster } from '../servers/search-faults.ts'
import { type Random, randomOf } from '../sim/random.ts'
import { testContext } from './context.ts'
import { batchOf, recordOf } from './kit-table.ts'
import { recorded } from './recorded.ts'
import type { Held } from './sink.ts'

export interface ClusterParts {
  readonly sink: Sink
  readonly server: () => SearchServer
  readonly newIndex: () => string
  readonly rowsOf: (index: string) => Promise<ReadonlyMap<string, Held>>
}

/** As the task does: what failed for a reason that passes is written again by a new writer. */
async function writeAll(open: () => Promise<Writer>, batches: readonly LogRecord[][]): Promise<LogRecord[]> {
  const rejected: LogRecord[] = []
  let writer = await open()
  for (const records of batches)
    for (let attempts = 1; ; attempts++)
      try {
        rejected.push(...(await writer.write(batchOf(records))).map(one => one.record))
        break
      } catch (error) {
        if (
          !(error instanceof ConnectorError) ||
          !['unavailable', 'throttled'].includes(error.kind) ||
          attempts > 20
        )
          throw error
        await writer[Symbol.asyncDispose]()
        writer = await open()
      }
  await writer[Symbol.asyncDispose]()
  return rejected
}

/** Inserts, updates, deletes and re-inserts of few keys; the last of each is what must stand. */
function history(random: Random, batches: number): { batches: LogRecord[][]; expected: Map<string, string> } {
  const expected = new Map<string, string>()
  let version = 1_000
  const made = Array.from({ length: batches }, () =>
    Array.from({ length: random.int(1, 120) }, () => {
      const id = random.int(1, 150)
      version += random.int(1, 5)
      const isDelete = random.chance(0.2)
      if (isDelete) expected.delete(String(id))
      else expected.set(String(id), `name ${version}`)
      return recordOf({ id, version, op: isDelete ? 'd' : 'u', name: `name ${version}` })
    }),
  )
  return { batches: made, expected }
}

function faultsOf(kind: SearchServer['kind'], random: Random): (Fault | null)[] {
  const told = recorded(kind)
  const whole = (name: string): Fault => {
    const { status, body } = told(name)
    return { kind: 'answer', status, body }
  }
  const items = (name: string, share: number): Fault => {
    const { body } = told(name)
    const { status, error } = Object.values(
      (body as { items: { [op: string]: { status: number; error: unknown } }[] }).items[0]!,
    )[0]!
    return { kind: 'items', share, item: error, status }
  }
  const faults: (Fault | null)[] = [
    whole('more in flight than there is memory for'),
    whole('bulk above the limit of memory'),
    {
      kind: 'answer',
      status: 503,
      body: {
        error: { type: 'cluster_block_exception', reason: 'blocked by: [SERVICE_UNAVAILABLE/2/no master];' },
        status: 503,
      },
    },
    { kind: 'answer', status: 502, body: '<html>Bad Gateway</html>' },
    whole('a body of more than 1 MB'),
    items('index with read_only_allow_delete', 0.5),
    items('index with write', 1),
    items('more copies than there are', 0.2),
    { kind: 'silence' },
    { kind: 'lost' },
    { kind: 'half' },
    { kind: 'fewer' },
    { kind: 'cut' },
  ]
  return Array.from({ length: 400 }, () => (random.chance(0.6) ? random.pick(faults) : null))
}

export function faultTests({ sink, server, newIndex, rowsOf }: ClusterParts): void {
  const opening = (cluster: FaultyCluster, options: object) => () =>
    sink.open(sink.config.parse({ url: cluster.url, ...options }) as never, testContext({ pipeline: 'kit' }))

  for (const seed of [1, 2, 3])
    it(`429, 503, 413, silence, half answers, cut connections, seed ${seed}: every document is exactly right`, async () => {
      await using cluster = await faultyCluster(server().url)
      const random = randomOf(seed)
      const faults = faultsOf(server().kind, random)
      cluster.script = n => faults[n] ?? null
      const { batches, expected } = history(random, 12)
      const index = newIndex()
      const options = { index, bulk: { actions: 25, timeout_ms: 400, parallel: 3 } }
      expect(await writeAll(opening(cluster, options), batches)).toEqual([])
      const rows = await rowsOf(index)
      expect(new Map([...rows].map(([id, row]) => [id, (row.document as { name: string }).name]))).toEqual(
        expected,
      )
      expect(cluster.seen.filter(one => one.path.includes('/_bulk')).length).toBeGreaterThan(20)
    })

  it('a body that is too large is cut in half until it fits; one document that alone is too large is set aside', async () => {
    await using cluster = await faultyCluster(server().url)
    const { status, body } = recorded(server().kind)('a body of more than 1 MB')
    cluster.script = (_, { body: sent }) => (sent.length > 10_000 ? { kind: 'answer', status, body } : null)
    const index = newIndex()
    const records = Array.from({ length: 300 }, (_, i) =>
      recordOf({ id: i + 1, version: i + 1, name: 'x'.repeat(100) }),
    )
    const large = recordOf({ id: 999, version: 999, name: 'y'.repeat(20_000) })
    expect(await writeAll(opening(cluster, { index }), [[...records, large]])).toEqual([large])
    expect((await rowsOf(index)).size).toBe(300)
  })
}
