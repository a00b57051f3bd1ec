/** The part of search-dialogue.ts that writes, and is refused. */
import type { Reply } from './search-process.ts'

export type Say = (name: string, method: string, path: string, body?: unknown) => Promise<Reply>

/** Lines of a bulk request. */
export const lines = (...all: readonly unknown[]): string =>
  all.map(one => `${JSON.stringify(one)}\n`).join('')

export async function writes(say: Say): Promise<void> {
  const at = (_id: string, version: number, more = {}) => ({
    _index: 'shop',
    _id,
    version,
    version_type: 'external',
    ...more,
  })
  const bulk = (name: string, ...all: unknown[]) => say(name, 'POST', '/_bulk', lines(...all))
  await bulk(
    'bulk index',
    ...[{ index: at('1', 10) }, { name: 'one', count: 1, at: '2026-01-01T00:00:00Z', tags: ['a', 'b'] }],
    ...[{ index: at('2', 10) }, { name: 'two', count: 2, place: { lat: 52.5, lon: 13.4 } }],
  )
  await bulk(
    'bulk index: newer, the same, older',
    ...[{ index: at('1', 11) }, { name: 'one again', count: 1 }],
    ...[{ index: at('2', 10) }, { name: 'two', count: 2 }],
    ...[{ index: at('1', 9) }, { name: 'one of old', count: 1 }],
  )
  await bulk('bulk delete', { delete: at('1', 12) })
  await bulk('bulk delete: stale, missing, missing again', { delete: at('2', 3) }, { delete: at('none', 3) })
  await bulk('bulk delete: missing and stale', { delete: at('none', 2) })
  await bulk('bulk index older than a delete', { index: at('1', 11) }, { name: 'late' })
  await bulk('bulk index newer than a delete', { index: at('1', 13) }, { name: 'back' })
  await bulk(
    'bulk index with external_gte: the same',
    { index: at('1', 13, { version_type: 'external_gte' }) },
    { name: 'back' },
  )
  // 2^62 as text: it is no number of JavaScript's.
  const far = lines({ index: at('far', 1) }, { name: 'far' }).replace(':1,', ':4611686018427387905,')
  await say('bulk index with a version of more than 2^53', 'POST', '/_bulk', far)
  await bulk('bulk with routing', { index: at('r', 1, { routing: 'k' }) }, { name: 'routed' })
  await bulk('bulk create that is there', { create: { _index: 'shop', _id: '1' } }, { name: 'x' })
  await bulk('bulk update', { update: { _index: 'shop', _id: '2' } }, { doc: { count: 3 } })
  await bulk('bulk update of a missing one', { update: { _index: 'shop', _id: 'no' } }, { doc: { count: 3 } })
  await bulk(
    'bulk upsert',
    { update: { _index: 'shop', _id: 'u' } },
    { doc: { count: 3 }, doc_as_upsert: true },
  )
  await bulk(
    'bulk update with an external version',
    { update: at('2', 20) },
    { doc: { count: 3 }, doc_as_upsert: true },
  )
  await say('bulk to one index', 'POST', '/shop/_bulk?refresh=false', lines({ index: { _id: 'p' } }, {}))
  await say(
    'bulk, briefly',
    'POST',
    '/_bulk?filter_path=errors,items.*.status,items.*.error',
    lines({ index: at('p', 5) }, {}),
  )
  await say('refresh', 'POST', '/shop/_refresh')
  await say('refresh of a missing index', 'POST', '/missing/_refresh')
  await say('get', 'GET', '/shop/_doc/2')
  await say('get a missing one', 'GET', '/shop/_doc/none')
  await say('get of a missing index', 'GET', '/missing/_doc/1')
  await say('mget', 'POST', '/shop/_mget', { ids: ['2', 'none'] })
}

export async function brokenDocuments(say: Say, flat: string): Promise<void> {
  const index = (id: string, document: unknown, more = {}) =>
    lines({ index: { _index: 'shop', _id: id, version: 1, version_type: 'external', ...more } }, document)
  const broken: Record<string, string> = {
    'an unknown field': index('b1', { nope: 1 }),
    'an unknown field within': index('b2', { deep: { nope: 1 } }),
    'text for a number': index('b3', { count: 'many' }),
    'a number out of range': index('b4', { count: 3_000_000_000 }),
    'an object for text': index('b5', { name: { first: 'x' } }),
    'text for an object': index('b6', { deep: 'x' }),
    'a date that is none': index('b7', { at: 'yesterday' }),
    'a place that is none': index('b8', { place: { lat: 100, lon: 13 } }),
    'a keyword of 40000 bytes': index('b9', { tags: ['x'.repeat(40_000)] }),
    'an id of 513 bytes': index('i'.repeat(513), { count: 1 }),
    'an empty id': index('', { count: 1 }),
    'a document that is no JSON': index('b10', {}).replace('{}\n', '{"name": \n'),
    'a document that is an array': index('b11', [1]),
    'a version of 0': index('b12', { count: 1 }, { version: 0 }),
    'a version of -1': index('b13', { count: 1 }, { version: -1 }),
    'a version of 2^63': index('b19', { count: 1 }, { version: 1 }).replace(':1,', ':9223372036854775808,'),
    'stale as well': index('1', { nope: 1 }),
    'a delete from a missing index': lines({
      delete: { _index: 'missing', _id: '1', version: 1, version_type: 'external' },
    }),
    'a missing index': index('b14', { count: 1 }, { _index: 'missing' }),
    'an index name that is none': index('b15', { count: 1 }, { _index: 'Not A Name' }),
    'an unknown pipeline': index('b16', { count: 1 }, { pipeline: 'missing' }),
    'no alias where one is required': index('b17', { count: 1 }, { require_alias: true }),
  }
  for (const [name, body] of Object.entries(broken)) await say(`broken: ${name}`, 'POST', '/_bulk', body)
  await say(
    'broken among good',
    'POST',
    '/_bulk',
    index('g1', { count: 1 }) + broken['text for a number'] + index('g2', { count: 2 }),
  )
  await say(
    'broken: an unknown pipeline for all',
    'POST',
    '/_bulk?pipeline=missing',
    index('b18', { count: 1 }),
  )
  await say('an index with routing required', 'PUT', '/routed', {
    mappings: { _routing: { required: true } },
  })
  await say('broken: no routing', 'POST', '/_bulk', index('1', {}, { _index: 'routed' }))
  await say('an index of few fields', 'PUT', '/few', { settings: { 'index.mapping.total_fields.limit': 2 } })
  await say('broken: too many fields', 'POST', '/_bulk', index('1', { a: 1, b: 2, c: 3 }, { _index: 'few' }))
  await say('broken: too deep', 'POST', '/_bulk', index('2', nested(30), { _index: 'few' }))
  const long = index('1', { f: { a: 'x'.repeat(40_000) } }, { _index: `type-${flat}` })
  await say(`broken: a long value within a ${flat}`, 'POST', '/_bulk', long)
}

const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) })

export async function brokenRequests(say: Say): Promise<void> {
  await say('bulk without a body', 'POST', '/_bulk', '')
  await say('bulk without a last line break', 'POST', '/_bulk', '{"delete":{"_index":"shop","_id":"x"}}')
  await say('bulk that is no JSON', 'POST', '/_bulk', 'nope\n')
  await say('bulk of an unknown action', 'POST', '/_bulk', lines({ put: { _index: 'shop' } }, {}))
  await say(
    'bulk with an unknown parameter',
    'POST',
    '/_bulk?nope=1',
    lines({ delete: { _index: 'shop', _id: 'x' } }),
  )
  await say(
    'bulk with an unknown key of an action',
    'POST',
    '/_bulk',
    lines({ delete: { _index: 'shop', _id: 'x', nope: 1 } }),
  )
  await say('an unknown path', 'GET', '/_nope/what')
  await say('a method that is not for it', 'DELETE', '/_bulk')
  await say(
    'a body of more than 1 MB',
    'POST',
    '/_bulk',
    lines({ index: { _index: 'shop', _id: 'big' } }, { name: 'x'.repeat(1_100_000) }),
  )
}

export async function refusals(say: Say): Promise<void> {
  const body = lines(
    { index: { _index: 'shop', _id: 'full', version: 1, version_type: 'external' } },
    { count: 1 },
  )
  const drop = lines({ delete: { _index: 'shop', _id: 'full', version: 2, version_type: 'external' } })
  await say(
    'more in flight than there is memory for',
    'POST',
    '/_bulk',
    lines({ index: { _index: 'shop', _id: 'big' } }, { name: 'x'.repeat(500_000) }),
  )
  const block = (name: string, value: boolean | null) =>
    say(`${value ? 'set' : 'lift'} ${name}`, 'PUT', '/shop/_settings', { [`index.blocks.${name}`]: value })
  for (const name of ['read_only_allow_delete', 'write', 'read_only']) {
    await block(name, true)
    await say(`index with ${name}`, 'POST', '/_bulk', body)
    await say(`delete with ${name}`, 'POST', '/_bulk', drop)
    await say(`add a field with ${name}`, 'PUT', '/shop/_mapping', { properties: { q: { type: 'long' } } })
    await block(name, null)
  }
  await say('more copies than there are', 'POST', '/_bulk?wait_for_active_shards=2&timeout=100ms', body)
  await say('close an index', 'POST', '/shop/_close')
  await say('index into a closed index', 'POST', '/_bulk', body)
  await say('open an index', 'POST', '/shop/_open?wait_for_active_shards=1')
}

export async function pipelines(say: Say): Promise<void> {
  await say('make a pipeline', 'PUT', '/_ingest/pipeline/nothing', { processors: [] })
  await say('make a pipeline of processors', 'PUT', '/_ingest/pipeline/mark', {
    processors: [{ set: { field: 'tags', value: ['marked'] } }],
  })
  await say('make a pipeline that fails', 'PUT', '/_ingest/pipeline/fails', {
    processors: [{ fail: { message: 'refused' } }],
  })
  await say('make a pipeline that drops', 'PUT', '/_ingest/pipeline/drops', { processors: [{ drop: {} }] })
  for (const name of ['nothing', 'mark', 'fails', 'drops'])
    await say(
      `index through ${name}`,
      'POST',
      `/_bulk?pipeline=${name}&refresh=true`,
      lines(
        { index: { _index: 'shop', _id: `p-${name}`, version: 1, version_type: 'external' } },
        { count: 1 },
      ),
    )
  await say('get what a pipeline marked', 'GET', '/shop/_doc/p-mark')
}

export async function outOfMemory(say: Say): Promise<void> {
  const limit = (name: string, value: string | null) =>
    say(name, 'PUT', '/_cluster/settings', { transient: { 'indices.breaker.total.limit': value } })
  await limit('lower the limit of memory', '1kb')
  const body = lines(
    { index: { _index: 'shop', _id: 'c', version: 1, version_type: 'external' } },
    { count: 1 },
  )
  await say('bulk above the limit of memory', 'POST', '/_bulk', body)
  await say('search above the limit of memory', 'POST', '/shop/_search', {})
  await say('health above the limit of memory', 'GET', '/_cluster/health?filter_path=status')
  await limit('lift the limit of memory', null)
  await say('bulk below the limit of memory', 'POST', '/_bulk', body)
}
