/** Every document of an index, in the order of their versions, for who compares it with its source. */
import { call, type SearchClient } from './client.ts'
import { ORIGIN_FIELD } from './mapping.ts'

const PAGE = 5_000

interface Hit {
  readonly _id: string
  readonly _source: Record<string, unknown>
  readonly sort: readonly unknown[]
}

/** Id → the document as JSON text, without what Millrace adds. An index that is not there is empty. */
export async function readDocuments(
  client: SearchClient,
  index: string,
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  const path = `/${encodeURIComponent(index)}`
  const is = await call(
    client,
    `refreshing index "${index}"`,
    { method: 'POST', path: `${path}/_refresh` },
    true,
  )
  if (is === null) return found
  // Versions are unique within an index of one pipeline, and so are a place to go on from.
  for (let after: readonly unknown[] | undefined; ; ) {
    const body = await call<{ hits: { hits: readonly Hit[] } }>(client, `reading index "${index}"`, {
      method: 'POST',
      path: `${path}/_search`,
      body: {
        size: PAGE,
        query: { match_all: {} },
        sort: [{ [`${ORIGIN_FIELD}.version`]: 'asc' }],
        ...(after ? { search_after: after } : {}),
      },
    })
    const hits = body?.hits.hits ?? []
    for (const { _id, _source } of hits) {
      const { [ORIGIN_FIELD]: _, ...document } = _source
      found.set(_id, JSON.stringify(document))
    }
    after = hits.at(-1)?.sort
    if (!after) return found
  }
}
