import { describe, expect, it } from 'vitest'
import { elasticsearch } from '../../../connectors/elasticsearch/sink.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { searchConformance } from '../../conform/search.ts'
import { missingFor, startSearch } from '../../servers/search.ts'
import { faultyCluster } from '../../servers/search-faults.ts'

definitionConformance(elasticsearch)
for (const kind of ['elasticsearch-9', 'elasticsearch-8'] as const) searchConformance(elasticsearch, kind)

// What is published of Elasticsearch has no security: the credentials are looked at in front of it.
const missing = missingFor('elasticsearch-9')
describe.skipIf(missing !== null)(
  `elasticsearch: connection${missing === null ? '' : `: ${missing}`}`,
  () => {
    it('sends its API key or its password with every request; goes to another node when one is away', async () => {
      await using server = await startSearch('elasticsearch-9')
      await using cluster = await faultyCluster(server.url)
      const write = async (options: object) => {
        const config = elasticsearch.config.parse({ url: cluster.url, index: 'keyed', ...options }) as never
        await using writer = await elasticsearch.open(config, testContext())
        return await writer.write(batchOf([recordOf({ id: 1, version: 1 })]))
      }
      const only = (header: string) => (seen: { headers: { authorization?: string | undefined } }) =>
        seen.headers.authorization === header ? null : `"${seen.headers.authorization}" is not let in`
      cluster.refuse = only('ApiKey aWQ6a2V5')
      expect(await write({ api_key: 'aWQ6a2V5' })).toEqual([])
      await expect(write({ api_key: 'c29tZXRoaW5n' })).rejects.toMatchObject({
        kind: 'auth',
        hint: expect.stringContaining('api_key'),
      })
      cluster.refuse = only(`Basic ${Buffer.from('me:se:cret').toString('base64')}`)
      expect(await write({ username: 'me', password: 'se:cret' })).toEqual([])
      cluster.refuse = () => null
      await using gone = await faultyCluster(server.url)
      const away = gone.url
      await gone[Symbol.asyncDispose]()
      expect(await write({ url: [away, cluster.url] })).toEqual([])
    }, 300_000)

    it('is told what it has come to when that is another kind of server', async () => {
      await using server = await startSearch('opensearch-2')
      const config = elasticsearch.config.parse({ url: server.url }) as never
      await expect(elasticsearch.open(config, testContext())).rejects.toMatchObject({
        kind: 'config',
        hint: expect.stringContaining('type: opensearch'),
      })
    }, 300_000)
  },
)
