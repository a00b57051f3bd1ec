/** What /metrics says: by Prometheus' own grammar and rules, and that nothing counted is left out. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { exposition, METRICS, type ShownNumbers } from '../../../core/hub/exposition.ts'
import { BUCKETS_SECONDS, numbers } from '../../../core/worker/metrics.ts'
import { readMetrics } from '../../conform/prometheus.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

/** Every number that there is, of two tasks and a pipeline whose name wants escapes. */
function everything(): ShownNumbers {
  const source = numbers()
  for (const { key } of METRICS) if (key !== '') source.add(key, 1_500)
  source.observe('commit_to_durable', 0.02, 40)
  source.observe('write', 3, 1)
  const sink = numbers()
  sink.add('records', 7)
  for (const [seconds, times] of [
    [0.0005, 1],
    [0.001, 2],
    [0.3, 5],
    [7_200.5, 4],
  ] as const)
    sink.observe('commit_to_applied', seconds, times)
  const task = (name: string, from: ReturnType<typeof numbers>) => ({
    name,
    metrics: from.all(),
    histograms: from.histograms(),
    state: 'running',
    lag_records: 3,
    lag_seconds: 0.5,
  })
  const name = 'a"b\\c\nd'
  return {
    eventLoopDelay: { maxMs: 20, p99Ms: 5 },
    tasks: [task('shop/source', source), task('shop/search/0', sink), task(`${name}/source`, source)],
    pipelines: [
      { name: 'shop', dead_letters: 2, log_records: 9, log: { bytes: 100, limit_bytes: 200 } },
      { name, dead_letters: 0, log_records: 0, log: { bytes: null, limit_bytes: 200 } },
    ],
  }
}

describe('/metrics', () => {
  const families = readMetrics(exposition(everything()))
  const sink = 'pipeline="shop",task="shop/search/0",sink="search"'

  it('is what Prometheus takes, with every metric of the list, its help and type', () => {
    expect([...families.keys()]).toEqual(METRICS.map(one => one.name))
    for (const { name, type, help } of METRICS) expect(families.get(name), name).toMatchObject({ type, help })
  })

  it('names tasks by pipeline, task and sink; a hub tells how far sinks are behind', () => {
    const samples = (name: string) => families.get(name)!.samples.map(({ labels, value }) => [labels, value])
    expect(samples('millrace_task_records_total')).toEqual([
      ['pipeline="shop",task="shop/source"', 1_500],
      [sink, 7],
      ['pipeline="a\\"b\\\\c\\nd",task="a\\"b\\\\c\\nd/source"', 1_500],
    ])
    expect(samples('millrace_task_lag_records')).toEqual([[sink, 3]])
    expect(samples('millrace_task_moved_timestamp_seconds')[0]).toEqual([expect.anything(), 1.5])
    expect(samples('millrace_task_state')[1]).toEqual([`${sink},state="running"`, 1])
    expect(samples('millrace_pipeline_log_bytes')).toEqual([['pipeline="shop"', 100]])
  })

  it('has histograms with buckets that add up', () => {
    const name = 'millrace_task_commit_to_applied_seconds'
    const samples = new Map(families.get(name)!.samples.map(one => [`${one.name}{${one.labels}}`, one.value]))
    const bucket = (le: string) => samples.get(`${name}_bucket{${sink},le="${le}"}`)
    expect(['0.001', '0.25', '0.5', '7200', '+Inf'].map(bucket)).toEqual([3, 3, 8, 8, 12])
    expect(samples.get(`${name}_count{${sink}}`)).toBe(12)
    expect(samples.get(`${name}_sum{${sink}}`)).toBeCloseTo(0.0005 + 0.002 + 1.5 + 4 * 7_200.5, 6)
    expect(samples.size).toBe(BUCKETS_SECONDS.length + 3)
  })

  it('shows all that connectors and tasks count', () => {
    const keys = new Set(METRICS.map(one => one.key))
    const notShown = ['latency_ms'] // the page's: the histogram says more
    const counted = ['core', 'connectors'].flatMap(folder =>
      readdirSync(`${ROOT}${folder}`, { recursive: true, encoding: 'utf8' })
        .filter(name => name.endsWith('.ts'))
        .flatMap(name => [
          ...readFileSync(`${ROOT}${folder}/${name}`, 'utf8').matchAll(
            /metrics\.(?:add|set|observe)\(\s*'(\w+)'/g,
          ),
        ])
        .map(([, key]) => key!),
    )
    expect(counted.length).toBeGreaterThan(8)
    expect(counted.filter(key => !keys.has(key) && !notShown.includes(key))).toEqual([])
  })

  it.each([
    ['a sample twice', '# HELP a b\n# TYPE a counter\na{x="1"} 1\na{x="1"} 2\n'],
    ['a type after its samples', 'a 1\n# TYPE a counter\n'],
    [
      'a family in two places',
      '# HELP a b\n# TYPE a gauge\na 1\n# HELP c d\n# TYPE c gauge\nc 1\na{x="1"} 1\n',
    ],
    [
      'buckets that fall',
      '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
    ],
    ['a label without quotes', '# HELP a b\n# TYPE a gauge\na{x=1} 1\n'],
    ['no end of line', '# HELP a b\n# TYPE a gauge\na 1'],
  ])('the check itself refuses %s', (_, bad) => {
    expect(() => readMetrics(bad)).toThrow()
  })
})
