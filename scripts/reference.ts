/**
 * What is generated from the definitions of pipelines, connectors and transforms: the JSON Schema for editors and the pages of
 * docs/reference. Pure: generate.ts writes it, a test compares it with what is there.
 */
import { stringify } from 'yaml'
import type { Sink, Source } from '../core/connector.ts'
import { METRICS, type Metric } from '../core/hub/exposition.ts'
import { hubSchema } from '../core/pipeline/hub-schema.ts'
import { type JsonSchema, jsonSchemaOf } from '../core/pipeline/json-schema.ts'
import { pipelineSchema, type Registry } from '../core/pipeline/schema.ts'
import { transforms } from '../core/transform/transform.ts'
import { BUCKETS_SECONDS } from '../core/worker/metrics.ts'

const NOTE = '<!-- Made by `npm run generate` from the definitions in the code. Do not edit. -->'

/** Text by path from the root of the repository. */
export function generated(connectors: Registry): ReadonlyMap<string, string> {
  const { sources, sinks } = connectors
  const schema = jsonSchemaOf(pipelineSchema(connectors))
  return new Map([
    ['pipelines/pipeline.schema.json', `${JSON.stringify(schema, null, 2)}\n`],
    ['docs/reference/pipeline.md', pipelinePage(schema, connectors)],
    ['docs/reference/hub.md', hubPage()],
    ['docs/reference/transforms.md', transformsPage()],
    ['docs/reference/metrics.md', metricsPage()],
    ...[...sources.values()].map(one => [`docs/reference/sources/${one.name}.md`, sourcePage(one)] as const),
    ...[...sinks.values()].map(one => [`docs/reference/sinks/${one.name}.md`, sinkPage(one)] as const),
  ])
}

const page = (title: string, ...parts: readonly string[]): string =>
  `# ${title}\n\n${NOTE}\n\n${parts.join('\n\n')}\n`

const yaml = (value: unknown): string => `\`\`\`yaml\n${stringify(value, { lineWidth: 0 }).trimEnd()}\n\`\`\``

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', '<br>')

/** A reference may stand for what is typed: the type is the other branch. */
function typed(schema: JsonSchema): JsonSchema {
  const branches = schema.anyOf
  if (!Array.isArray(branches)) return schema
  const [first, second] = branches as readonly JsonSchema[]
  return branches.length === 2 && String(second?.pattern ?? '').startsWith('^\\$')
    ? { ...first, ...schema, anyOf: undefined }
    : schema
}

function kindOf(given: JsonSchema): string {
  const schema = typed(given)
  if (schema.enum) return schema.enum.map(one => `\`${one}\``).join(', ')
  if (schema.const !== undefined) return `\`${schema.const}\``
  const branches = schema.anyOf
  if (Array.isArray(branches)) return branches.map(one => kindOf(one as JsonSchema)).join(' or ')
  const types = schema.type
  if (types !== undefined && typeof types !== 'string')
    return types.map(type => kindOf({ ...schema, type })).join(' or ')
  switch (types) {
    case 'string':
      return 'text'
    case 'integer':
      return `whole number${rangeOf(schema)}`
    case 'number':
      return `number${rangeOf(schema)}`
    case 'boolean':
      return 'true or false'
    case 'null':
      return '`null`'
    case 'array':
      return `list of ${kindOf((schema.items ?? {}) as JsonSchema)}`
    case 'object':
      return schema.additionalProperties
        ? `mapping of ${kindOf(schema.additionalProperties as JsonSchema)}`
        : 'mapping'
    default:
      return 'any'
  }
}

function rangeOf(schema: JsonSchema): string {
  const least = schema.minimum ?? schema.exclusiveMinimum
  const most = schema.maximum
  const isExact = (limit: unknown) => typeof limit === 'number' && Math.abs(limit) < Number.MAX_SAFE_INTEGER
  const from = schema.minimum === undefined ? `above ${least}` : `from ${least}`
  if (isExact(least)) return isExact(most) ? `, ${from} to ${most}` : `, ${from}`
  return isExact(most) ? `, to ${most}` : ''
}

const presetOf = ({ default: preset }: JsonSchema): string =>
  preset === undefined || JSON.stringify(preset) === '[]' || preset === ''
    ? ''
    : `\`${typeof preset === 'string' ? preset : JSON.stringify(preset)}\``

type Row = readonly [key: string, kind: string, preset: string, description: string]

/** The keys of a mapping and of the mappings in it; `skip`: those told elsewhere. */
function rowsOf(schema: JsonSchema, prefix: string, skip: ReadonlySet<string>): Row[] {
  const properties = (schema.properties ?? {}) as Readonly<Record<string, JsonSchema>>
  return Object.entries(properties).flatMap(([name, given]) => {
    const key = `${prefix}${name}`
    if (skip.has(key)) return []
    const preset = schema.required?.includes(name) ? 'required' : presetOf(given)
    const row: Row = [`\`${key}\``, kindOf(given), preset, given.description ?? '']
    const items = given.type === 'array' ? ((given.items ?? {}) as JsonSchema) : {}
    return [
      row,
      ...(given.type === 'object' ? rowsOf(given, `${key}.`, skip) : []),
      ...(items.type === 'object' && !skip.has(`${key}[]`) ? rowsOf(items, `${key}[].`, skip) : []),
    ]
  })
}

function keyTable(schema: JsonSchema, skip: readonly string[] = [], prefix = ''): string {
  const rows = rowsOf(schema, prefix, new Set(skip))
  if (rows.length === 0) return 'No keys but `type`.'
  const lines = rows.map(row => `| ${row.map(cell).join(' | ')} |`)
  return ['| Key | Takes | Default | What it is |', '| --- | --- | --- | --- |', ...lines].join('\n')
}

function pipelinePage(schema: JsonSchema, { sources, sinks }: Registry): string {
  const { source: _, sinks: __, ...properties } = schema.properties as Readonly<Record<string, JsonSchema>>
  const list = (kind: 'sources' | 'sinks', all: Iterable<Source | Sink>) =>
    [...all].map(one => `- [\`${one.name}\`](${kind}/${one.name}.md): ${one.summary}`).join('\n')
  return page(
    'Pipelines',
    'A pipeline is one YAML file. `millrace validate FILE` finds every mistake in it, with line and column; editors that know the YAML language server check it while you type, by the first line of the files in `pipelines/`.',
    '## Keys',
    keyTable({ ...schema, properties: properties as never }, ['transforms']),
    '`transforms`, under the top, under `source` (before the log) and under each sink: see [transforms](transforms.md).',
    '## Source',
    '`source.type` is one of these; its other keys are the connector’s.'.replace('’', "'"),
    list('sources', sources.values()),
    'Or one of your own, by file or package: [Write a connector](../connectors.md).',
    '## Sinks',
    "`sinks` is a list, and may be empty: then the topics are the result. Each has a `type`, the connector's keys, and of these what it needs:",
    sinkKeys(schema),
    list('sinks', sinks.values()),
    'Or [one of your own](../connectors.md).',
    '## References',
    REFERENCES,
  )
}

/** What every sink takes: the same in each branch. */
function sinkKeys(schema: JsonSchema): string {
  const { sinks } = schema.properties as Readonly<
    Record<string, { items: { allOf: readonly { then: JsonSchema }[] } }>
  >
  const { properties } = sinks!.items.allOf[0]!.then as unknown as { properties: Record<string, JsonSchema> }
  const { name, only, transforms: steps } = properties
  return keyTable({ properties: { name, only, transforms: steps } as never }, ['transforms[]'])
}

const REFERENCES = `In any text:

- \`\${env:NAME}\`: the environment variable; \`\${env:NAME:-default}\`: with a default for when it is not set or empty.
- \`\${file:PATH}\`: what the file holds, without the newline at its end; the path is from the current directory. Never shown or logged.
- \`$\${\`: a \`\${\` as it stands.

A text that is one reference as a whole may stand where a number or a boolean is wanted: \`port: \${env:PORT:-4000}\`. Inside \`[ ]\` and \`{ }\` YAML wants quotes around it. \`\${table}\`, \`\${schema}\` and \`\${topic}\`, without a colon, are filled by sinks for each record. What came from a file, what stands in a key marked secret and the password of any URL is replaced by \`***\` in everything that is printed or logged.`

const hubPage = (): string =>
  page(
    'hub.yaml',
    'What a hub is apart from its pipelines: `hub.yaml` in the current directory, or `--hub FILE`. Everything in it is optional, and so is the file. Texts may hold [references](pipeline.md#references).',
    keyTable(jsonSchemaOf(hubSchema)),
  )

function transformsPage(): string {
  const sections = [...transforms.values()].flatMap(({ name, summary, schema, examples }) => [
    `## ${name}`,
    summary,
    keyTable(jsonSchemaOf(schema)),
    ...examples.flatMap(({ title, options, before, after }) => [
      `${title}:`,
      yaml([{ [name]: options }]),
      `\`${before}\` becomes \`${after}\``,
    ]),
  ])
  return page(
    'Transforms',
    'A list of verbs, each with its options, done in order. Under `source.transforms` they are done before the log, so that what they take away never touches the disk; under `transforms` before every sink, and under a sink’s `transforms` before that sink. Columns of the key cannot be changed. A record that a transform cannot take is a rejected record (`errors.on_reject`). A pattern that matches no column is refused when the pipeline starts.'.replace(
      '’',
      "'",
    ),
    ...sections,
  )
}

const examplesOf = (
  { name, examples }: Source | Sink,
  place: (config: unknown) => unknown,
): readonly string[] =>
  examples.flatMap(({ title, config }) => [`${title}:`, yaml(place({ type: name, ...config }))])

const sourcePage = (source: Source): string =>
  page(
    `Source: ${source.name}`,
    source.summary,
    '## Keys',
    keyTable(jsonSchemaOf(source.config)),
    '## Examples',
    ...examplesOf(source, config => ({ source: config })),
    'Besides: [`transforms`](../transforms.md) before the log.',
  )

const KEYED =
  'Keeps rows by key: an older change never overwrites a newer one; tables without a key are refused.'
const HANDED_ON = 'Keeps no rows: every change is handed on.'
const EITHER =
  'Keeps rows by key or hands every change on, as it is configured: where it keeps rows an older change never overwrites a newer one, and tables without a key are refused.'

function sinkPage(sink: Sink): string {
  const configs = sink.examples.map(({ config }) => sink.config.parse(config) as never)
  const deliveries = [...new Set(configs.map(config => sink.delivery(config)))]
  const keyed = [...new Set(configs.map(config => sink.keyed(config)))]
  const keeping = keyed.length > 1 ? EITHER : keyed[0] ? KEYED : HANDED_ON
  return page(
    `Sink: ${sink.name}`,
    sink.summary,
    `Delivery: ${deliveries.join(' or ').replaceAll('_', ' ')}. ${keeping}`,
    '## Keys',
    keyTable(jsonSchemaOf(sink.config)),
    '## Examples',
    ...examplesOf(sink, config => ({ sinks: [config] })),
    'Besides: [`name`, `only` and `transforms`](../pipeline.md#sinks).',
  )
}

function metricsPage(): string {
  const rows = (by: Metric['by'], labels: string): string => {
    const own = METRICS.filter(one => one.by === by && one.name.startsWith(`millrace_${labels}_`))
    const lines = own.map(one => `| \`${one.name}\` | ${one.type} | ${cell(one.help)} |`)
    return ['| Metric | Type | What it is |', '| --- | --- | --- |', ...lines].join('\n')
  }
  return page(
    'Metrics',
    'Prometheus text at `/metrics` of `millrace up`, `millrace hub` and each `millrace worker`. Where several processes run the tasks of a hub, each number is shown by one of them, so that a sum over all is right. Counters begin anew with their process. Times are in seconds; those since a commit rest on the clocks of the database and of this machine.',
    '## Of tasks, by whoever runs them (`up`, `worker`)',
    'Labels: `pipeline`, `task` (`<pipeline>/source` or `<pipeline>/<sink>/<partition>`), and of sinks `sink`.',
    rows('task', 'task'),
    `Buckets of histograms: ${BUCKETS_SECONDS.join(', ')} seconds.`,
    '## Of tasks, by the hub (`up`, `hub`)',
    rows('hub', 'task'),
    '`millrace_task_state` has the label `state` too.',
    '## Of pipelines, by the hub (`up`, `hub`)',
    'Label: `pipeline`.',
    rows('hub', 'pipeline'),
    '## Of each process',
    rows('process', 'process'),
    '## What to look at',
    `\`\`\`promql
# how far sinks are behind, in seconds
max by (pipeline, sink) (millrace_task_lag_seconds)
# how long changes take from the database into the sinks: 99 of 100 within
histogram_quantile(0.99, sum by (pipeline, sink, le) (rate(millrace_task_commit_to_applied_seconds_bucket[5m])))
# somebody should look
millrace_task_state{state=~"failing|halted|detached"} == 1 or increase(millrace_task_rejects_total[1h]) > 0
\`\`\``,
  )
}
