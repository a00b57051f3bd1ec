/** The sink against a real store that is killed, frozen, spoiled or set up wrongly, and what it asks of the store. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { s3 } from '../../../connectors/s3/sink.ts'
import { connect, s3Store } from '../../../connectors/s3/store.ts'
import { ConnectorError } from '../../../core/errors.ts'
import { testContext } from '../../conform/context.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { missingForS3, type S3Server, startS3 } from '../../servers/s3.ts'
import { cutConformance, expectExactlyOnce, live, survive } from '../object/cuts.ts'
import { linesOf, type ObjectTarget } from '../object/objects.ts'
import { bucketTarget, placeOf } from './bucket.ts'
import { startProxy } from './proxy.ts'

const missing = missingForS3()

describe.skipIf(missing !== null)(missing ?? 's3 and faults', () => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3()
  }, 180_000)
  afterAll(() => server?.[Symbol.asyncDispose]())

  const storeOf = async (target: ObjectTarget, more: object = {}) => {
    const config = s3.config.parse({ ...target.place, ...more }) as never
    return s3Store(connect(config), config, new AbortController().signal)
  }
  const checked = (options: object) =>
    s3.check(s3.config.parse(options) as never, testContext()).then(
      () => null,
      error => error as ConnectorError,
    )

  describe('cut at every ninth call', () =>
    cutConformance({ target: () => bucketTarget(server), store: storeOf, stride: 9 }))

  it('keeps each record once over kill -9 of the store, at any moment', async () => {
    for (const afterMs of [5, 40, 120, 250]) {
      await using place = bucketTarget(server)
      const first = survive(await storeOf(place, { attempts: 1 }), { epoch: 1, batch: 2, step: 1 })
      await new Promise(resolve => setTimeout(resolve, afterMs))
      await server.kill9()
      await first
      await server.start()
      await live(await storeOf(place), { epoch: 2, batch: 5, step: 3 })
      await expectExactlyOnce(place)
    }
  }, 300_000)

  it('gives up a request that gets no answer, as unavailable', async () => {
    await using place = bucketTarget(server)
    const writer = await place.open({ timeout_ms: 300, attempts: 1, rotate: { idle_ms: 0 } }, testContext())
    server.freeze()
    try {
      await expect(writer.write(batchOf([recordOf({ version: 1 })]))).rejects.toMatchObject({
        kind: 'unavailable',
      })
    } finally {
      server.thaw()
      await writer[Symbol.asyncDispose]()
    }
  })

  it('sends a large object in parts, and a part again that failed, alone', async () => {
    await using place = bucketTarget(server)
    await using proxy = await startProxy(server.endpoint)
    let failures = 0
    proxy.act = ({ url }) => (url.includes('partNumber=2') && failures++ === 0 ? 500 : null)
    const options = {
      endpoint: proxy.endpoint,
      part_bytes: 5_242_880,
      rotate: { idle_ms: 0, bytes: 100_000_000 },
    }
    const writer = await place.open(options, testContext())
    const name = 'x'.repeat(1_000_000)
    await writer.write(
      batchOf(Array.from({ length: 14 }, (_, i) => recordOf({ id: i, name, version: i + 1 }))),
    )
    await writer[Symbol.asyncDispose]()
    const parts = proxy.seen
      .map(({ url }) => /partNumber=(\d)/.exec(url)?.[1])
      .filter(one => one !== undefined)
    expect(parts).toEqual(['1', '2', '2', '3'])
    const objects = await place.objects()
    expect(objects.size).toBe(1)
    expect(linesOf(objects).map(({ id }) => id)).toEqual(Array.from({ length: 14 }, (_, i) => i))
  }, 60_000)

  it('leaves no parts behind when it fails in their midst, and the next owner makes the object', async () => {
    await using place = bucketTarget(server)
    await using proxy = await startProxy(server.endpoint)
    proxy.act = ({ url }) => (url.includes('partNumber=2') ? 'cut' : null)
    const name = 'x'.repeat(1_000_000)
    const batch = batchOf(Array.from({ length: 7 }, (_, i) => recordOf({ id: i, name, version: i + 1 })))
    const rotate = { idle_ms: 0, bytes: 100_000_000 }
    const options = { part_bytes: 5_242_880, attempts: 1, rotate }
    const writer = await place.open({ ...options, endpoint: proxy.endpoint }, testContext())
    await expect(writer.write(batch)).rejects.toMatchObject({ kind: 'unavailable' })
    await writer[Symbol.asyncDispose]()
    expect(proxy.seen.some(({ method, url }) => method === 'DELETE' && url.includes('uploadId='))).toBe(true)
    const next = await place.open(options, testContext({ epoch: 2 }))
    await next.write(batch)
    await next[Symbol.asyncDispose]()
    expect(linesOf(await place.objects())).toHaveLength(7)
  }, 60_000)

  it('asks for class, tags and encryption of objects, and writes nothing without a condition', async () => {
    await using open = await startS3({ open: true })
    await using place = bucketTarget(open)
    await using proxy = await startProxy(open.endpoint)
    // The server of the tests has neither: what was asked for is looked at here.
    proxy.act = ({ headers }) =>
      Object.fromEntries(Object.entries(headers).filter(([name]) => !/tagging|encryption/.test(name)))
    const asked = {
      storage_class: 'STANDARD_IA',
      tags: { team: 'a b', cost: '1' },
      encryption: 'aws:kms',
      kms_key: 'key-1',
    }
    const options = { ...asked, endpoint: proxy.endpoint, rotate: { idle_ms: 0 } }
    const writer = await place.open(options, testContext())
    await writer.write(batchOf([recordOf({ version: 1 })]))
    await writer[Symbol.asyncDispose]()
    const puts = proxy.seen.filter(({ method }) => method === 'PUT')
    expect(puts).toHaveLength(4)
    for (const { headers } of puts) {
      expect(headers['if-none-match']).toBe('*')
      expect(headers['x-amz-server-side-encryption']).toBe('aws:kms')
      expect(headers['x-amz-server-side-encryption-aws-kms-key-id']).toBe('key-1')
    }
    const object = puts.find(({ url }) => url.includes('.jsonl'))!
    expect(object.headers['x-amz-tagging']).toBe('team=a+b&cost=1')
    expect(object.headers['x-amz-storage-class']).toBe('STANDARD_IA')
    const mark = JSON.parse(String(object.headers['x-amz-meta-millrace'])) as object
    expect(mark).toMatchObject({ log: 'kit', first: 1, last: 1, records: 1 })
  }, 60_000)

  it('names what a store does not have', async () => {
    await using place = bucketTarget(server)
    const opening = place.open({ encryption: 'AES256' }, testContext())
    await expect(opening).rejects.toMatchObject({
      kind: 'config',
      hint: expect.stringContaining('encryption'),
    })
  })

  it('tells what is wrong and what to do: no bucket, wrong keys, nobody there, half a pair of keys', async () => {
    const place = placeOf(server, server.bucket())
    expect(await checked(place)).toBeNull()
    expect(await checked({ ...place, bucket: 'no-such-bucket' })).toMatchObject({
      kind: 'config',
      message: expect.stringContaining('no-such-bucket'),
      hint: expect.stringContaining('s3 mb'),
    })
    const wrong = await checked({ ...place, secret_access_key: 'wrong-secret' })
    expect(wrong).toMatchObject({ kind: 'auth' })
    expect(`${wrong?.message}${wrong?.hint}`).not.toContain('wrong-secret')
    expect(await checked({ ...place, endpoint: 'http://127.0.0.1:1', attempts: 1 })).toMatchObject({
      kind: 'unavailable',
    })
    const { secret_access_key: _, ...half } = place
    expect(await checked(half)).toMatchObject({
      kind: 'config',
      message: expect.stringContaining('go together'),
    })
  })

  it('refuses a store that ignores If-None-Match, with the reason, and one that hides what was written', async () => {
    await using open = await startS3({ open: true })
    await using proxy = await startProxy(open.endpoint)
    const place = { ...placeOf(open, open.bucket()), endpoint: proxy.endpoint, attempts: 1 }
    proxy.act = ({ headers: { 'if-none-match': _, ...headers } }) => headers
    const error = await checked(place)
    expect(error).toBeInstanceOf(ConnectorError)
    expect(error).toMatchObject({ kind: 'config', message: expect.stringContaining('ignores If-None-Match') })
    expect(await checked({ ...place, endpoint: open.endpoint })).toBeNull()
  }, 60_000)
})
