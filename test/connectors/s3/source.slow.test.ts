/** The source of objects on a real store: everything that object sources do, Parquet of DuckDB, and what a store in trouble does to it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { s3Source } from '../../../connectors/s3/source.ts'
import type { Batch, Offset } from '../../../core/connector.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { missingForS3, type S3Server, startS3 } from '../../servers/s3.ts'
import { objectSourceCases } from '../object/source-cases.ts'
import { idsOf, linesFrom, type ObjectPlace, openSource, readAll } from '../object/source-place.ts'
import { clientOf, placeOf } from './bucket.ts'
import { startProxy } from './proxy.ts'

definitionConformance(s3Source)

const missing = missingForS3()
describe.skipIf(missing !== null)(missing ?? 's3: source', () => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3()
  }, 180_000)
  afterAll(() => server?.[Symbol.asyncDispose]())

  const bucketPlace = async (over: object = {}): Promise<ObjectPlace> => {
    const bucket = server.bucket()
    const client = clientOf(server)
    const prefix = 'lake/in'
    const at = (name: string) => ({ Bucket: bucket, Key: `${prefix}/${name}` })
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'lake/input.jsonl', Body: '{"id":-1}\n' }))
    return {
      source: s3Source,
      place: { ...placeOf(server, bucket), prefix, ...over },
      write: async (name, bytes) =>
        void (await client.send(new PutObjectCommand({ ...at(name), Body: Buffer.from(bytes as string) }))),
      remove: async name => void (await client.send(new DeleteObjectCommand(at(name)))),
      async [Symbol.asyncDispose]() {
        client.destroy()
      },
    }
  }

  objectSourceCases(bucketPlace)

  const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)
  /** About 16 MB: ranges follow ranges. */
  const large = (from: number) => linesFrom(from, from + 16_000, { text: 'x'.repeat(1_000) })

  it('lists more than a page', async () => {
    await using place = await bucketPlace()
    const names = range(0, 1_100).map(i => `t/${String(i).padStart(5, '0')}.jsonl`)
    for (let at = 0; at < names.length; at += 50)
      await Promise.all(
        names.slice(at, at + 50).map((name, i) => place.write(name, linesFrom(at + i, at + i + 1))),
      )
    expect(idsOf(await readAll(place))).toEqual(range(0, 1_100))
    expect(idsOf(await readAll(place, { order: 'modified' })).sort((a, b) => a - b)).toEqual(range(0, 1_100))
  }, 120_000)

  it('reads Parquet of several row groups by ranges, and goes on inside of one', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-s3-parquet-'))
    await using place = await bucketPlace()
    await using proxy = await startProxy(server.endpoint)
    try {
      const duck = await (await DuckDBInstance.create()).connect()
      await duck.run(
        `COPY (SELECT i AS id, md5(i::VARCHAR) AS t, (i / 8)::DECIMAL(12,3) AS d FROM range(20000) r(i)) TO '${folder}/a.parquet' (ROW_GROUP_SIZE 4096)`,
      )
      duck.closeSync()
      await place.write('t/a.parquet', readFileSync(`${folder}/a.parquet`))
    } finally {
      rmSync(folder, { recursive: true })
    }
    const whole = await readAll(place, { batch_rows: 1_500, endpoint: proxy.endpoint })
    expect(idsOf(whole)).toEqual(range(0, 20_000))
    expect(whole.records[9]!.after).toMatch(/"_line":10,"id":9,"t":"[0-9a-f]{32}","d":"1.125"}$/)
    for (const [i, offset] of whole.offsets.slice(0, -1).entries()) {
      const rest = await readAll(place, {}, offset)
      expect(idsOf(rest)).toEqual(range(Math.min(20_000, 1_500 * (i + 1)), 20_000))
    }
    const gets = proxy.seen.filter(({ method, url }) => method === 'GET' && url.includes('a.parquet'))
    expect(gets.length).toBeGreaterThan(4)
    // Whatever is read is what was listed.
    for (const { headers } of gets) expect(headers).toMatchObject({ range: /^bytes=/, 'if-match': /./ })
  })

  it('goes on behind the last row that was handed on, after the store was killed in the midst', async () => {
    await using place = await bucketPlace({ attempts: 1 })
    await place.write('a.jsonl', large(0))
    await place.write('b.jsonl', large(16_000))
    const ids: number[] = []
    let offset: Offset = null
    for (let kills = 0; kills < 3; kills++) {
      const reader = await openSource(place, { batch_rows: 1_000 }, offset, testContext())
      let batches = 0
      const read = async () => {
        for await (const batch of reader as AsyncIterable<Batch<ChangeRecord>>) {
          ids.push(...idsOf(batch))
          offset = batch.offset
          if (++batches === 3 + kills) await server.kill9()
        }
      }
      await expect(read()).rejects.toMatchObject({ kind: 'unavailable' })
      await reader[Symbol.asyncDispose]()
      await server.start()
    }
    ids.push(...idsOf(await readAll(place, { attempts: 3 }, offset)))
    expect(ids).toEqual(range(0, 32_000))
  }, 180_000)

  it('gives up a store that falls silent, before an answer and in it', async () => {
    await using place = await bucketPlace({ attempts: 1, timeout_ms: 500 })
    await place.write('a.jsonl', large(0))
    const reader = await openSource(place, { batch_rows: 100 }, null, testContext())
    const batches = reader[Symbol.asyncIterator]()
    await batches.next()
    server.freeze()
    try {
      const rest = async () => {
        while (!(await batches.next()).done);
      }
      await expect(rest()).rejects.toMatchObject({ kind: 'unavailable' })
      const again = await readAll(place)
      expect(again.error).toMatchObject({ kind: 'unavailable' })
    } finally {
      server.thaw()
      await reader[Symbol.asyncDispose]()
    }
  }, 60_000)

  it('halts at an object that is written anew between two ranges', async () => {
    await using place = await bucketPlace()
    await place.write('a.jsonl', large(0))
    const reader = await openSource(place, { batch_rows: 1_000 }, null, testContext())
    const read = async () => {
      let batches = 0
      for await (const _ of reader as AsyncIterable<Batch<ChangeRecord>>)
        if (++batches === 2) await place.write('a.jsonl', large(7))
    }
    await expect(read()).rejects.toMatchObject({
      kind: 'offset_lost',
      message: expect.stringContaining('a.jsonl of s3://'),
    })
    await reader[Symbol.asyncDispose]()
  }, 60_000)

  it('classifies what the store says', async () => {
    await using place = await bucketPlace({ attempts: 1 })
    await place.write('a.jsonl', linesFrom(0, 1))
    expect((await readAll(place, { bucket: 'nowhere' })).error).toMatchObject({ kind: 'config' })
    expect((await readAll(place, { secret_access_key: 'wrong' })).error).toMatchObject({ kind: 'auth' })
    const checked = s3Source.check(
      s3Source.config.parse({ ...place.place, bucket: 'nowhere' }) as never,
      testContext(),
    )
    await expect(checked).rejects.toMatchObject({
      kind: 'config',
      hint: expect.stringContaining('Make the bucket'),
    })
    const half = s3Source.config.parse({ bucket: 'b', access_key_id: 'only' }) as never
    await expect(s3Source.check(half, testContext())).rejects.toMatchObject({ kind: 'config' })
    await using proxy = await startProxy(server.endpoint)
    proxy.act = ({ url }) => (url.includes('a.jsonl') ? 503 : null)
    expect((await readAll(place, { endpoint: proxy.endpoint })).error).toMatchObject({ kind: 'throttled' })
    proxy.act = ({ url }) => (url.includes('a.jsonl') ? 'cut' : null)
    expect((await readAll(place, { endpoint: proxy.endpoint })).error).toMatchObject({ kind: 'unavailable' })
    let cuts = 0
    proxy.act = ({ url }) => (url.includes('a.jsonl') && cuts++ === 0 ? 'cut' : null)
    const tried = await readAll(place, { endpoint: proxy.endpoint, attempts: 3 })
    expect(idsOf(tried)).toEqual([0])
  }, 60_000)
})
