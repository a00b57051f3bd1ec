/** Every error that real clusters answered, and what becomes of it. */
import { describe, expect, it } from 'vitest'
import { itemOutcome, requestOutcome } from '../../../connectors/search/classify.ts'
import { callError, toldBy } from '../../../connectors/search/client.ts'
import { allRecorded } from '../../conform/recorded.ts'

const KINDS = ['elasticsearch-8', 'elasticsearch-9', 'opensearch-2', 'opensearch-3'] as const

/** By the beginning of the question's name; the first that fits. */
const ITEMS: readonly (readonly [string, string])[] = [
  ['bulk index', 'refused'],
  ['bulk delete', 'refused'],
  ['bulk create', 'refused'],
  ['broken: a missing index', 'gone'],
  ['broken: a delete from a missing index', 'gone'],
  ['broken: an index name that is none', 'gone'],
  ['broken: no alias', 'gone'],
  ['broken: an unknown pipeline', 'stop'],
  ['broken', 'bad'],
  ['index with', 'later'],
  ['delete with', 'later'],
  ['more copies', 'later'],
  ['index into a closed index', 'later'],
  ['index through fails', 'bad'],
  ['bulk to an alias without', 'bad'],
  ['bulk update', 'bad'],
]
const REQUESTS: readonly (readonly [string, string])[] = [
  ['a body of more than 1 MB', 'split'],
  ['more in flight', 'later'],
  ['bulk above the limit of memory', 'later'],
  ['', 'stop'],
]
const expected = (list: typeof ITEMS, name: string, reason = '') =>
  // Of Elasticsearch no processors are published, and so no pipeline was made.
  /^pipeline with id .* does not exist/.test(reason)
    ? 'stop'
    : list.find(([start]) => name.startsWith(start))?.[1]

describe('what becomes of an error', () => {
  for (const kind of KINDS)
    it(`of ${kind}`, () => {
      const asked = allRecorded(kind).filter(
        ({ request }) => request.method === 'POST' && /_bulk/.test(request.path),
      )
      expect(asked.length).toBeGreaterThan(30)
      let items = 0
      for (const { name, status, body } of asked)
        if (status >= 300) expect(requestOutcome(status, toldBy(body)), name).toBe(expected(REQUESTS, name))
        else
          for (const item of (
            body as { items: { [operation: string]: { status: number; error?: unknown } }[] }
          ).items) {
            const { status: of, error } = Object.values(item)[0]!
            if (error === undefined) expect(itemOutcome(of, { type: '', reason: '' }), name).toBe('done')
            else
              expect(itemOutcome(of, toldBy({ error })), `${name}: ${JSON.stringify(error)}`).toBe(
                expected(ITEMS, name, toldBy({ error }).reason),
              )
            items++
          }
      expect(items).toBeGreaterThan(30)
    })

  it('of a request that would make an index on full disks', () => {
    // OpenSearch 2.19.1 and 3.8.0; not in the recordings, whose servers have room.
    const body = {
      error: {
        type: 'index_create_block_exception',
        reason: 'blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];',
      },
      status: 403,
    }
    expect(requestOutcome(403, toldBy(body))).toBe('later')
    expect(callError({ product: 'opensearch', target: 'http://a' }, 'making', 403, body)).toMatchObject({
      kind: 'unavailable',
    })
  })
})
