/**
 * Pipelines from YAML files: every mistake of every file at once, each with its place. What the tables and their keys allow is
 * not known yet: plan.ts.
 */
import { Secrets } from '../secrets.ts'
import { type Dict, entryOf, type Read, readYaml, type Tree, textOf, type YamlFile } from './document.ts'
import { inOrder, type Mistake } from './mistake.ts'
import { PIPELINE_NOT_BUILT } from './not-built.ts'
import { misplacedReferences } from './placeholders.ts'
import type { ReferenceSources } from './reference.ts'
import {
  type ParsedPipeline,
  type ParsedSink,
  type ParsedSteps,
  type PipelineYaml,
  pipelineSchema,
  type Registry,
  stepsOf,
} from './schema.ts'
import { validated } from './validate.ts'

export type { YamlFile } from './document.ts'
export { type Mistake, mistakeText } from './mistake.ts'

export interface ParseOptions extends ReferenceSources {
  readonly connectors: Registry
  /** What was read of secrets is added here. */
  readonly secrets?: Secrets
}

export interface ParsedFiles {
  /** Those without mistakes, in the order of the files. */
  readonly pipelines: readonly ParsedPipeline[]
  readonly mistakes: readonly Mistake[]
}

export const isHubFile = (path: string): boolean => /(^|[\\/])hub\.ya?ml$/.test(path)

export function parsePipelines(
  files: readonly YamlFile[],
  { connectors, secrets = new Secrets(), ...sources }: ParseOptions,
): ParsedFiles {
  const schema = pipelineSchema(connectors)
  const pipelines: ParsedPipeline[] = []
  const mistakes: Mistake[] = []
  const names = new Map<string, string>()
  for (const file of files) {
    if (isHubFile(file.path)) {
      // Found among others it is passed over; asked for by name there is nothing else to say.
      if (files.every(one => isHubFile(one.path)))
        mistakes.push({
          file: file.path,
          line: 1,
          column: 1,
          message: 'this is the file of the hub, not a pipeline',
        })
      continue
    }
    const read = readYaml(file, sources)
    mistakes.push(...read.mistakes)
    if (!read.tree) {
      if (read.mistakes.length === 0)
        mistakes.push(read.mistakeAt(0, 'the file is empty: a pipeline begins with "name: …"'))
      continue
    }
    const { value, mistakes: wrong } = validated(schema, read.tree, read, {
      secrets,
      notBuilt: PIPELINE_NOT_BUILT,
      refused: connectors.refused ?? {},
    })
    const rules = [
      ...sinkTwins(read.tree, read, connectors),
      ...nameTwin(read.tree, read, names),
      ...misplaced(read.tree, read, sources),
    ].map(one => ({ ...one, message: secrets.redact(one.message) }))
    mistakes.push(...wrong, ...rules)
    if (value && rules.length + read.mistakes.length === 0)
      pipelines.push(pipelineOf(value, file.path, connectors))
  }
  return { pipelines, mistakes: inOrder(mistakes) }
}

function nameTwin(tree: Tree, read: Read, names: Map<string, string>): readonly Mistake[] {
  const name = textOf(tree, 'name')
  if (name === null) return []
  const mistake = read.mistakeAt(
    entryOf(tree, 'name')!.tree.at,
    `there is another pipeline "${name}", in ${names.get(name)}; each needs a name of its own`,
  )
  if (names.has(name)) return [mistake]
  names.set(name, `${mistake.file}:${mistake.line}`)
  return []
}

function sinkTwins(tree: Tree, read: Read, connectors: Registry): readonly Mistake[] {
  const sinks = entryOf(tree, 'sinks')?.tree
  if (sinks?.kind !== 'list') return []
  const first = new Map<string, number>()
  const mistakes: Mistake[] = []
  sinks.items.forEach((sink, i) => {
    const given = textOf(sink, 'name')
    const type = textOf(sink, 'type')
    if (type === null || sink.kind !== 'dict') return
    const name = given ?? connectors.sinks.get(type)?.name ?? type
    const before = first.get(name)
    if (before === undefined) {
      first.set(name, i)
      return
    }
    const where = (sink as Dict).entries.get(given === null ? 'type' : 'name')!.tree.at
    const hint =
      given === null ? `without a "name" a sink is named by its type; give it one` : 'give it another name'
    mistakes.push(read.mistakeAt(where, `sinks[${i}] is named "${name}", as sinks[${before}] is: ${hint}`))
  })
  return mistakes
}

/** Only sinks fill placeholders. */
function misplaced(tree: Tree, read: Read, { env }: ReferenceSources): readonly Mistake[] {
  if (tree.kind !== 'dict') return []
  return ['source', 'sinks'].flatMap(key => {
    const part = entryOf(tree, key)?.tree
    return part ? misplacedReferences(part, read, env, key === 'sinks') : []
  })
}

function pipelineOf(yaml: PipelineYaml, file: string, { sources, sinks }: Registry): ParsedPipeline {
  const { name, description, log, errors, limits } = yaml
  const { type, transforms, ...config } = yaml.source as unknown as Section
  const shared = stepsOf(yaml.transforms as ParsedSteps)
  return {
    name,
    description,
    file,
    source: { connector: sources.get(type)!, config, transforms: stepsOf(transforms) },
    log,
    sinks: (yaml.sinks as unknown as readonly SinkSection[]).map((sink): ParsedSink => {
      const { type: sinkType, name: sinkName, only, transforms: own, ...sinkConfig } = sink
      return {
        name: sinkName ?? sinks.get(sinkType)!.name,
        connector: sinks.get(sinkType)!,
        config: sinkConfig,
        only: only ?? null,
        transforms: [...shared, ...stepsOf(own)],
      }
    }),
    errors: {
      retry: {
        maxAttempts: errors.retry.max_attempts,
        backoffMs: errors.retry.backoff_ms,
        maxBackoffMs: errors.retry.max_backoff_ms,
      },
      onReject: errors.on_reject,
    },
    limits: { logBytes: limits.log_bytes, policy: limits.policy },
  }
}

/** Each has its connector's keys besides. */
interface Section {
  readonly type: string
  readonly transforms: ParsedSteps
}
interface SinkSection extends Section {
  readonly name?: string
  readonly only?: readonly string[]
}
