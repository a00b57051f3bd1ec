/**
 * The highest version of a pipeline's documents in any index that the options can name (V3). Names like `*-*` fit much that is not
 * ours: only indexes that have our field are refreshed and searched.
 */
import type { Context } from '../../core/connector.ts'
import { CALL_MS, call, type SearchClient } from './client.ts'
import type { SearchConfig } from './config.ts'
import { ORIGIN_FIELD } from './mapping.ts'
import { indexPattern } from './template.ts'

/** Their names stand in the address of a request, which may have 4,096 bytes; a name has 255 at most. */
const INDEXES_AT_ONCE = 12

const LENIENT = { ignore_unavailable: true, allow_no_indices: true }

/** 0: there are none. */
export async function highest(client: SearchClient, config: SearchConfig, context: Context): Promise<number> {
  const names = await ownIndexes(client, indexPattern(config.index), context.signal)
  let found = 0
  for (let at = 0; at < names.length; at += INDEXES_AT_ONCE)
    found = Math.max(found, await highestIn(client, names.slice(at, at + INDEXES_AT_ONCE), context))
  return found
}

interface FieldMappings {
  readonly [index: string]: { readonly mappings: object }
}

async function ownIndexes(client: SearchClient, pattern: string, signal: AbortSignal): Promise<string[]> {
  const path = `/${pattern}/_mapping/field/${ORIGIN_FIELD}.version`
  const what = `looking for indexes "${pattern}"`
  const found = await call<FieldMappings>(client, what, { method: 'GET', path, query: LENIENT, signal }, true)
  return Object.entries(found ?? {})
    .filter(([, { mappings }]) => Object.keys(mappings).length > 0)
    .map(([name]) => name)
}

async function highestIn(
  client: SearchClient,
  names: readonly string[],
  { pipeline, signal }: Context,
): Promise<number> {
  const path = `/${names.map(encodeURIComponent).join(',')}`
  // What was written a moment ago would not be found; where that is not allowed, the clock is above it.
  await client.request({
    method: 'POST',
    path: `${path}/_refresh`,
    query: LENIENT,
    timeoutMs: CALL_MS,
    signal,
  })
  const found = await call<{ aggregations?: { highest: { value: number | null } } }>(
    client,
    `searching ${names.join(', ')}`,
    {
      method: 'POST',
      path: `${path}/_search`,
      query: LENIENT,
      body: {
        size: 0,
        query: { prefix: { [`${ORIGIN_FIELD}.origin`]: `${pipeline}.` } },
        aggs: { highest: { max: { field: `${ORIGIN_FIELD}.version` } } },
      },
      signal,
    },
  )
  return found?.aggregations?.highest.value ?? 0
}
