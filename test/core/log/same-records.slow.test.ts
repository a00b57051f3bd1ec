/**
 * The same pipeline gives the same records in both logs: every file of pipelines/ runs once, its batches are written to an embedded log
 * and to one on Kafka under a clock that stands still, and what each holds is compared.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { DuckDBInstance } from '@duckdb/node-api'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectors } from '../../../connectors/index.ts'
import { openShop } from '../../../connectors/postgres/shop.ts'
import type { Batch, Clock, Source } from '../../../core/connector.ts'
import { openFileLog } from '../../../core/log/file.ts'
import { openKafkaLog } from '../../../core/log/kafka/log.ts'
import type { ChangeLog } from '../../../core/log/log.ts'
import { nodeDisk } from '../../../core/log/node-disk.ts'
import { parsePipelines } from '../../../core/pipeline/parse.ts'
import type { ParsedPipeline } from '../../../core/pipeline/schema.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { encodeValue } from '../../../core/row.ts'
import { transformed } from '../../../core/transform/transform.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { testContext } from '../../conform/context.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { missingForRedis, type RedisServer, startRedis } from '../../servers/redis.ts'
import { missingForS3, type S3Server, startS3 } from '../../servers/s3.ts'
import { settingsOf, silentLog } from './kafka-settings.ts'

const missing = missingForKafka() ?? missingForRedis() ?? missingForS3()
const FOLDER = new URL('../../../pipelines/', import.meta.url)
const files = readdirSync(FOLDER).filter(name => name.endsWith('.yaml'))
const NOW_US = Date.now() * 1000
const fixed: Clock = { ...realClock, nowUs: () => NOW_US }

/** A record as it stands in a log: no offset, for the transactions' markers take some of Kafka's. */
const shown = (partition: number, key: string, value: string, version: number, timestampMs: number) =>
  JSON.stringify([partition, key, value, version, timestampMs])
type ByTopic = Map<string, string[]>
const note = (found: ByTopic, topic: string, text: string) => {
  const list = found.get(topic) ?? []
  found.set(topic, list)
  list.push(text)
}

async function embedded(log: ChangeLog): Promise<ByTopic> {
  const found: ByTopic = new Map()
  for (let partition = 0; partition < log.partitions; partition++) {
    await using reader = await log.reader({
      consumer: 'test',
      partition,
      from: null,
      signal: new AbortController().signal,
      untilEnd: true,
    })
    for await (const { records } of reader)
      for (const record of records)
        note(
          found,
          record.topic,
          shown(partition, record.key, encodeValue(record, -1), record.version, record.commitMs),
        )
  }
  return found
}

/** By a client of its own: the bytes as any consumer sees them. */
async function onKafka(
  brokers: readonly string[],
  topics: readonly string[],
  records: number,
): Promise<ByTopic> {
  const found: ByTopic = new Map()
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
  const consumer = kafka.consumer({
    groupId: `look-${Math.random()}`,
    readUncommitted: false,
    maxWaitTimeInMs: 100,
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [...topics], fromBeginning: true })
  let count = 0
  await consumer.run({
    async eachMessage({ topic, partition, message: { key, value, headers, timestamp } }) {
      const version = Number(headers!['millrace.version'])
      note(found, topic, shown(partition, String(key), String(value), version, Number(timestamp)))
      count++
    },
  })
  while (count < records) await new Promise(resolve => setTimeout(resolve, 20))
  await consumer.disconnect()
  return found
}

/** What the pipelines that read Kafka find. */
async function readings(brokers: readonly string[]): Promise<void> {
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic: 'readings', numPartitions: 1 }] })
  await admin.disconnect()
  const producer = kafka.producer()
  await producer.connect()
  const messages = Array.from({ length: 100 }, (_, i) => ({ key: `k${i % 7}`, value: `schön ${i}` }))
  await producer.send({ topic: 'readings', messages })
  await producer.disconnect()
}

const BUCKET = 'exports'

/** Files and objects that the pipelines look for, by DuckDB. */
async function writeExports(
  data: string,
  { endpoint, accessKeyId, secretAccessKey }: S3Server,
): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:')
  const duck = await instance.connect()
  const files = join(data, 'files')
  mkdirSync(files)
  const rows = "SELECT i AS id, 'name ' || i AS name, (i / 7)::DECIMAL(12,2) AS total FROM range(300) t(i)"
  await duck.run(`COPY (${rows}) TO '${join(files, 'items-1.parquet')}'`)
  await duck.run(`COPY (${rows}) TO '${join(data, 'orders.csv')}' (HEADER)`)
  duck.closeSync()
  instance.closeSync()
  const credentials = { accessKeyId, secretAccessKey }
  const client = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true })
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }))
  const Body = readFileSync(join(data, 'orders.csv'))
  await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'daily/orders/1.csv', Body }))
  client.destroy()
}

/** What somebody brings to the first topic. */
function writtenBatches({ source }: ParsedPipeline): Batch<ChangeRecord>[] {
  const [topic] = (source.connector as Source).topics!(source.config as never)
  const lines = Array.from(
    { length: 200 },
    (_, i) => `{"id":${i % 150},"name":"schön ${i}","total":"${i}.50"}`,
  )
  const body = Buffer.from(lines.join('\n'))
  const records = [...topic!.records(body, 'application/x-ndjson', NOW_US / 1000)]
  return [{ records, offset: { written: records.length } }]
}

/** The source's batches until it has caught up, its transforms done. */
async function batchesOf({ name, source }: ParsedPipeline, s3: S3Server): Promise<Batch<ChangeRecord>[]> {
  const stop = new AbortController()
  const context = testContext({ pipeline: name, task: `${name}/source`, signal: stop.signal })
  const found: Batch<ChangeRecord>[] = []
  const sink = transformed<ChangeRecord>(
    {
      async write(batch) {
        found.push(batch)
        return []
      },
      async [Symbol.asyncDispose]() {},
    },
    source.transforms,
  )
  const connector = source.connector as Source
  const { endpoint, accessKeyId: access_key_id, secretAccessKey: secret_access_key } = s3
  const place =
    connector.name === 's3' ? { endpoint, path_style: true, access_key_id, secret_access_key } : {}
  const config = { ...(source.config as object), ...place } as never
  await using reader = await connector.open(config, null, context)
  for await (const batch of reader) {
    await sink.write(batch)
    await reader.commit?.(batch.offset)
    if (batch.caughtUp) break
  }
  stop.abort()
  await reader[Symbol.asyncDispose]()
  await connector.drop?.(config, { ...context, signal: new AbortController().signal })
  return found
}

describe.skipIf(missing !== null)(missing === null ? 'both logs' : `both logs: ${missing}`, () => {
  let cluster: KafkaCluster
  let server: PostgresServer
  let redis: RedisServer
  let s3: S3Server
  let data: string
  beforeAll(async () => {
    ;[cluster, server, redis, s3] = await Promise.all([
      startKafka(),
      startPostgres(),
      startRedis(),
      startS3(),
    ])
    data = mkdtempSync(join(tmpdir(), 'millrace-same-data-'))
    await writeExports(data, s3)
    for (let i = 0; i < 100; i++) await redis.command('XADD', 'events', '*', 'n', String(i), 'word', 'schön')
    await readings(cluster.bootstrap)
    await using shop = await openShop(server.url, 2_000)
    await shop.prepare()
    await server.sql(`CREATE TABLE customers (id int PRIMARY KEY, email text, name text, phone text);
      INSERT INTO customers SELECT i, 'c' || i || '@example.org', 'name ' || i, '555' FROM generate_series(1, 500) i`)
    await server.sql(
      'CREATE TABLE products AS SELECT id, name, price FROM shop.products; ALTER TABLE products ADD PRIMARY KEY (id)',
    )
  })
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]()
    await server?.[Symbol.asyncDispose]()
    await redis?.[Symbol.asyncDispose]()
    await s3?.[Symbol.asyncDispose]()
    if (data) rmSync(data, { recursive: true })
  })

  it.each(files)(
    'hold the same records of pipelines/%s: keys, values, numbers, partitions, order',
    async file => {
      const env = {
        DATABASE_URL: server.url,
        ELASTICSEARCH_URL: 'http://127.0.0.1:9',
        OPENSEARCH_URL: 'http://127.0.0.1:9',
        REDIS_URL: redis.url,
        KAFKA_BROKER: cluster.bootstrap[0]!,
        EDGE_BROKER: cluster.bootstrap[0]!,
        CENTRE_BROKER: cluster.bootstrap[0]!,
        MILLRACE_DATA: data,
        S3_BUCKET: BUCKET,
      }
      const text = readFileSync(new URL(file, FOLDER), 'utf8')
      const { pipelines, mistakes } = parsePipelines([{ path: file, text }], {
        connectors,
        env,
        readFile: () => 'secret',
      })
      expect(mistakes).toEqual([])
      const definition = pipelines[0]!
      const batches = definition.source.connector.topics
        ? writtenBatches(definition)
        : await batchesOf(definition, s3)
      const { name } = definition
      const partitions = 3
      const folder = mkdtempSync(join(tmpdir(), 'millrace-same-'))
      const shared = { clock: fixed, log: silentLog, name, partitions, compression: 'lz4' as const }
      await using file_ = await openFileLog({
        ...shared,
        directory: join(folder, 'log'),
        disk: nodeDisk,
        limitBytes: Number.POSITIVE_INFINITY,
        lingerMs: 0,
        batchBytes: 1e6,
      })
      await using kafka = await openKafkaLog({
        ...shared,
        settings: settingsOf(cluster.bootstrap, ''),
        retention: null,
        retentionHours: 1_000_000,
      })
      for (const log of [file_, kafka]) {
        const writer = await log.writer(
          testContext({ pipeline: name, task: `${name}/source`, clock: fixed }),
          0,
        )
        for (const batch of batches) expect(await writer.write(batch)).toEqual([])
      }
      const one = await embedded(file_)
      const records = [...one.values()].reduce((sum, list) => sum + list.length, 0)
      expect(records).toBeGreaterThan(10)
      const other = await onKafka(cluster.bootstrap, [...one.keys()], records)
      expect([...other.keys()].sort()).toEqual([...one.keys()].sort())
      for (const [topic, list] of one) {
        const found = other.get(topic)!
        expect(found.length, topic).toBe(list.length)
        const inOrder = (partition: number, of: readonly string[]) =>
          of.filter(text => text.startsWith(`[${partition},`))
        for (let partition = 0; partition < partitions; partition++)
          expect(inOrder(partition, found), `${topic}/${partition}`).toEqual(inOrder(partition, list))
      }
      // The driver's own reader says the same.
      expect(await embedded(kafka)).toEqual(one)
      rmSync(folder, { recursive: true })
    },
  )
})
