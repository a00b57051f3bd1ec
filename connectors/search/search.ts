/** Words in, documents out, best first, for `millrace search` and the page; not a way to search an application by. */
import type { SearchResult } from '../../core/connector.ts'
import type { Json } from '../../core/record.ts'
import { call, type SearchClient } from './client.ts'
import type { SearchConfig } from './config.ts'
import { ORIGIN_FIELD } from './mapping.ts'
import { indexPattern } from './template.ts'

/** Each word as a prefix; what is no letter and no digit parts words, as it does in the index. */
export const queryOf = (words: string): string =>
  (words.match(/[\p{L}\p{N}]+/gu) ?? []).map(word => `${word}*`).join(' ')

interface Found {
  readonly hits: {
    readonly total: { readonly value: number }
    readonly hits: readonly {
      readonly _index: string
      readonly _id: string
      readonly _source: { [field: string]: Json }
    }[]
  }
}

export async function search(
  client: SearchClient,
  config: SearchConfig,
  words: string,
  limit: number,
): Promise<SearchResult> {
  const query = queryOf(words)
  if (query === '') return { total: 0, hits: [] }
  const found = await call<Found>(client, 'searching', {
    method: 'POST',
    path: `/${indexPattern(config.index)}/_search`,
    query: { ignore_unavailable: true, allow_no_indices: true },
    body: {
      size: limit,
      track_total_hits: true,
      query: {
        bool: {
          must: { simple_query_string: { query, fields: ['*'], default_operator: 'and', lenient: true } },
          filter: { exists: { field: `${ORIGIN_FIELD}.origin` } },
        },
      },
    },
  })
  const hits = (found?.hits.hits ?? []).map(({ _index, _id: id, _source }) => {
    const { [ORIGIN_FIELD]: origin, ...document } = _source
    const { version } = (origin ?? {}) as { version?: number }
    return { table: _index, id, document, version: version ?? 0 }
  })
  return { total: found?.hits.total.value ?? 0, hits }
}
