/**
 * "Rows of this origin below this number are gone" (S1 to S3). Elasticsearch finds them by search, and search sees only what was
 * refreshed: nothing may be in flight, then refresh, search and delete, until nothing is found. Deletes carry the sweep's number and
 * not a newer one, so that a row which comes again with a number between is taken (S2).
 */
import { assertLease, type Context } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { quote } from '../../core/row.ts'
import { itemOutcome } from './classify.ts'
import { call, type SearchClient, toldBy } from './client.ts'
import { ORIGIN_FIELD } from './mapping.ts'

const HITS = 5_000

interface Hit {
  readonly _id: string
  readonly _routing?: string
}

export async function sweep(
  client: SearchClient,
  index: string,
  origin: string,
  below: number,
  context: Context,
): Promise<void> {
  const path = `/${encodeURIComponent(index)}`
  for (;;) {
    assertLease(context)
    const { signal } = context
    await call(client, `refreshing index "${index}"`, { method: 'POST', path: `${path}/_refresh`, signal })
    const found = await call<{ hits: { hits: readonly Hit[] } }>(client, `searching index "${index}"`, {
      method: 'POST',
      path: `${path}/_search`,
      body: {
        size: HITS,
        _source: false,
        sort: ['_doc'],
        query: {
          bool: {
            filter: [
              { term: { [`${ORIGIN_FIELD}.origin`]: origin } },
              { range: { [`${ORIGIN_FIELD}.version`]: { lt: below } } },
            ],
          },
        },
      },
      timeoutMs: 60_000,
      signal,
    })
    const hits = found?.hits.hits ?? []
    if (hits.length === 0) return
    await remove(client, path, hits, below, context)
  }
}

async function remove(
  client: SearchClient,
  path: string,
  hits: readonly Hit[],
  below: number,
  context: Context,
): Promise<void> {
  assertLease(context)
  const lines = hits.map(
    ({ _id: id, _routing: routing }) =>
      `{"delete":{"_id":${quote(id)},"version":${below},"version_type":"external"${routing === undefined ? '' : `,"routing":${quote(routing)}`}}}\n`,
  )
  const leftMs = context.deadlineMs() - context.clock.monotonicMs()
  const body = await call<{ items: { delete: { status: number; error?: unknown } }[] }>(
    client,
    'deleting swept documents',
    {
      method: 'POST',
      path: `${path}/_bulk`,
      query: { filter_path: 'items.*.status,items.*.error' },
      lines: Buffer.from(lines.join('')),
      timeoutMs: Math.max(1, Math.floor(Math.min(60_000, leftMs))),
      signal: context.signal,
    },
  )
  // What is refused has become newer; what the cluster could not do now is found again by the next search.
  for (const { delete: item } of body?.items ?? []) {
    const told = item.error === undefined ? { type: '', reason: '' } : toldBy({ error: item.error })
    const outcome = itemOutcome(item.status, told)
    if (outcome === 'bad' || outcome === 'stop')
      throw new ConnectorError(
        'unavailable',
        `${client.target}: deleting a swept document: ${item.status} ${told.type}: ${told.reason}`,
      )
    if (outcome === 'later') await context.clock.sleep(200, context.signal)
  }
}
