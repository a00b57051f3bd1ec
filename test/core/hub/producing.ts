/** A hub with its API on a directory of its own, for tests that bring rows to topics. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectors } from '../../../connectors/index.ts'
import type { Batch, Rejected } from '../../../core/connector.ts'
import { startApi } from '../../../core/hub/api.ts'
import { type DataDirectory, openDirectory } from '../../../core/hub/directory.ts'
import { openHub } from '../../../core/hub/hub.ts'
import { embeddedLogs, type Logs } from '../../../core/hub/logs.ts'
import type { ChangeLog } from '../../../core/log/log.ts'
import { mistakeText, parsePipelines } from '../../../core/pipeline/parse.ts'
import type { ParsedPipeline } from '../../../core/pipeline/schema.ts'
import type { ChangeRecord, LogRecord } from '../../../core/record.ts'
import { realClock } from '../../../core/worker/clock.ts'

export const log = { debug() {}, info() {}, warn() {}, error() {} }

export const ORDERS = `name: orders
source:
  type: produce
  topics:
    - { table: shop.orders, key: [id], columns: { id: int8, total: numeric, at: timestamptz } }
    - { table: shop.notes }
    - { table: shop.lines, key: [order, line] }
`
export const TOPIC = 'orders.shop.orders'

export function pipelineOf(text: string): ParsedPipeline {
  const readFile = () => {
    throw new Error('no file is read')
  }
  const { pipelines, mistakes } = parsePipelines([{ path: 'p.yaml', text }], {
    connectors,
    env: {},
    readFile,
  })
  if (mistakes.length > 0) throw new Error(mistakes.map(mistakeText).join('\n'))
  return pipelines[0]!
}

export interface Answer {
  readonly status: number
  readonly body: { topic?: string; records?: number; record?: number; error?: string; hint?: string | null }
}

/** Hubs may follow each other on it. */
export interface Folder extends Disposable {
  readonly path: string
  readonly directory: DataDirectory
}

export function newFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), 'millrace-produce-'))
  const directory = openDirectory(join(path, 'data'))
  return {
    path,
    directory,
    [Symbol.dispose]() {
      directory[Symbol.dispose]()
      rmSync(path, { recursive: true, force: true })
    },
  }
}

type Rejections = readonly Rejected<ChangeRecord>[]

/** Logs whose writers write by `around`, for tests that break them; it may throw before or after `write`. */
export const writing =
  (
    around: (batch: Batch<ChangeRecord>, write: () => Promise<Rejections>) => Promise<Rejections | undefined>,
  ) =>
  (logs: Logs): Logs => ({
    ...logs,
    async open(definition, retention) {
      const opened = await logs.open(definition, retention)
      const changes: typeof opened.changes = {
        ...opened.changes,
        async writer(context, floor) {
          const writer = await opened.changes.writer(context, floor)
          return {
            ...writer,
            write: async batch => (await around(batch, () => writer.write(batch))) ?? [],
          }
        },
      }
      return { ...opened, changes, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() }
    },
  })

/** `wrap`: see `writing`. */
export async function startHub(
  { path, directory }: Folder,
  yaml: string,
  { wrap = logs => logs, lingerMs = 0 }: { wrap?: (logs: Logs) => Logs; lingerMs?: number } = {},
) {
  const definition = pipelineOf(yaml)
  const logs = wrap(embeddedLogs({ directory, clock: realClock, log, lingerMs, batchBytes: 1 << 20 }))
  const parts = {
    directory,
    clock: realClock,
    random: Math.random,
    log,
    redact: (text: string) => text,
    logs,
  }
  const hub = openHub(parts)
  const running = await hub.start(definition)
  const api = await startApi(hub, { host: '127.0.0.1', port: 0, pages: path })
  return {
    hub,
    parts,
    running,
    url: api.url,
    async post(
      topic: string,
      body: string | Buffer,
      type = 'application/json',
      key?: string,
    ): Promise<Answer> {
      const answer = await fetch(`${api.url}/api/v1/topics/${topic}`, {
        method: 'POST',
        body,
        headers: { 'content-type': type, ...(key === undefined ? {} : { 'idempotency-key': key }) },
      })
      return { status: answer.status, body: (await answer.json()) as Answer['body'] }
    },
    async [Symbol.asyncDispose]() {
      await api[Symbol.asyncDispose]()
      await hub[Symbol.asyncDispose]()
    },
  }
}

/** All that the log holds, in the order of its versions. */
export async function recordsIn(changes: ChangeLog): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for (let partition = 0; partition < changes.partitions; partition++) {
    await using reader = await changes.reader({
      consumer: `test/reader/${partition}`,
      partition,
      from: null,
      untilEnd: true,
      signal: new AbortController().signal,
    })
    for await (const batch of reader) records.push(...batch.records)
  }
  return records.sort((a, b) => a.version - b.version)
}
