/**
 * The hub of one process: a data directory and the pipelines that run on it. Each starts for itself: one that cannot start is
 * shown with its error and tried again, and keeps no other from running.
 */
import type { SearchResult, Sink } from '../connector.ts'
import { asConnectorError, ConnectorError } from '../errors.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { backoffMs } from '../worker/backoff.ts'
import { type DeadLetter, readDeadLetters } from '../worker/dead-letters.ts'
import { lookingContext } from './looking.ts'
import { type HubParts, type RunningPipeline, startPipeline } from './pipeline.ts'
import { checkAll, followed, isMade, planAll, recordMade } from './preflight.ts'
import { removePipeline } from './remove.ts'
import { failedStatus, type Status, statusOf } from './status.ts'

export interface Hub extends AsyncDisposable {
  /** `check` first: throws what it finds. */
  start(definition: ParsedPipeline): Promise<RunningPipeline>
  /** As `start`, but what `check` finds leaves the pipeline failing, and it is tried again with backoff until it starts. */
  keepStarting(definition: ParsedPipeline): void
  running(name: string): RunningPipeline | null
  status(): Promise<Status>
  search(pipeline: string, words: string, limit: number): Promise<SearchResult>
  deadLetters(pipeline: string): Promise<readonly DeadLetter[]>
  /** Answers with what was dropped, for people. */
  remove(pipeline: string): Promise<readonly string[]>
}

interface State {
  readonly parts: HubParts
  readonly stop: AbortController
  readonly running: Map<string, RunningPipeline>
  /** Those that do not start: why. */
  readonly failed: Map<string, { readonly definition: ParsedPipeline; readonly error: ConnectorError }>
  readonly starting: Set<Promise<void>>
}

export function openHub(parts: HubParts): Hub {
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
    async status() {
      const { pipelines } = await statusOf([...state.running.values()], parts.clock.nowUs() / 1000)
      const failed = [...state.failed.values()].map(({ definition, error }) =>
        failedStatus(definition, error),
      )
      return { pipelines: [...pipelines, ...failed].sort((a, b) => (a.name < b.name ? -1 : 1)) }
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

async function start(state: State, definition: ParsedPipeline): Promise<RunningPipeline> {
  const { clock, log, directory } = state.parts
  const context = lookingContext(clock, log, definition.name, state.stop.signal)
  // Of a pipeline that was made before, what cannot change is said first: `check` would ask for statements that lead nowhere.
  const wasMade = isMade(directory.state, definition.name)
  const early = wasMade ? await planAll(definition, context, directory.state) : null
  await checkAll(followed(definition, directory.state), context, wasMade)
  const plan = early ?? (await planAll(definition, context, directory.state))
  recordMade(definition, plan, directory.state, clock.nowUs() / 1000)
  const running = await startPipeline(definition, state.parts)
  state.running.set(definition.name, running)
  return running
}

async function keepStarting(state: State, definition: ParsedPipeline): Promise<void> {
  const { clock, log, random } = state.parts
  const { retry } = definition.errors
  for (let attempt = 1; !state.stop.signal.aborted; attempt++) {
    try {
      await start(state, definition)
      state.failed.delete(definition.name)
      return
    } catch (thrown) {
      const error = asConnectorError(thrown)
      state.failed.set(definition.name, { definition, error })
      log.error(
        { pipeline: definition.name, kind: error.kind, attempt, hint: error.hint },
        `${definition.name} does not start: ${error.message}`,
      )
      await clock.sleep(backoffMs(retry, attempt, random()), state.stop.signal)
    }
  }
}

function definitionOf(state: State, pipeline: string): ParsedPipeline {
  const definition = state.running.get(pipeline)?.definition ?? state.failed.get(pipeline)?.definition
  if (definition) return definition
  const known = [...state.running.keys(), ...state.failed.keys()].join(', ')
  throw new ConnectorError(
    'config',
    `there is no pipeline "${pipeline}"${known === '' ? '' : `; there is ${known}`}`,
  )
}

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
