/** Commands that look and change nothing: validate, check, plan, status, search, dlq list. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { SearchResult, Sink, SinkTarget, SourcePlan } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import { runningHub } from '../hub/directory.ts'
import { readDeadLettersOf, search as searchIn } from '../hub/hub.ts'
import { lookingContext } from '../hub/looking.ts'
import { checkAll, type PipelinePlan, planAll } from '../hub/preflight.ts'
import type { Status } from '../hub/status.ts'
import { topicOf } from '../log/log.ts'
import { isWritten, upstreamName } from '../pipeline/plan.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { openState } from '../queue/state.ts'
import { realClock } from '../worker/clock.ts'
import type { DeadLetter } from '../worker/dead-letters.ts'
import { ask } from './ask.ts'
import { complainOf, count, Failed, print, printJson, size, table } from './output.ts'
import {
  type CommonOptions,
  loadHub,
  loadPipelines,
  logOf,
  ownHub,
  readHub,
  readPipelines,
  refuse,
  type Setting,
} from './session.ts'

const never = new AbortController().signal

export async function validate(
  setting: Setting,
  paths: readonly string[],
  options: CommonOptions,
): Promise<void> {
  const { json, hub } = options
  const { path, mistakes: ofHub } = readHub(setting, options)
  // Who names a hub file alone need not have pipelines yet.
  const isHubOnly = paths.length === 0 && hub !== undefined && !existsSync('pipelines')
  const files = paths.length > 0 ? paths : ['pipelines']
  const { pipelines, mistakes } = isHubOnly
    ? { pipelines: [], mistakes: [] }
    : await readPipelines(setting, files)
  if (ofHub.length + mistakes.length > 0) refuse([...ofHub, ...mistakes], setting.secrets, json === true)
  const valid = pipelines.map(({ name, file }) => ({ name, file }))
  if (json) printJson({ mistakes: [], hub: path, pipelines: valid })
  else {
    if (path) print(`${path}: the hub file is valid`)
    for (const { name, file } of valid) print(`${file}: ${name} is valid`)
  }
}

const lookFor = ({ secrets }: Setting, { name }: ParsedPipeline) =>
  lookingContext(realClock, logOf(secrets, 'silent'), name, never)

export async function check(
  setting: Setting,
  paths: readonly string[],
  { json }: CommonOptions,
): Promise<void> {
  const results: { name: string; ok: boolean; error: string | null; hint: string | null }[] = []
  for (const pipeline of await loadPipelines(setting, paths.length > 0 ? paths : ['pipelines'], json)) {
    try {
      await checkAll(pipeline, lookFor(setting, pipeline))
      results.push({ name: pipeline.name, ok: true, error: null, hint: null })
      if (!json) print(`${pipeline.name}: ready`)
    } catch (error) {
      if (!(error instanceof ConnectorError)) throw error
      const redact = (text: string) => setting.secrets.redact(text)
      results.push({
        name: pipeline.name,
        ok: false,
        error: redact(error.message),
        hint: error.hint ? redact(error.hint) : null,
      })
      if (!json) {
        print(`${pipeline.name}: not ready`)
        complainOf(error, redact)
      }
    }
  }
  if (json) printJson({ pipelines: results })
  if (results.some(one => !one.ok)) throw new Failed()
}

interface Planned {
  readonly name: string
  readonly reads: readonly {
    readonly table: string
    readonly topic: string
    readonly key: readonly string[]
    readonly rows: number | null
  }[]
  readonly upstream: SourcePlan['upstream']
  readonly log: { readonly directory: string; readonly partitions: number }
  readonly sinks: readonly {
    readonly name: string
    readonly type: string
    readonly delivery: string
    readonly targets: readonly SinkTarget[]
  }[]
}

export async function plan(
  setting: Setting,
  paths: readonly string[],
  options: CommonOptions,
): Promise<void> {
  const { dataDir } = loadHub(setting, options)
  const statePath = join(dataDir, 'state.db')
  const state = existsSync(statePath) ? openState(statePath) : null
  const plans: Planned[] = []
  const texts: string[] = []
  try {
    for (const pipeline of await loadPipelines(
      setting,
      paths.length > 0 ? paths : ['pipelines'],
      options.json,
    )) {
      const found = await planAll(pipeline, lookFor(setting, pipeline), state)
      plans.push(plannedOf(pipeline, found, dataDir))
      texts.push(planText(plans.at(-1)!, isWritten(pipeline)))
    }
  } finally {
    state?.close()
  }
  if (options.json) printJson({ pipelines: plans })
  else print(texts.join('\n\n'))
}

const plannedOf = (
  { name, log, sinks }: ParsedPipeline,
  { tables, upstream, targets }: PipelinePlan,
  dataDir: string,
): Planned => ({
  name,
  reads: tables.map(({ table: of, rows }) => ({
    table: `${of.schema}.${of.name}`,
    topic: topicOf(name, of),
    key: of.key,
    rows,
  })),
  upstream,
  log: { directory: join(dataDir, 'logs', name), partitions: log.partitions },
  sinks: sinks.map(({ name: sink, connector, config }) => ({
    name: sink,
    type: connector.name,
    delivery: (connector as Sink).delivery(config as never),
    targets: targets.get(sink) ?? [],
  })),
})

/** The definition in full where it will be made, else how what stands there differs from it. */
function targetText(sink: string, { name, tables, exists, definition, differences }: SinkTarget): string {
  const head = `  ${sink}: ${name} (${tables.join(', ')}) ${exists ? 'is there' : 'will be made as'}`
  if (!exists) return `${head}\n${indent(JSON.stringify(definition, null, 2))}`
  const lines =
    differences.length === 0 ? ['as this pipeline would make it'] : differences.map(one => `- ${one}`)
  return `${head}\n${indent(lines.join('\n'))}`
}

function planText({ name, reads, upstream, log, sinks }: Planned, isBrought: boolean): string {
  const rows = (n: number | null) =>
    isBrought ? 'rows that people bring' : n === null ? 'unknown rows' : `about ${count(n)} rows`
  const made = isBrought
    ? `Write with: millrace produce ${reads[0]?.topic}`
    : `What it makes upstream is named ${upstreamName(name)}.`
  return [
    `${name}`,
    isBrought ? '  takes' : '  reads',
    indent(
      table(
        reads.map(one => [
          one.table,
          rows(one.rows),
          one.key.length > 0 ? `key ${one.key.join(', ')}` : 'no key',
          `→ ${one.topic}`,
        ]),
      ),
    ),
    ...(upstream.length > 0
      ? [
          '  at the source',
          indent(table(upstream.map(one => [one.kind, one.name, one.exists ? 'is there' : 'will be made']))),
        ]
      : []),
    '  log',
    indent(`${log.directory}, ${log.partitions} partition${log.partitions === 1 ? '' : 's'}`),
    '  writes',
    indent(
      sinks.length === 0
        ? 'nothing: the topics are the result'
        : table(sinks.map(one => [one.name, one.type, one.delivery.replaceAll('_', ' ')])),
    ),
    ...sinks.flatMap(({ name: sink, targets }) => targets.map(target => targetText(sink, target))),
    `  Nothing was changed. Start it with: millrace up. ${made}`,
  ].join('\n')
}

const indent = (text: string): string => text.replace(/^/gm, '    ')

export async function status(setting: Setting, options: CommonOptions): Promise<void> {
  const { dataDir } = loadHub(setting, options)
  const hub = runningHub(dataDir)
  if (!hub) {
    if (options.json) printJson({ pipelines: [] })
    else print(`No hub runs on ${dataDir}. Start one with: millrace up`)
    return
  }
  const now = await ask<Status>(hub, 'GET', '/api/status')
  if (options.json) return printJson(now)
  const rows = now.pipelines.flatMap(pipeline => [
    [
      pipeline.name,
      pipeline.state,
      `${count(pipeline.dead_letters)} dead letters`,
      pipeline.log.bytes === null
        ? 'log on Kafka'
        : `log ${size(pipeline.log.bytes)} of ${size(pipeline.log.limit_bytes)}`,
    ],
    ...pipeline.tasks.map(task => [
      `  ${task.name}`,
      task.state,
      `${count(task.records)} records`,
      task.error
        ? `error: ${task.error}`
        : task.lag_records > 0
          ? `${count(task.lag_records)} behind`
          : 'no lag',
    ]),
  ])
  print(rows.length > 0 ? table(rows) : 'No pipeline.')
}

export async function search(
  setting: Setting,
  pipeline: string,
  words: string,
  options: CommonOptions & { readonly limit?: string; readonly file?: string },
): Promise<void> {
  const limit = Math.min(100, Math.max(1, Number(options.limit ?? 10) || 10))
  const { dataDir } = loadHub(setting, options)
  const hub = runningHub(dataDir)
  const found = hub
    ? await ask<SearchResult>(
        hub,
        'GET',
        `/api/search?pipeline=${encodeURIComponent(pipeline)}&words=${encodeURIComponent(words)}&limit=${limit}`,
      )
    : await searchIn(await definition(setting, pipeline, options), words, limit)
  if (options.json) return printJson(found)
  print(`${count(found.total)} found`)
  for (const hit of found.hits) print(`${hit.table}/${hit.id}  ${JSON.stringify(hit.document)}`)
}

/** A pipeline by name among the files; a hub that runs knows its own. */
export async function definition(
  setting: Setting,
  name: string,
  { file, json }: CommonOptions & { readonly file?: string },
): Promise<ParsedPipeline> {
  const pipelines = await loadPipelines(setting, [file ?? 'pipelines'], json)
  const found = pipelines.find(one => one.name === name)
  if (found) return found
  throw new ConnectorError(
    'config',
    `there is no pipeline "${name}" in ${file ?? 'pipelines'}; there is ${pipelines.map(one => one.name).join(', ')}`,
    {
      hint: 'Name its file with --file.',
    },
  )
}

export async function listDeadLetters(
  setting: Setting,
  pipeline: string,
  options: CommonOptions,
): Promise<void> {
  const config = loadHub(setting, options)
  const hub = runningHub(config.dataDir)
  const letters = hub
    ? await ask<readonly DeadLetter[]>(
        hub,
        'GET',
        `/api/dead-letters?pipeline=${encodeURIComponent(pipeline)}`,
      )
    : await lettersOf(setting, pipeline, config, options)
  if (options.json) return printJson({ dead_letters: letters })
  if (letters.length === 0) return print(`${pipeline} has no dead letters.`)
  print(
    table(
      letters.map(one => [
        new Date(one.at_ms).toISOString(),
        one.sink,
        `${one.topic ?? 'source'}/${one.partition ?? '-'}/${one.offset ?? '-'}`,
        one.key,
        `${one.stage}: ${one.error}`,
      ]),
    ),
  )
}

async function lettersOf(
  setting: Setting,
  pipeline: string,
  config: ReturnType<typeof loadHub>,
  options: CommonOptions,
): Promise<readonly DeadLetter[]> {
  if (!existsSync(join(config.dataDir, 'logs', `${pipeline}.dead`))) {
    throw new ConnectorError('config', `there is no pipeline "${pipeline}" in ${config.dataDir}`, {
      hint: 'See which there are: millrace status',
    })
  }
  await using owned = ownHub(setting, config, logOf(setting.secrets, options.logLevel ?? 'warn'))
  return await readDeadLettersOf(owned.parts, pipeline)
}
