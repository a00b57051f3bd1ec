import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { opensearch } from '../../../connectors/opensearch/sink.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { searchConformance } from '../../conform/search.ts'
import { badSignature } from '../../conform/sigv4.ts'
import { missingFor, type SearchServer, startSearch } from '../../servers/search.ts'
import { faultyCluster } from '../../servers/search-faults.ts'

definitionConformance(opensearch)
for (const kind of ['opensearch-2', 'opensearch-3'] as const) searchConformance(opensearch, kind)

const missing = missingFor('opensearch-2')
describe.skipIf(missing !== null)(
  `opensearch-2 with security${missing === null ? '' : `: ${missing}`}`,
  () => {
    let server: SearchServer
    beforeAll(async () => {
      server = await startSearch('opensearch-2', { security: true })
    }, 300_000)
    afterAll(() => server?.[Symbol.asyncDispose]())

    const write = async (options: object) => {
      await using writer = await opensearch.open(opensearch.config.parse(options) as never, testContext())
      return await writer.write(batchOf([recordOf({ id: 1, version: 1 })]))
    }

    it('writes over TLS with its own authority and a password, beside the address or in it', async () => {
      const { url, ca, username, password } = server
      expect(await write({ url, ca, username, password, index: 'secure' })).toEqual([])
      const inUrl = new URL(url)
      inUrl.username = username!
      inUrl.password = password!
      expect(await write({ url: inUrl.href, ca, index: 'secure' })).toEqual([])
      await server.request('POST', '/secure/_refresh')
      expect((await server.request('GET', '/secure/_count')).body).toMatchObject({ count: 1 })
    })

    it('says what is wrong with a certificate, a password and an address, and keeps the password to itself', async () => {
      const { url, ca, username } = server
      await expect(write({ url, username, password: 'x' })).rejects.toMatchObject({
        kind: 'unavailable',
        hint: expect.stringContaining('`ca`'),
      })
      await expect(write({ url, ca, username, password: 'wrong-one' })).rejects.toMatchObject({
        kind: 'auth',
        message: expect.not.stringContaining('wrong-one'),
      })
      await expect(write({ url: 'localhost:9200' })).rejects.toMatchObject({ kind: 'config' })
      await expect(write({ url, ca: '/no/such.pem' })).rejects.toMatchObject({ kind: 'config' })
    })
  },
)

describe.skipIf(missing !== null)('opensearch on AWS', () => {
  it('signs every request, bulks too', async () => {
    await using server = await startSearch('opensearch-2')
    await using cluster = await faultyCluster(server.url)
    const key = {
      id: 'AKIDEXAMPLE',
      secret: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
      region: 'eu-central-1',
      service: 'es',
    }
    cluster.refuse = seen => badSignature(seen, key)
    const aws = { region: key.region, access_key_id: key.id, secret_access_key: key.secret }
    const open = (of: object) =>
      opensearch.open(
        opensearch.config.parse({ url: cluster.url, index: 'signed ä', aws: { ...aws, ...of } }) as never,
        testContext(),
      )
    {
      await using writer = await open({})
      expect(await writer.write(batchOf([recordOf({ id: 1, name: 'ü', version: 1 })]))).toEqual([])
      expect(await writer.highest?.()).toBe(0)
    }
    expect(cluster.seen.length).toBeGreaterThan(3)
    await expect(open({ secret_access_key: 'another' })).rejects.toMatchObject({ kind: 'auth' })
  }, 300_000)
})
