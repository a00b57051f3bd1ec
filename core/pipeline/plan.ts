/**
 * What becomes of a pipeline: names of topics, tasks and what is made upstream; what is refused once the tables are known; and
 * what an existing pipeline may not change. Pure: who asks the source for its tables is not here.
 */

import type { Sink, Source, TableAtSink } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import { topicOf } from '../log/log.ts'
import type { Table } from '../record.ts'
import type { Step } from '../transform/transform.ts'
import { suggestion } from './mistake.ts'
import type { ParsedPipeline, ParsedSink } from './schema.ts'

/** Slot, publication and prefix of logical messages. */
export const upstreamName = (pipeline: string): string => `millrace_${pipeline.replaceAll('-', '_')}`

export interface SinkTask {
  readonly name: string
  readonly sink: ParsedSink
  readonly partition: number
}

export interface Tasks {
  /** null: none, for people write the topics themselves. */
  readonly source: string | null
  readonly sinks: readonly SinkTask[]
}

/** Whose name the log's one writer bears, whoever it is. */
export const writerTask = ({ name }: ParsedPipeline): string => `${name}/source`

/** Who asks the sinks for the highest version that they hold: by a name of his own, which must not fence their tasks. */
export const floorTask = (pipeline: ParsedPipeline): string => `${writerTask(pipeline)}/floor`

/** Its topics are written by people, and read from nowhere. */
export const isWritten = ({ source }: ParsedPipeline): boolean =>
  (source.connector as Source).topics !== undefined

/** One for the source, one for each sink and partition. */
export const tasksOf = (pipeline: ParsedPipeline): Tasks => ({
  source: isWritten(pipeline) ? null : writerTask(pipeline),
  sinks: sinkTasks(pipeline),
})

const sinkTasks = ({ name, sinks, log }: ParsedPipeline): readonly SinkTask[] =>
  sinks.flatMap(sink =>
    Array.from({ length: log.partitions }, (_, partition) => ({
      name: `${name}/${sink.name}/${partition}`,
      sink,
      partition,
    })),
  )

const tableName = ({ schema, name }: Table): string => `${schema}.${name}`

/** Whether `schema.table` patterns with `*` take the table; null: they take all. */
export function takes(only: readonly string[] | null, table: Table): boolean {
  if (only === null) return true
  return only.some(pattern => {
    const pieces = pattern.split('*').map(piece => piece.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
    return new RegExp(`^${pieces.join('.*')}$`, 's').test(tableName(table))
  })
}

/** One thing that cannot be, and what mends it. */
export interface Problem {
  readonly message: string
  readonly hint: string
}

function refuse(name: string, problems: readonly Problem[]): void {
  if (problems.length === 0) return
  const hints = [...new Set(problems.map(one => one.hint))]
  const messages = problems.map(one => one.message)
  const message =
    messages.length === 1
      ? `${name}: ${messages[0]}`
      : `${name} cannot run:\n${messages.map(one => `- ${one}`).join('\n')}`
  throw new ConnectorError('config', message, { hint: hints.join('\n') })
}

/** Throws `config` with everything in the pipeline that cannot be right with these tables (V6, V7). */
export function refuseUnsafe(pipeline: ParsedPipeline, tables: readonly Table[]): void {
  refuse(pipeline.name, [
    ...topicProblems(pipeline, tables),
    ...keyProblems(pipeline, tables),
    ...targetProblems([{ pipeline, tables }]),
    ...onlyProblems(pipeline, tables),
    ...transformProblems(pipeline, tables),
  ])
}

/** Two tables that meet in one topic would share offsets, and rows of one key would follow each other (V6). */
function topicProblems({ name }: ParsedPipeline, tables: readonly Table[]): Problem[] {
  const byTopic = new Map<string, Table[]>()
  for (const table of tables) {
    const topic = topicOf(name, table)
    byTopic.set(topic, [...(byTopic.get(topic) ?? []), table])
  }
  return [...byTopic]
    .filter(([, meeting]) => meeting.length > 1)
    .map(([topic, meeting]) => ({
      message: `${meeting.map(tableName).join(' and ')} meet in the topic ${topic}`,
      hint: 'In topics characters outside A-Z, a-z, 0-9, _ and - become _. Put one of the tables into a pipeline of its own.',
    }))
}

/** A keyed sink finds rows by their key (V7). */
function keyProblems({ sinks }: ParsedPipeline, tables: readonly Table[]): Problem[] {
  return sinks.flatMap(({ name, connector, config, only }) =>
    tables
      .filter(
        table => (connector as Sink).keyed(config as never) && table.key.length === 0 && takes(only, table),
      )
      .map(table => ({
        message: `${tableName(table)} has no key, and sink ${name} (${connector.name}) keeps rows by key`,
        hint: 'Give the table a primary key, or leave it out of this sink with "only".',
      })),
  )
}

export interface Planned {
  readonly pipeline: ParsedPipeline
  readonly tables: readonly Table[]
}

interface Target {
  readonly pipeline: string
  readonly sink: string
  readonly table: string
}

/** Throws `config` when two pipelines write into one target: each would take the other's rows for its own (V6). */
export function refuseMeeting(planned: readonly Planned[]): void {
  refuse(
    'pipelines meet',
    targetProblems(planned).filter(one => one.isAcross),
  )
}

function targetProblems(planned: readonly Planned[]): (Problem & { isAcross: boolean })[] {
  const first = new Map<string, Target>()
  const problems = new Map<string, Problem & { isAcross: boolean }>()
  for (const { pipeline, tables } of planned)
    for (const { name, connector, config, only } of pipeline.sinks)
      for (const table of tables) {
        if (!connector.target || !takes(only, table)) continue
        const target = connector.target(config as never, table)
        const here: Target = { pipeline: pipeline.name, sink: name, table: tableName(table) }
        const key = `${connector.name} ${target}`
        const before = first.get(key)
        if (!before) first.set(key, here)
        else problems.set(JSON.stringify([before, here]), meeting(before, here, target))
      }
  return [...problems.values()]
}

function meeting(a: Target, b: Target, target: string): Problem & { isAcross: boolean } {
  if (a.pipeline !== b.pipeline)
    return {
      message: `sink ${a.sink} of ${a.pipeline} and sink ${b.sink} of ${b.pipeline} both write ${target} (${a.table}, ${b.table})`,
      hint: 'Rows of one key would overwrite each other. Give each pipeline a target of its own.',
      isAcross: true,
    }
  if (a.sink !== b.sink)
    return {
      message: `sinks ${a.sink} and ${b.sink} both write ${target} (${a.table}, ${b.table})`,
      hint: 'Rows of one key would overwrite each other. Give each sink a target of its own, or part the tables with "only".',
      isAcross: false,
    }
  return {
    message: `${a.table} and ${b.table} meet in ${target} of sink ${a.sink}`,
    hint: 'Rows of one key would overwrite each other. Put the schema into the name of the target, as ${schema}_${table}, or part the tables with "only".',
    isAcross: false,
  }
}

function onlyProblems({ sinks }: ParsedPipeline, tables: readonly Table[]): Problem[] {
  return sinks.flatMap(({ name, only }) =>
    (only ?? [])
      .filter(pattern => !tables.some(table => takes([pattern], table)))
      .map(pattern => ({
        message: `"${pattern}" in "only" of sink ${name} matches no table of the source${suggestion(pattern, tables.map(tableName), 'it reads')}`,
        hint: 'Mend the name, or add the table to source.tables.',
      })),
  )
}

/** A step that touches a key, makes two columns of one name, or matches nothing (V7). */
export function transformProblems({ source, sinks }: ParsedPipeline, tables: readonly Table[]): Problem[] {
  const seen = new Map<Step, Table[]>()
  const problems = new Map<string, Problem>()
  const through = (steps: readonly Step[], table: Table): Table | null => {
    let shape = table
    for (const step of steps) {
      seen.set(step, [...(seen.get(step) ?? []), shape])
      try {
        shape = step.shape(shape)
      } catch (error) {
        if (!(error instanceof ConnectorError)) throw error
        problems.set(error.message, { message: error.message, hint: error.hint ?? '' })
        return null
      }
    }
    return shape
  }
  const inLog = tables.map(table => through(source.transforms, table)).filter(table => table !== null)
  for (const { transforms, only } of sinks)
    for (const table of inLog) if (takes(only, table)) through(transforms, table)
  // The pipeline's steps are one object for all its sinks: what one sink leaves out another may have.
  const unmatched = [...seen].flatMap(([step, shapes]) => unmatchedOf(step, shapes))
  return [...problems.values(), ...(problems.size > 0 ? [] : unmatched)]
}

/** The tables a sink takes, as they come out of the transforms before it. */
export function tablesAt(
  { name, source }: ParsedPipeline,
  { only, transforms }: ParsedSink,
  tables: readonly Table[],
): readonly TableAtSink[] {
  return tables
    .filter(table => takes(only, table))
    .map(table => ({
      topic: topicOf(name, table),
      table: [...source.transforms, ...transforms].reduce((shape, step) => step.shape(shape), table),
    }))
}

function unmatchedOf(step: Step, shapes: readonly Table[]): Problem[] {
  if (shapes.some(table => table.columns.length === 0)) return [] // a source that learns them with the rows
  const names = shapes.flatMap(table =>
    table.columns.flatMap(({ name }) => [name, `${table.name}.${name}`, `${tableName(table)}.${name}`]),
  )
  return step.unmatched(shapes).map(field => ({
    message: `"${field}" in ${step.name} matches no column${suggestion(field, field.includes('.') ? names : names.filter(name => !name.includes('.')), 'there are')}`,
    hint: 'Mend the name: a transform that finds nothing is most likely a slip, and a mask that masks nothing a leak.',
  }))
}

/** What cannot change once a pipeline exists: its log and its position were made for it. Survives JSON. */
export interface Fingerprint {
  readonly source: string
  readonly tables: readonly { readonly name: string; readonly key: readonly string[] }[]
  readonly partitions: number
}

export const fingerprintOf = ({ source, log }: ParsedPipeline, tables: readonly Table[]): Fingerprint => ({
  source: source.connector.name,
  tables: tables
    .map(table => ({ name: tableName(table), key: table.key }))
    .sort((a, b) => (a.name < b.name ? -1 : 1)),
  partitions: log.partitions,
})

/** With the tables that only the other has: topics that people write may come and go, and still each keeps its key. */
export const joined = (one: Fingerprint, other: Fingerprint): Fingerprint => ({
  ...one,
  tables: [...one.tables, ...other.tables.filter(({ name }) => !one.tables.some(own => own.name === name))],
})

/** What differs, in words; empty: nothing. */
export function changesOf(made: Fingerprint, now: Fingerprint): readonly string[] {
  const before = new Map(made.tables.map(table => [table.name, table.key]))
  const after = new Map(now.tables.map(table => [table.name, table.key]))
  const changes: string[] = []
  if (made.source !== now.source) changes.push(`the source was ${made.source} and is ${now.source}`)
  for (const [name, key] of after) {
    const old = before.get(name)
    if (!old) changes.push(`the table ${name} is new`)
    else if (JSON.stringify(old) !== JSON.stringify(key))
      changes.push(`the key of ${name} was (${old.join(', ')}) and is (${key.join(', ')})`)
  }
  for (const name of before.keys()) if (!after.has(name)) changes.push(`the table ${name} is no longer read`)
  if (made.partitions !== now.partitions)
    changes.push(`log.partitions was ${made.partitions} and is ${now.partitions}`)
  return changes
}

/** Throws `config` when an existing pipeline was made for something else. */
export function refuseChanged(pipeline: string, made: Fingerprint, now: Fingerprint): void {
  const changes = changesOf(made, now)
  if (changes.length === 0) return
  throw new ConnectorError(
    'config',
    `${pipeline} cannot go on, for its log and position were made for something else: ${changes.join('; ')}`,
    {
      hint: `Take the change back; or give the changed pipeline another name; or start anew with: millrace delete ${pipeline} --yes (drops its slot and publication, log, dead letters and progress; the sinks' data stay).`,
    },
  )
}
