/**
 * What every command that works on pipelines needs: the files read and checked, the secrets noted, logs on stderr, and, for
 * those that own it, the data directory.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import pino from 'pino'
import type { Log } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import { type DataDirectory, openDirectory } from '../hub/directory.ts'
import { type Hub, type LocalHub, openHub } from '../hub/hub.ts'
import { kafkaLogs } from '../hub/kafka-logs.ts'
import { embeddedLogs, type Logs } from '../hub/logs.ts'
import { readPem } from '../hub/pem.ts'
import type { HubParts } from '../hub/pipeline.ts'
import { modulesOf } from '../pipeline/external.ts'
import { type HubConfig, parseHub, type RunsTasks } from '../pipeline/hub-schema.ts'
import { type Mistake, type ParsedFiles, parsePipelines, type YamlFile } from '../pipeline/parse.ts'
import type { ParsedPipeline, Registry } from '../pipeline/schema.ts'
import { openBullQueue } from '../queue/bullmq.ts'
import type { TaskQueue } from '../queue/queue.ts'
import type { Secrets } from '../secrets.ts'
import { realClock } from '../worker/clock.ts'
import { withExternal } from './external.ts'
import { BadInput, complain, printJson } from './output.ts'

export interface CommonOptions {
  readonly hub?: string
  readonly dataDir?: string
  readonly json?: boolean
  readonly logLevel?: string
}

export interface Setting {
  readonly connectors: Registry
  readonly secrets: Secrets
  readonly env: NodeJS.ProcessEnv
}

/** JSON lines on stderr (pino), each redacted. */
export function logOf(secrets: Secrets, level: string): Log {
  const stream = { write: (line: string) => void process.stderr.write(secrets.redact(line)) }
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, stream)
}

const readFile = (path: string): string => readFileSync(path, 'utf8')

/** Files as named; of a directory its *.yaml and *.yml, without hub.yaml. Names nobody can read are mistakes, too. */
export function filesOf(paths: readonly string[]): string[] {
  return paths.flatMap(path => {
    if (!existsSync(path)) {
      complain(`${path}: there is no such file or directory`)
      throw new BadInput()
    }
    if (!statSync(path).isDirectory()) return [path]
    const found = readdirSync(path)
      .filter(name => /\.ya?ml$/.test(name) && !/^hub\.ya?ml$/.test(name))
      .sort()
    if (found.length > 0) return found.map(name => join(path, name))
    complain(`${path}: no pipeline (*.yaml) in this directory`)
    throw new BadInput()
  })
}

/** Every mistake of every file, at once; throws BadInput when there is one. */
export async function loadPipelines(
  setting: Setting,
  paths: readonly string[],
  json = false,
): Promise<readonly ParsedPipeline[]> {
  const { pipelines, mistakes } = await readPipelines(setting, paths)
  if (mistakes.length > 0) refuse(mistakes, setting.secrets, json)
  return pipelines
}

export function readPipelines(setting: Setting, paths: readonly string[]): Promise<ParsedFiles> {
  const files = filesOf(paths).map(path => ({ path: relative('', path) || path, text: readFile(path) }))
  return parseFiles(setting, files)
}

async function parseFiles(
  { connectors, secrets, env }: Setting,
  files: readonly YamlFile[],
): Promise<ParsedFiles> {
  const sources = { env, readFile }
  const all = await withExternal(connectors, modulesOf(files, sources))
  return parsePipelines(files, { ...sources, connectors: all, secrets })
}

export function refuse(mistakes: readonly Mistake[], secrets: Secrets, json: boolean): never {
  if (json) printJson({ mistakes: mistakes.map(one => ({ ...one, message: secrets.redact(one.message) })) })
  for (const { file, line, column, message } of mistakes)
    complain(secrets.redact(`${file}:${line}:${column}: ${message}`))
  throw new BadInput()
}

/** hub.yaml of the current directory, or --hub; all of it optional. With `runsTasks` the file must mean the same. */
export function loadHub(setting: Setting, options: CommonOptions, runsTasks?: RunsTasks): HubConfig {
  const { config, mistakes } = readHub(setting, options, runsTasks)
  if (mistakes.length > 0) refuse(mistakes, setting.secrets, options.json === true)
  return config
}

/** `path` null: there is none, and the defaults hold. */
export function readHub(
  { secrets, env }: Setting,
  { hub, dataDir }: CommonOptions,
  runsTasks?: RunsTasks,
): { config: HubConfig; mistakes: readonly Mistake[]; path: string | null } {
  const path = hub ?? 'hub.yaml'
  const isThere = existsSync(path)
  if (hub && !isThere) {
    complain(`${hub}: there is no such file`)
    throw new BadInput()
  }
  const text = isThere ? readFile(path) : ''
  const { config, mistakes } = parseHub({ path, text }, { env, readFile, secrets, runsTasks })
  return { config: dataDir ? { ...config, dataDir } : config, mistakes, path: isThere ? path : null }
}

export interface OwnedHub<H extends Hub = LocalHub> extends AsyncDisposable {
  readonly hub: H
  readonly directory: DataDirectory
  readonly parts: HubParts
}

export function logsOf(config: HubConfig, directory: DataDirectory | null, log: Log): Logs {
  const { kafka, lingerMs, batchBytes } = config.log
  return kafka
    ? kafkaLogs({ config, clock: realClock, log })
    : embeddedLogs({ directory: directory!, clock: realClock, log, lingerMs, batchBytes })
}

/** The pipelines' files as they stand: what a hub hands to workers, who fill in secrets from their own environment. */
export function textsOf(pipelines: readonly ParsedPipeline[]): ReadonlyMap<string, PipelineText> {
  return new Map(pipelines.map(({ name, file }) => [name, { file, text: readFile(file) }]))
}

export interface PipelineText {
  readonly file: string
  readonly text: string
}

/** Of one file that came with an offer. Throws `config` with all that is wrong with it here. */
export async function parseText(setting: Setting, { file, text }: PipelineText): Promise<ParsedPipeline> {
  const { pipelines, mistakes } = await parseFiles(setting, [{ path: file, text }])
  const [first] = mistakes
  if (first || !pipelines[0])
    throw new ConnectorError(
      'config',
      mistakes.map(one => `${one.file}:${one.line}:${one.column}: ${one.message}`).join('; '),
      { hint: 'A worker needs the environment, the files and the connectors that its pipelines name.' },
    )
  return pipelines[0]
}

export const openQueue = async ({ name, queue }: HubConfig, log: Log): Promise<TaskQueue> =>
  openBullQueue({
    url: queue!.url!,
    ca: readPem('queue.ca', queue!.ca),
    sentinels: queue!.sentinel ?? null,
    hub: name,
    lockMs: queue!.lock_ms,
    stalledMs: Math.max(500, queue!.lock_ms / 5),
    clock: realClock,
    log,
  })

/** Takes the data directory and a hub on it that runs its pipelines here. */
export const ownHub = (setting: Setting, config: HubConfig, log: Log): OwnedHub =>
  ownAny(setting, config, log, openHub)

export function ownAny<H extends Hub>(
  { secrets }: Setting,
  config: HubConfig,
  log: Log,
  makeHub: (parts: HubParts) => H,
): OwnedHub<H> {
  const directory = openDirectory(config.dataDir)
  const parts: HubParts = {
    directory,
    clock: realClock,
    random: Math.random,
    log,
    redact: text => secrets.redact(text),
    logs: logsOf(config, directory, log),
  }
  const hub = makeHub(parts)
  return {
    hub,
    directory,
    parts,
    async [Symbol.asyncDispose]() {
      await hub[Symbol.asyncDispose]()
      directory[Symbol.dispose]()
    },
  }
}

/** Aborts at Ctrl-C or SIGTERM; a second Ctrl-C ends the process at once, and so does a stop that takes longer than `graceMs`. */
export function stopSignal(graceMs: number): AbortSignal {
  const stop = new AbortController()
  const onSignal = () => {
    if (stop.signal.aborted) process.exit(130)
    stop.abort()
    setTimeout(() => {
      complain('stopping took too long; what was written is safe, the rest is read again at the next start')
      process.exit(1)
    }, graceMs).unref()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return stop.signal
}
