/**
 * `npm start`: a made-up shop in a real PostgreSQL, followed into a SQLite index, with a page to watch. With DATABASE_URL the
 * shop is made there, in a schema `shop` of its own; else in a PostgreSQL that the demo starts under the data directory. With
 * ELASTICSEARCH_URL the index is there.
 * `--once` is the proof: snapshot, some changes, then every row of the source is compared with the index.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import type { RunningPipeline } from '../hub/pipeline.ts'
import { complain, count, Failed, print, printJson } from './output.ts'
import { drawProgress } from './progress.ts'
import {
  type CommonOptions,
  loadHub,
  loadPipelines,
  logOf,
  type OwnedHub,
  ownHub,
  type Setting,
  stopSignal,
} from './session.ts'
import { aborted, STOP_MS, serve } from './up.ts'

export interface Shop extends AsyncDisposable {
  readonly tables: readonly string[]
  prepare(): Promise<'made' | 'kept'>
  change(n: number): Promise<void>
  expected(table: string): Promise<ReadonlyMap<string, string>>
}

/** What the demo is made of; connectors are the composition root's to import. */
export interface DemoKit {
  startPostgres(options: {
    directory: string
    settings: Readonly<Record<string, string | number>>
    log: (line: string) => void
  }): Promise<{ readonly url: string; stop(): Promise<void> }>
  openShop(url: string, products: number): Promise<Shop>
  /** Of the SQLite file. */
  readDocuments(path: string, table: string): ReadonlyMap<string, string>
  elasticsearchDocuments(url: string, index: string): Promise<ReadonlyMap<string, string>>
}

export interface DemoOptions extends CommonOptions {
  readonly once?: boolean
  readonly changes: string
  readonly products: string
  readonly port?: string
}

const pipelineFile = ({ ELASTICSEARCH_URL: url }: NodeJS.ProcessEnv): string =>
  fileURLToPath(
    new URL(`../../../pipelines/${url ? 'shop-elasticsearch' : 'shop-search'}.yaml`, import.meta.url),
  )
const CHANGES_A_SECOND = 4
const PATIENCE_MS = 120_000

export async function demo(setting: Setting, kit: DemoKit, options: DemoOptions): Promise<void> {
  const startedMs = performance.now()
  const config = loadHub(setting, options, 'here')
  const stopped = stopSignal(STOP_MS)
  const tell = options.json || options.once ? complain : print
  await using server = await serverOf(setting, kit, config.dataDir, tell)
  const env = { ...setting.env, DATABASE_URL: server.url, MILLRACE_DATA: config.dataDir }
  const own: Setting = { ...setting, env }
  const pipelines = await loadPipelines(own, [pipelineFile(setting.env)], false)
  await using shop = await kit.openShop(server.url, Number(options.products))
  if ((await shop.prepare()) === 'made') tell(`Made a shop of ${count(Number(options.products))} products.`)
  await using owned = ownHub(own, config, logOf(setting.secrets, options.logLevel ?? 'warn'))
  const pipeline = pipelines[0]!
  if (options.once) {
    using _ = process.stderr.isTTY ? drawProgress(() => owned.hub.status(), process.stderr) : null
    const running = await owned.hub.start(pipeline)
    const { ELASTICSEARCH_URL: url } = setting.env
    const documentsOf: DocumentsOf = url
      ? table => kit.elasticsearchDocuments(url, `shop-${table}`)
      : async table => kit.readDocuments(join(config.dataDir, 'shop.db'), table)
    await proof(running, owned, shop, documentsOf, options, startedMs, stopped)
    return
  }
  owned.hub.keepStarting(pipeline)
  await using _api = await serve(owned, config, options)
  using _ =
    process.stderr.isTTY && !options.json ? drawProgress(() => owned.hub.status(), process.stderr) : null
  const writing = liveWriter(shop, owned, stopped)
  await Promise.race([aborted(stopped), writing])
}

interface Server extends AsyncDisposable {
  readonly url: string
}

async function serverOf(
  { env, secrets }: Setting,
  kit: DemoKit,
  dataDir: string,
  tell: (text: string) => void,
): Promise<Server> {
  if (env.DATABASE_URL) return { url: env.DATABASE_URL, async [Symbol.asyncDispose]() {} }
  const lines: string[] = []
  const started = await kit.startPostgres({
    directory: join(dataDir, 'postgres'),
    settings: { wal_level: 'logical', max_wal_size: '1GB', shared_buffers: '64MB' },
    log: line => {
      lines.push(line)
      if (lines.length > 200) lines.shift()
    },
  })
  secrets.add(new URL(started.url).password)
  tell('Started a PostgreSQL of its own.')
  return { url: started.url, [Symbol.asyncDispose]: () => started.stop() }
}

/** A few changes a second, until stopped. Where it begins is left to chance: a second start should not repeat the first. */
async function liveWriter(shop: Shop, { parts }: OwnedHub, stopped: AbortSignal): Promise<void> {
  for (let n = Number.parseInt(randomUUID().slice(0, 5), 16); !stopped.aborted; n++) {
    await shop.change(n)
    await parts.clock.sleep(1000 / CHANGES_A_SECOND, stopped)
  }
}

/** What the index holds of a table, by id. */
type DocumentsOf = (table: string) => Promise<ReadonlyMap<string, string>>

async function proof(
  running: RunningPipeline,
  owned: OwnedHub,
  shop: Shop,
  documentsOf: DocumentsOf,
  { changes: wanted, json }: DemoOptions,
  startedMs: number,
  stopped: AbortSignal,
): Promise<void> {
  const changes = Number(wanted)
  await patiently(running, owned, stopped, async () => running.isCaughtUp())
  const before = running.source.metrics.get('records')
  for (let n = 1; n <= changes && !stopped.aborted; n++) await shop.change(n)
  await patiently(
    running,
    owned,
    stopped,
    async () => running.source.metrics.get('records') >= before + changes && (await isLevel(running)),
  )
  const found = await compare(shop, documentsOf)
  const seconds = Math.round((performance.now() - startedMs) / 10) / 100
  const result = {
    rows: found.rows,
    documents: found.documents,
    changes,
    different: found.different,
    seconds,
  }
  if (json) printJson(result)
  else
    print(
      `${count(result.rows)} rows, ${count(result.documents)} documents, ${count(changes)} changes followed, ${count(result.different)} different, ${seconds} s`,
    )
  if (found.different > 0) throw new Failed()
}

/** Every sink has passed the end of the log. */
async function isLevel(running: RunningPipeline): Promise<boolean> {
  const ends = await running.log.ends()
  return running.sinks.every(({ task, partition }) =>
    ends.every(
      ({ topic, partition: of, end }) =>
        of !== partition || (running.position(task.name)?.next[topic] ?? 0) >= end,
    ),
  )
}

async function patiently(
  running: RunningPipeline,
  { parts }: OwnedHub,
  stopped: AbortSignal,
  isDone: () => Promise<boolean>,
): Promise<void> {
  const until = performance.now() + PATIENCE_MS
  while (!(await isDone())) {
    const error = [running.source, ...running.sinks.map(one => one.task)]
      .map(task => task.error())
      .find(one => one !== null)
    if (stopped.aborted || performance.now() > until) {
      complain(
        stopped.aborted
          ? 'stopped before the end'
          : `not done after ${PATIENCE_MS / 1000} s${error ? `: ${error.message}` : ''}`,
      )
      throw new Failed()
    }
    await parts.clock.sleep(20, stopped)
  }
}

/** different = missing + extra + unequal, of every row of every table. */
async function compare(
  shop: Shop,
  documentsOf: DocumentsOf,
): Promise<{ rows: number; documents: number; different: number }> {
  let rows = 0
  let documents = 0
  let different = 0
  for (const table of shop.tables) {
    const expected = await shop.expected(table)
    const found = await documentsOf(table)
    rows += expected.size
    documents += found.size
    for (const [id, text] of expected) {
      const document = found.get(id)
      if (document === undefined || !isDeepStrictEqual(JSON.parse(document), JSON.parse(text))) different++
    }
    for (const id of found.keys()) if (!expected.has(id)) different++
  }
  return { rows, documents, different }
}
