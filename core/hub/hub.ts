/**
 * The hub of one process: a data directory and the pipelines that run on it. Each starts for itself: one that cannot start is
 * shown with its error and tried again, and keeps no other from running.
 */
import type { SearchResult, Sink } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { type DeadLetter, readDeadLetters } from '../worker/dead-letters.ts'
import type { ShownNumbers } from './exposition.ts'
import { type HubParts, type RunningPipeline, startPipeline } from './pipeline.ts'
import { admit } from './preflight.ts'
import { type ProduceRequest, produceInto, targetOf } from './produce.ts'
import { removePipeline } from './remove.ts'
import { failedStatus, type Status, statusOf } from './status.ts'
import { keepTrying, type Trying } from './trying.ts'

/** What the API and the page ask of a hub, wherever its tasks run. */
export interface Hub extends AsyncDisposable {
  /** What `check` finds leaves the pipeline failing, and it is tried again with backoff until it starts. */
  keepStarting(definition: ParsedPipeline): void
  status(): Promise<Status>
  /** For /metrics: of tasks that others run only what these do not tell themselves. */
  numbers(): Promise<ShownNumbers>
  search(pipeline: string, words: string, limit: number): Promise<SearchResult>
  deadLetters(pipeline: string): Promise<readonly DeadLetter[]>
  /** Rows for a topic that people write. Answers with how many are durable now; throws `UnknownTopic`, `UnknownType`, `BadRecord`. */
  produce(topic: string, request: ProduceRequest): Promise<number>
  /** Answers with what was dropped, for people. */
  remove(pipeline: string): Promise<readonly string[]>
}

/** Its pipelines run in this process. */
export interface LocalHub extends Hub {
  /** `check` first: throws what it finds. */
  start(definition: ParsedPipeline): Promise<RunningPipeline>
  running(name: string): RunningPipeline | null
}

interface State {
  readonly parts: HubParts
  readonly stop: AbortController
  readonly running: Map<string, RunningPipeline>
  /** Those that are to start. */
  readonly trying: Map<string, Trying>
  /** Why those of them that were tried did not. */
  readonly failed: Map<string, ConnectorError>
  /** Those whose removal was begun: when it fails it can be said again. */
  readonly leaving: Map<string, ParsedPipeline>
}

export function openHub(parts: HubParts): LocalHub {
  const state: State = {
    parts,
    stop: new AbortController(),
    running: new Map(),
    trying: new Map(),
    failed: new Map(),
    leaving: new Map(),
  }
  return {
    start: definition => start(state, definition, state.stop.signal),
    keepStarting: definition => keepStarting(state, definition),
    running: name => state.running.get(name) ?? null,
    status: () => status(state),
    async numbers() {
      const { pipelines } = await status(state)
      const own = [...state.running.values()].flatMap(({ source, sinks }) => [
        source,
        ...sinks.map(one => one.task),
      ])
      const byName = new Map(own.map(task => [task.name, task.metrics.histograms()]))
      const tasks = pipelines.flatMap(one => one.tasks)
      return { pipelines, tasks: tasks.map(task => ({ ...task, histograms: byName.get(task.name) ?? {} })) }
    },
    search: (pipeline, words, limit) => search(definitionOf(state, pipeline), words, limit),
    async deadLetters(pipeline) {
      const running = state.running.get(pipeline)
      return running ? readDeadLetters(running.dead) : readDeadLettersOf(parts, pipeline)
    },
    async produce(topic, request) {
      const started = [...state.running.values()].map(one => one.definition)
      const others = [...state.trying.values()].map(one => one.definition)
      const target = targetOf([...started, ...others], topic)
      const producer = state.running.get(target.definition.name)?.producer ?? null
      return produceInto(target, producer, request, parts.clock)
    },
    async remove(pipeline) {
      const definition = definitionOf(state, pipeline)
      state.leaving.set(pipeline, definition)
      await state.trying.get(pipeline)?.end() // first: it may start right now
      await state.running.get(pipeline)?.[Symbol.asyncDispose]()
      state.running.delete(pipeline)
      state.failed.delete(pipeline)
      const dropped = await removePipeline(parts, definition)
      state.leaving.delete(pipeline)
      return dropped
    },
    async [Symbol.asyncDispose]() {
      state.stop.abort()
      await Promise.all([...state.trying.values()].map(one => one.end()))
      await Promise.all([...state.running.values()].map(one => one[Symbol.asyncDispose]()))
    },
  }
}

async function status({ running, trying, failed, parts }: State): Promise<Status> {
  const { pipelines } = await statusOf([...running.values()], parts.clock.nowUs() / 1000)
  const others = [...trying.values()].flatMap(({ definition }) => {
    const error = failed.get(definition.name)
    return error ? [failedStatus(definition, error)] : []
  })
  return { pipelines: [...pipelines, ...others].sort((a, b) => (a.name < b.name ? -1 : 1)) }
}

async function start(
  state: State,
  definition: ParsedPipeline,
  signal: AbortSignal,
): Promise<RunningPipeline> {
  await admit(definition, state.parts, signal)
  const running = await startPipeline(definition, state.parts)
  state.running.set(definition.name, running)
  return running
}

function keepStarting(state: State, definition: ParsedPipeline): void {
  const { name } = definition
  const trying = keepTrying(state.parts, definition, {
    async attempt(signal) {
      await start(state, definition, signal)
      state.failed.delete(name)
    },
    failed: error => void state.failed.set(name, error),
  })
  state.trying.set(name, trying)
  void trying.done.then(() => {
    if (state.trying.get(name) === trying) state.trying.delete(name)
  })
}

function definitionOf({ running, trying, leaving }: State, pipeline: string): ParsedPipeline {
  const known = running.get(pipeline) ?? trying.get(pipeline)
  const definition = known?.definition ?? leaving.get(pipeline)
  if (definition) return definition
  throw unknownPipeline(pipeline, [...running.keys(), ...trying.keys()])
}

export const unknownPipeline = (pipeline: string, known: readonly string[]): ConnectorError =>
  new ConnectorError(
    'config',
    `there is no pipeline "${pipeline}"${known.length === 0 ? '' : `; there is ${known.join(', ')}`}`,
  )

/** The first sink that can be searched. */
export async function search(
  definition: ParsedPipeline,
  words: string,
  limit: number,
): Promise<SearchResult> {
  for (const { connector, config } of definition.sinks) {
    const sink = connector as Sink
    if (sink.search) return sink.search(config as never, words, limit)
  }
  throw new ConnectorError('config', `no sink of ${definition.name} can be searched`, {
    hint: 'Add a sink of type sqlite.',
  })
}

/** Of a pipeline that does not run. */
export async function readDeadLettersOf(parts: HubParts, pipeline: string): Promise<readonly DeadLetter[]> {
  await using dead = await parts.logs.openDead(pipeline)
  return await readDeadLetters(dead)
}
