/** What both search sinks are, but for their name and how they connect: checks, plan, writer, search. */
import { z } from 'zod'
import type { Context, SearchResult, Sink, SinkTarget, TableAtSink } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { fillTable, placesOf } from '../../core/format/template.ts'
import type { Json } from '../../core/record.ts'
import { CALL_MS, call, type SearchClient } from './client.ts'
import { type SearchConfig, shared } from './config.ts'
import { forget } from './fence.ts'
import { planTargets } from './plan.ts'
import { search } from './search.ts'
import { indexName } from './template.ts'
import { openSearchWriter } from './writer.ts'

/** Eight requests of the default size: all are waited for at the end of a batch, and fewer leave the cluster idle meanwhile. */
const BATCH = { records: 20_000, bytes: 8 << 20 }

export interface SearchSinkParts<K extends z.ZodRawShape> {
  readonly name: string
  readonly summary: string
  /** The options of the connection. */
  readonly connection: K
  readonly examples: readonly { readonly title: string; readonly config: Json }[]
  /** Throws `unavailable`, `auth`, or `config` for a cluster of another kind. */
  connect(config: z.output<z.ZodObject<K>>): Promise<SearchClient>
  /** Where it connects to, without secrets. */
  targetOf(config: z.output<z.ZodObject<K>>): string
}

export function searchSink<K extends z.ZodRawShape>({
  name,
  summary,
  connection,
  examples,
  connect,
  targetOf,
}: SearchSinkParts<K>): Sink {
  type Config = z.output<z.ZodObject<K>> & SearchConfig
  const using = async <T>(config: Config, work: (client: SearchClient) => Promise<T>): Promise<T> => {
    const client = await connect(config)
    try {
      return await work(client)
    } finally {
      await client[Symbol.asyncDispose]()
    }
  }
  return {
    name,
    summary,
    config: z.strictObject({ ...connection, ...shared }),
    examples: examples as Sink['examples'],
    keyed: () => true,
    delivery: () => 'idempotent',
    batch: BATCH,
    target: (config, table) => {
      const options = config as unknown as Config
      const { schema, name: of } = table
      const index = indexName(fillTable(options.index, table, `${schema}.${of}`))
      // Two tables may share an index when their ids cannot meet (V6).
      const parts = placesOf(options.id)
      const own = [parts.includes('schema') ? schema : '', parts.includes('table') ? of : '']
      return `${targetOf(options)}/${index} ${own.join('.')}`
    },
    check: (config, context) =>
      using(config as unknown as Config, client => check(client, config as unknown as SearchConfig, context)),
    plan: (config, tables: readonly TableAtSink[], context): Promise<readonly SinkTarget[]> =>
      using(config as unknown as Config, client =>
        planTargets(client, config as unknown as SearchConfig, tables, context),
      ),
    async open(config, context) {
      const client = await connect(config as unknown as Config)
      return openSearchWriter(client, config as unknown as SearchConfig, context)
    },
    async forget(config, tasks, context) {
      try {
        await using(config as unknown as Config, client => forget(client, tasks, context))
      } catch (error) {
        // Aliases are no positions: a cluster that is gone must not keep a pipeline from being deleted.
        if (!(error instanceof ConnectorError) || !['unavailable', 'auth'].includes(error.kind)) throw error
        context.log.warn({ tasks }, `${error.message}: what aliases of ${tasks.join(', ')} stand there stay`)
      }
    },
    search: (config, words, limit): Promise<SearchResult> =>
      using(config as unknown as Config, client =>
        search(client, config as unknown as SearchConfig, words, limit),
      ),
  }
}

/** That it answers was seen by connecting. */
async function check(client: SearchClient, { pipeline }: SearchConfig, { signal }: Context): Promise<void> {
  await call(client, 'looking at its health', { method: 'GET', path: '/_cluster/health', signal })
  if (pipeline === undefined) return
  const { status } = await client.request({
    method: 'GET',
    path: `/_ingest/pipeline/${encodeURIComponent(pipeline)}`,
    timeoutMs: CALL_MS,
    signal,
  })
  if (status === 404)
    throw new ConnectorError(
      'config',
      `${client.product} ${client.target} has no ingest pipeline "${pipeline}"`,
      {
        hint: `Make it: PUT _ingest/pipeline/${pipeline}`,
      },
    )
}
