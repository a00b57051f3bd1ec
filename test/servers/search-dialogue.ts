/**
 * What a search server is asked so that test/golden/search/ holds its very answers: those that a sink must understand, the
 * errors above all. Run in order against a fresh server that was started with DIALOGUE_SETTINGS. What is another in every run
 * is replaced, and of a letter 200 times or more stand ten, an ellipsis and the number.
 */
import type { SearchServer } from './search.ts'
import {
  brokenDocuments,
  brokenRequests,
  lines,
  outOfMemory,
  pipelines,
  refusals,
  type Say,
  writes,
} from './search-dialogue-writes.ts'

export interface Exchange {
  readonly name: string
  readonly request: { readonly method: string; readonly path: string; readonly body?: unknown }
  readonly status: number
  readonly body: unknown
}

export const DIALOGUE_SETTINGS = {
  'http.max_content_length': '1mb',
  'indexing_pressure.memory.limit': '300kb',
  'action.auto_create_index': 'false',
}

export async function converse(server: SearchServer): Promise<Exchange[]> {
  const exchanges: Exchange[] = []
  const say: Say = async (name, method, path, body) => {
    const reply = await server.request(method, path, body)
    exchanges.push({
      name,
      request: {
        method,
        path: trimmedText(path),
        ...(body === undefined ? {} : { body: trimmed(body) }),
      },
      status: reply.status,
      body: trimmed(reply.body),
    })
    return reply
  }
  const flat = server.kind.startsWith('elasticsearch') ? 'flattened' : 'flat_object'
  await say('root', 'GET', '/')
  await types(say, flat)
  await indices(say)
  await writes(say)
  await brokenDocuments(say, flat)
  await brokenRequests(say)
  await refusals(say)
  await pipelines(say)
  await searching(say, server.kind)
  await aliases(say)
  await outOfMemory(say)
  return exchanges
}

async function types(say: Say, flat: string): Promise<void> {
  const all = {
    [flat]: { type: flat },
    geo_point: { type: 'geo_point' },
    geo_shape: { type: 'geo_shape' },
    scaled_float: { type: 'scaled_float', scaling_factor: 100 },
    date_format: { type: 'date', format: "yyyy-MM-dd'T'HH:mm:ss.SSSSSSX||epoch_millis" },
    date_nanos: { type: 'date_nanos' },
    keyword_above: { type: 'keyword', ignore_above: 8191 },
    binary: { type: 'binary' },
    ip: { type: 'ip' },
    long_range: { type: 'long_range' },
    unsigned_long: { type: 'unsigned_long' },
    nested: { type: 'nested', properties: { a: { type: 'long' } } },
    object_off: { type: 'object', enabled: false },
    match_only_text: { type: 'match_only_text' },
    wildcard: { type: 'wildcard' },
    no_such_type: { type: 'no_such_type' },
  }
  for (const [name, field] of Object.entries(all))
    await say(`type ${name}`, 'PUT', `/type-${name}`, { mappings: { properties: { f: field } } })
}

async function indices(say: Say): Promise<void> {
  await say('make an index', 'PUT', '/shop', {
    settings: { number_of_shards: 1, number_of_replicas: 0, 'index.gc_deletes': '1h' },
    mappings: {
      dynamic: 'strict',
      _meta: { made_by: 'millrace' },
      properties: {
        name: { type: 'text', fields: { raw: { type: 'keyword', ignore_above: 100 } } },
        count: { type: 'integer' },
        at: { type: 'date' },
        place: { type: 'geo_point' },
        tags: { type: 'keyword' },
        deep: { type: 'object', properties: { a: { type: 'long' } } },
      },
    },
  })
  await say('make an index that is there', 'PUT', '/shop', {})
  await say('make an index with a bad name', 'PUT', '/Shop', {})
  await say('make an index with an unknown setting', 'PUT', '/other', { settings: { nope: 1 } })
  await say('has an index', 'HEAD', '/shop')
  await say('has not an index', 'HEAD', '/missing')
  await say('mapping', 'GET', '/shop/_mapping')
  await say('mapping of a missing index', 'GET', '/missing/_mapping')
  await say('settings', 'GET', '/shop/_settings/index.gc_deletes,index.number_of_*?flat_settings=true')
  await say('add a field', 'PUT', '/shop/_mapping', { properties: { price: { type: 'double' } } })
  await say('change a field', 'PUT', '/shop/_mapping', { properties: { count: { type: 'keyword' } } })
  await say('change a setting', 'PUT', '/shop/_settings', { 'index.refresh_interval': '-1' })
  await say('change a fixed setting', 'PUT', '/shop/_settings', { 'index.number_of_shards': 2 })
  await say('cat indices', 'GET', '/_cat/indices/shop?format=json&h=index,health,status,pri,rep,docs.count')
  await say('cat indices as text', 'GET', '/_cat/indices/shop?h=index,health,status')
  await say('cluster health', 'GET', '/_cluster/health/shop?wait_for_status=yellow&timeout=5s')
  await say('cluster settings', 'GET', '/_cluster/settings?flat_settings=true')
  await say('change cluster settings', 'PUT', '/_cluster/settings', {
    persistent: { 'cluster.max_shards_per_node': 2000 },
  })
}

async function searching(say: Say, kind: string): Promise<void> {
  const isElasticsearch = kind.startsWith('elasticsearch')
  await say('refresh', 'POST', '/shop/_refresh')
  await say('search', 'POST', '/shop/_search', { query: { match: { name: 'back' } }, version: true, size: 1 })
  await say('search of a missing index', 'POST', '/missing/_search', {})
  await say('search that is none', 'POST', '/shop/_search', { query: { nope: {} } })
  await say('count', 'GET', '/shop/_count')
  const opened = isElasticsearch
    ? await say('open a PIT', 'POST', '/shop/_pit?keep_alive=1m')
    : await say('open a PIT', 'POST', '/shop/_search/point_in_time?keep_alive=1m')
  const id: string = opened.body.id ?? opened.body.pit_id
  const sort = isElasticsearch ? [{ _shard_doc: 'asc' }] : [{ count: 'asc' }, { _id: 'asc' }]
  const page = (name: string, after?: unknown) =>
    say(name, 'POST', '/_search', {
      pit: { id, keep_alive: '1m' },
      size: 2,
      sort,
      version: true,
      _source: false,
      ...(after ? { search_after: after } : {}),
    })
  const first = await page('a page of a PIT')
  await page('the next page of a PIT', first.body.hits?.hits.at(-1)?.sort)
  if (isElasticsearch) await say('close a PIT', 'DELETE', '/_pit', { id })
  else await say('close a PIT', 'DELETE', '/_search/point_in_time', { pit_id: [id] })
  await page('a page of a closed PIT')
  await say('update by query', 'POST', '/shop/_update_by_query?refresh=true', {
    query: { ids: { values: ['g1'] } },
  })
  await say('update by query with a script', 'POST', '/shop/_update_by_query?refresh=true', {
    query: { ids: { values: ['g1'] } },
    script: { source: 'ctx._source.count = 7' },
  })
  await say('delete by query', 'POST', '/shop/_delete_by_query?refresh=true', {
    query: { ids: { values: ['g2'] } },
  })
}

async function aliases(say: Say): Promise<void> {
  await say('make a second index', 'PUT', '/shop-2', {})
  const add = (index: string, more = {}) => ({ add: { index, alias: 'shop-now', ...more } })
  await say('set an alias', 'POST', '/_aliases', { actions: [add('shop', { is_write_index: true })] })
  await say('move an alias', 'POST', '/_aliases', {
    actions: [{ remove: { index: 'shop', alias: 'shop-now' } }, add('shop-2', { is_write_index: true })],
  })
  await say('alias', 'GET', '/_alias/shop-now')
  await say('a missing alias', 'GET', '/_alias/nope')
  await say('remove a missing alias', 'POST', '/_aliases', {
    actions: [{ remove: { index: 'shop', alias: 'nope', must_exist: true } }],
  })
  const body = lines({ index: { _index: 'shop-now', _id: 'a', version: 1, version_type: 'external' } }, {})
  await say('bulk to an alias', 'POST', '/_bulk?require_alias=true&refresh=wait_for', body)
  await say('an alias of two', 'POST', '/_aliases', {
    actions: [add('shop', { is_write_index: false }), add('shop-2', { is_write_index: false })],
  })
  await say('bulk to an alias without a write index', 'POST', '/_bulk', body)
  await say('remove an index', 'DELETE', '/shop-2')
  await say('remove a missing index', 'DELETE', '/missing')
}

/** Keys whose values are others in every run. */
const VOLATILE = new Map<string, unknown>([
  ...(['index_uuid', 'cluster_uuid', 'node'] as const).map(key => [key, 'uuid'] as const),
  ...(['pit_id', 'id'] as const).map(key => [key, 'pit'] as const),
  ...(['took', 'ingest_took', 'creation_time', 'bytes_wanted'] as const).map(key => [key, 1] as const),
])

function trimmed(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map(one => trimmed(one, key))
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, trimmed(one, name)]))
  if (VOLATILE.has(key)) return VOLATILE.get(key)
  return typeof value === 'string' ? trimmedText(value) : value
}

function trimmedText(text: string): string {
  return (
    text
      .replace(/(.)\1{199,}/g, (run, letter: string) => `${letter.repeat(10)}…${run.length}`)
      .replace(/\b(?=[\w-]*[A-Z])[\w-]{22}(?=[\]/])/g, 'uuid')
      .replace(/usages \[.*?\]/g, 'usages []')
      // Of a set, in no order.
      .replace(/(?<=allowed: \[).*?(?=\])/, methods => methods.split(', ').sort().join(', '))
      .replace(/\d+\/[\d.]+[kmg]?b\b/g, '1/1b')
  )
}
