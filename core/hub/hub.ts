/**
 * The hub of one process: a data directory and the pipelines that run on it. Each starts for itself: one that cannot start is
 * shown with its error and tried again, and keeps no other from running.
 */
import type { SearchResult, Sink } from '../connector.ts'
import { asConnectorError, ConnectorError } from '../errors.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { backoffMs } from '../worker/backoff.ts'
import { type DeadLetter, readDeadLetters } from '../worker/dead-letters.ts'
import type { ShownNumbers } from './exposition.ts'
import { type HubParts, type RunningPipeline, startPipeline } from './pipeline.ts'
import { admit } from './preflight.ts'
import { removePipeline } from './remove.ts'
import { failedStatus, type Status, statusOf } from './status.ts'

/** What the API and the page ask of a hub, wherever its tasks run. */
export interface Hub extends AsyncDisposable {
  /** What `check` finds leaves the pipeline failing, and it is tried again with backoff until it starts. */
  keepStarting(definition: ParsedPipeline): void
  status(): Promise<Status>
  /** For /metrics: of tasks that others run only what these do not tell themselves. */
  numbers(): Promise<ShownNumbers>
  search(pipeline: string, words: string, limit: number): Promise<SearchResult>
  deadLetters(pipeline: string): Promise<readonly DeadLetter[]>
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
  /** Those that do not start: why. */
  readonly failed: Map<string, { readonly definition: ParsedPipeline; readonly error: ConnectorError }>
  readonly starting: Set<Promise<void>>
}

export function openHub(parts: HubParts): LocalHub {
  const state: State = {
    parts,
    stop: new AbortController(),
    running: new Map(),
    failed: new Map(),
    starting: new Set(),
  }
  return {
    start: definition => start(state, definition),
    keepStarting(definition) {
      const trying = keepStarting(state, definition)
      state.starting.add(trying)
      void trying.finally(() => state.starting.delete(trying))
    },
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
    async remove(pipeline) {
      const definition = definitionOf(state, pipeline)
      await state.running.get(pipeline)?.[Symbol.asyncDispose]()
      state.running.delete(pipeline)
      state.failed.delete(pipeline)
      return removePipeline(parts, definition)
    },
    async [Symbol.asyncDispose]() {
      state.stop.abort()
      await Promise.all(state.starting)
      await Promise.all([...state.running.values()].map(one => one[Symbol.asyncDispose]()))
    },
  }
}

async function status({ running, failed, parts }: State): Promise<Status> {
  const { pipelines } = await statusOf([...running.values()], parts.clock.nowUs() / 1000)
  const others = [...failed.values()].map(({ definition, error }) => failedStatus(definition, error))
  return { pipelines: [...pipelines, ...others].sort((a, b) => (a.name < b.name ? -1 : 1)) }
}

async function start(state: State, definition: ParsedPipeline): Promise<RunningPipeline> {
  await admit(definition, state.parts, state.stop.signal)
  const running = await startPipeline(definition, state.parts)
  state.running.set(definition.name, running)
  return running
}

const keepStarting = (state: State, definition: ParsedPipeline): Promise<void> =>
  keepTrying(state.parts, definition, state.stop.signal, {
    async attempt() {
      await start(state, definition)
      state.failed.delete(definition.name)
    },
    failed: error => void state.failed.set(definition.name, { definition, error }),
  })

export interface Trying {
  attempt(): Promise<void>
  failed(error: ConnectorError): void
  /** Default: for as long as the signal is. */
  isWanted?(): boolean
}

/** Again with backoff until it works. */
export async function keepTrying(
  { clock, log, random }: HubParts,
  { name, errors: { retry } }: ParsedPipeline,
  signal: AbortSignal,
  { attempt, failed, isWanted = () => true }: Trying,
): Promise<void> {
  for (let count = 1; !signal.aborted && isWanted(); count++)
    try {
      return await attempt()
    } catch (thrown) {
      const error = asConnectorError(thrown)
      failed(error)
      log.error(
        { pipeline: name, kind: error.kind, attempt: count, hint: error.hint },
        `${name} does not start: ${error.message}`,
      )
      await clock.sleep(backoffMs(retry, count, random()), signal)
    }
}

function definitionOf({ running, failed }: State, pipeline: string): ParsedPipeline {
  const definition = running.get(pipeline)?.definition ?? failed.get(pipeline)?.definition
  if (definition) return definition
  throw unknownPipeline(pipeline, [...running.keys(), ...failed.keys()])
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
