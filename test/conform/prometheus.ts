/**
 * Reads a text of metrics, and throws what is wrong with it, by the format's grammar (https://prometheus.io/docs/instrumenting/exposition_formats/)
 * and its conventions: help and type in front of each family, all of a family in one place, no sample twice, counters that end in
 * _total, no unit but seconds and bytes, histograms that add up.
 */
const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const LABEL = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\[\\\\"n])*"'
const VALUE = '[+-]?(?:\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?|Inf|NaN)'
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(${LABEL}(?:,${LABEL})*)?\\})? (${VALUE})$`, 'i')
const HEAD = new RegExp(`^# (HELP|TYPE) (${NAME}) (.+)$`)

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  /** `labels` as they stand there, without the braces. */
  readonly samples: { readonly name: string; readonly labels: string; readonly value: number }[]
}

export function readMetrics(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line does not end')
  const families = familiesOf(text.slice(0, -1).split('\n'))
  const seen = new Set<string>()
  for (const family of families) {
    const { name, type, samples } = family
    if (seen.has(name)) throw new Error(`${name} stands in two places`)
    seen.add(name)
    if ((type === 'counter') !== name.endsWith('_total')) throw new Error(`${name} is a ${type}`)
    if (/_(ms|millis|us|minutes|hours|kb|mb)(_total)?$/.test(name)) throw new Error(`the unit of ${name}`)
    if (samples.length === 0) throw new Error(`${name} has no sample`)
    const each = new Set(samples.map(one => `${one.name}{${one.labels}}`))
    if (each.size < samples.length) throw new Error(`a sample of ${name} stands there twice`)
    if (type === 'histogram') refuseUneven(family)
  }
  return new Map(families.map(family => [family.name, family]))
}

function familiesOf(lines: readonly string[]): Family[] {
  const families: Family[] = []
  for (let i = 0; i < lines.length; ) {
    const [help, type] = [HEAD.exec(lines[i]!), HEAD.exec(lines[i + 1] ?? '')]
    if (help?.[1] !== 'HELP' || type?.[1] !== 'TYPE' || help[2] !== type[2])
      throw new Error(`no help and type: ${lines[i]}`)
    if (!['counter', 'gauge', 'histogram'].includes(type[3]!)) throw new Error(`type ${type[3]}`)
    const family: Family = { name: help[2]!, type: type[3]!, help: help[3]!, samples: [] }
    families.push(family)
    for (i += 2; i < lines.length && !lines[i]!.startsWith('#'); i++) {
      const sample = SAMPLE.exec(lines[i]!)
      if (!sample) throw new Error(`not a sample: ${lines[i]}`)
      const [, name, labels = '', value] = sample
      const suffix = name!.slice(family.name.length)
      const isOwn =
        family.type === 'histogram' ? ['_bucket', '_sum', '_count'].includes(suffix) : suffix === ''
      if (!name!.startsWith(family.name) || !isOwn) throw new Error(`${name} stands among ${family.name}`)
      family.samples.push({ name: name!, labels, value: Number(value) })
    }
  }
  return families
}

/** By the labels beside `le`: bounds and counts rise, the last is +Inf and the count, and there is a sum. */
function refuseUneven({ name, samples }: Family): void {
  const series = new Map<string, { bound: number; count: number }[]>()
  for (const { labels, value } of samples.filter(one => one.name === `${name}_bucket`)) {
    const [, le = ''] = /(?:^|,)le="([^"]*)"/.exec(labels) ?? []
    const key = labels.replace(/,?le="[^"]*"/, '')
    series.set(key, [
      ...(series.get(key) ?? []),
      { bound: le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le), count: value },
    ])
  }
  if (series.size === 0) throw new Error(`${name} has no buckets`)
  for (const [labels, buckets] of series) {
    const rises = buckets.every(
      (one, i) => i === 0 || (one.bound > buckets[i - 1]!.bound && one.count >= buckets[i - 1]!.count),
    )
    const of = (suffix: string) =>
      samples.find(one => one.name === `${name}${suffix}` && one.labels === labels)
    const last = buckets.at(-1)!
    if (
      !rises ||
      last.bound !== Number.POSITIVE_INFINITY ||
      of('_count')?.value !== last.count ||
      !of('_sum')
    )
      throw new Error(`the buckets of ${name}{${labels}} do not add up`)
  }
}
