/** What can happen to a log on Kafka, each with what is said of it: K1 to K4, V5, and that nothing is lost or doubled meanwhile. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import kafkajs, { type Admin } from 'kafkajs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Context, Offset, Writer } from '../../../core/connector.ts'
import { ConnectorError } from '../../../core/errors.ts'
import type { KafkaLog } from '../../../core/log/kafka/log.ts'
import { removeKafkaLog } from '../../../core/log/kafka/remove.ts'
import type { KafkaSettings } from '../../../core/log/kafka/settings.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { testContext } from '../../conform/context.ts'
import { change } from '../../conform/log.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { aclsOfDocs } from './kafka-acls.ts'
import { openLog, settingsOf, silentLog } from './kafka-settings.ts'

const missing = missingForKafka()
const title = (name: string) => (missing === null ? name : `${name}: ${missing}`)
const source = (over: Partial<Context> = {}) => testContext({ pipeline: 'kit', task: 'kit/source', ...over })
const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))
const newPrefix = () => `f${randomUUID().slice(0, 8)}.`

/** Ids in the log's order, of one partition. */
async function idsIn(log: KafkaLog, partition = 0): Promise<number[]> {
  const ids: number[] = []
  await using reader = await log.reader({
    consumer: 'test',
    partition,
    from: null,
    signal: new AbortController().signal,
    untilEnd: true,
  })
  for await (const { records } of reader)
    for (const { key } of records) ids.push((JSON.parse(key) as { id: number }).id)
  return ids
}

/** As a source's task does it: whatever fails, the writer is opened anew under a higher epoch, and goes on where the log says. */
async function writeAll(
  log: KafkaLog,
  batches: number,
  size: number,
  seen: (batch: number) => void,
): Promise<number> {
  let reopened = 0
  let writer: Writer<ChangeRecord> | null = null
  for (let epoch = 1, at = 0; at < batches; ) {
    try {
      if (!writer) {
        writer = await log.writer(source({ epoch: epoch++ }), 0)
        at = ((await writer.position!()) as number | null) ?? 0
      }
      const records = Array.from({ length: size }, (_, i) => change(at * size + i))
      await writer.write({ records, offset: at + 1 })
      seen(++at)
    } catch (error) {
      expect(
        error instanceof ConnectorError ? error.kind : (error as Error).name,
        (error as Error).message,
      ).toMatch(/unavailable|Fenced/)
      reopened++
      await writer?.[Symbol.asyncDispose]()
      writer = null
      await pause(100)
    }
  }
  await writer?.[Symbol.asyncDispose]()
  return reopened
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

describe.skipIf(missing !== null)(title('Kafka of three brokers'), () => {
  let cluster: KafkaCluster
  let log: KafkaLog | null = null
  beforeAll(async () => {
    cluster = await startKafka({ brokers: 3 })
  })
  afterAll(() => cluster?.[Symbol.asyncDispose]())
  afterEach(async () => {
    await log?.[Symbol.asyncDispose]()
    log = null
  })
  const settings = (insync: number): KafkaSettings =>
    settingsOf(cluster.bootstrap, newPrefix(), {
      replicationFactor: 3,
      topicConfig: { 'min.insync.replicas': String(insync) },
      producer: { ...settingsOf([], '').producer, requestTimeoutMs: 3_000 },
    })

  it('each broker killed and started again under a writer and a reader: nothing lost, doubled or out of order (K1)', async () => {
    log = await openLog(settings(2), { partitions: 3 })
    let done = 0
    const writing = writeAll(log, 400, 5, batch => {
      done = batch
    })
    for (const broker of cluster.brokers) {
      const from = done
      while (done < from + 40) await pause(20)
      await broker.kill9()
      await pause(1_500)
      await broker.start()
    }
    await writing
    const lists = await Promise.all([0, 1, 2].map(partition => idsIn(log!, partition)))
    for (const list of lists) expect(list).toEqual([...list].sort((a, b) => a - b))
    expect(lists.flat().sort((a, b) => a - b)).toEqual(numbers(2_000))
  }, 240_000)

  it('a broker that stands still: what waits for it fails, and goes on', async () => {
    log = await openLog(settings(2), { partitions: 3 })
    let done = 0
    const writing = writeAll(log, 150, 3, batch => {
      done = batch
    })
    while (done < 20) await pause(10)
    cluster.brokers[1]!.freeze()
    await pause(6_000)
    cluster.brokers[1]!.thaw()
    await writing
    const lists = await Promise.all([0, 1, 2].map(partition => idsIn(log!, partition)))
    expect(lists.flat().sort((a, b) => a - b)).toEqual(numbers(450))
  }, 240_000)

  it('not enough replicas in step: said so, and written when they are back', async () => {
    log = await openLog(settings(3))
    const writer = await log.writer(source(), 0)
    await writer.write({ records: [change(0)], offset: 1 })
    await cluster.brokers[2]!.kill9()
    const failed: ConnectorError[] = []
    const write = async (epoch: number) => {
      try {
        const next = await log!.writer(source({ epoch }), 0)
        await next.write({ records: [change(1)], offset: 2 })
        return true
      } catch (error) {
        failed.push(error as ConnectorError)
        return false
      }
    }
    let epoch = 2
    while (!failed.some(error => error.hint?.includes('min.insync.replicas'))) {
      expect(await write(epoch++), 'one of three is away').toBe(false)
      await pause(200)
    }
    expect(failed.every(error => error.kind === 'unavailable')).toBe(true)
    await cluster.brokers[2]!.start()
    while (!(await write(epoch++))) await pause(200)
    expect(await idsIn(log)).toEqual([0, 1])
  }, 240_000)
})

describe.skipIf(missing !== null)(title('Kafka of one broker'), () => {
  let cluster: KafkaCluster
  let admin: Admin
  let log: KafkaLog | null = null
  beforeAll(async () => {
    cluster = await startKafka({
      settings: { 'log.retention.check.interval.ms': 200, 'log.segment.delete.delay.ms': 0 },
    })
    admin = new kafkajs.Kafka({ brokers: [...cluster.bootstrap], logLevel: kafkajs.logLevel.NOTHING }).admin()
    await admin.connect()
  })
  afterAll(async () => {
    await admin?.disconnect()
    await cluster?.[Symbol.asyncDispose]()
  })
  afterEach(async () => {
    await log?.[Symbol.asyncDispose]()
    log = null
  })

  async function filled(
    over: Partial<KafkaSettings> = {},
  ): Promise<{ settings: KafkaSettings; topic: string }> {
    const settings = settingsOf(cluster.bootstrap, newPrefix(), over)
    log = await openLog(settings)
    await writeAll(log, 10, 10, () => {})
    return { settings, topic: `${settings.topicPrefix}kit.test.kit` }
  }
  const read = (from: Offset | null, signal = new AbortController().signal) =>
    log!.reader({ consumer: 'test', partition: 0, from, signal })
  const lost = { kind: 'offset_lost' }

  it('a topic deleted: neither reader nor writer goes on without it (V5)', async () => {
    const { topic } = await filled()
    await admin.deleteTopics({ topics: [topic] })
    await pause(500)
    await expect(read(null)).rejects.toMatchObject(lost)
    await expect(log!.writer(source({ epoch: 9 }), 0)).rejects.toMatchObject(lost)
  })

  it('a topic made again: a reader that runs, one that comes back and the writer all refuse it (V5)', async () => {
    const { topic } = await filled()
    const writer = await log!.writer(source({ epoch: 5 }), 0)
    const reader = await read(null)
    const batches = reader[Symbol.asyncIterator]()
    let next: Offset = null
    for (let count = 0; count < 100; ) {
      const { value } = await batches.next()
      count += value.records.length
      next = value.offset
    }
    await admin.deleteTopics({ topics: [topic] })
    while ((await admin.listTopics()).includes(topic)) await pause(50)
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true })
    await expect(read(next)).rejects.toMatchObject(lost)
    await expect(log!.writer(source({ epoch: 9 }), 0)).rejects.toMatchObject(lost)
    const writing = writer.write({ records: [change(1_000)], offset: 99 })
    await expect(writing).rejects.toSatisfy(
      (error: Error) => error.name === 'Fenced' || error.message.includes(topic),
    )
    // Its offset is beyond the end of what is there now. The client may lose the topic for a while first, which is no reason to halt.
    const ended = await (async () => {
      for (;;) {
        const { value } = await batches.next()
        expect(value?.records ?? []).toEqual([])
      }
    })().catch(error => error as ConnectorError)
    expect(['offset_lost', 'unavailable']).toContain(ended.kind)
    await reader[Symbol.asyncDispose]()
  }, 120_000)

  it('records gone below the offset: a reader that comes back and one that runs are told, and none jumps (V5)', async () => {
    const { topic } = await filled({ topicConfig: { 'segment.ms': '100', 'retention.ms': '1' } })
    for (let epoch = 5; ; epoch++) {
      // Only what stands in a closed segment goes; a segment is closed when a record comes that is younger.
      const writer = await log!.writer(source({ epoch }), 0)
      await writer.write({ records: [change(1, { commitMs: Date.now() })], offset: epoch })
      await writer[Symbol.asyncDispose]()
      if ((await log!.ends())[0]!.start > 0) break
      await pause(200)
    }
    const { start } = (await log!.ends())[0]!
    await expect(read({ log: log!.id, next: { [topic]: start - 1 } })).rejects.toMatchObject(lost)
    await using fresh = await read(null)
    expect(fresh, 'from the start of what there is').toBeDefined()
  }, 120_000)

  it('a record larger than the topic takes: refused with its key, the others go on (P1)', async () => {
    await filled({ topicConfig: { 'max.message.bytes': '10000' } })
    const writer = await log!.writer(source({ epoch: 5 }), 0)
    const big = change(7_000, { after: JSON.stringify({ id: 7_000, name: 'x'.repeat(20_000) }) })
    const rejected = await writer.write({ records: [change(200), big, change(201)], offset: 50 })
    expect(rejected).toMatchObject([
      {
        record: big,
        error: { kind: 'data', message: expect.stringMatching(/7000.*max\.message\.bytes 10000/) },
      },
    ])
    expect(await writer.write({ records: [change(200), change(201)], offset: 50 })).toEqual([])
    // Together they are more than a batch may have: several batches, one transaction.
    const many = numbers(50).map(i =>
      change(300 + i, { after: JSON.stringify({ id: i, name: 'y'.repeat(3_000) }) }),
    )
    expect(await writer.write({ records: many, offset: 51 })).toEqual([])
    expect(await idsIn(log!)).toEqual([...numbers(100), 200, 201, ...numbers(50).map(i => 300 + i)])
  })

  it('what is not ours is not touched: a foreign topic, another hub, other partitions', async () => {
    const settings = settingsOf(cluster.bootstrap, newPrefix())
    const topic = `${settings.topicPrefix}kit.test.kit`
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] })
    const producer = new kafkajs.Kafka({
      brokers: [...cluster.bootstrap],
      logLevel: kafkajs.logLevel.NOTHING,
    }).producer({
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    })
    await producer.connect()
    await producer.send({ topic, messages: [{ value: 'mine' }] })
    await producer.disconnect()
    log = await openLog(settings)
    const writer = await log.writer(source(), 0)
    await expect(writer.write({ records: [change(1)], offset: 1 })).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining(topic),
      hint: expect.stringContaining('topic_prefix'),
    })
    await expect(openLog({ ...settings, hub: 'other' })).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('belongs to the hub "test"'),
    })
    await expect(openLog(settings, { partitions: 2 })).rejects.toMatchObject({ kind: 'config' })
  })

  it('progress of a sink is the offset of its group, fenced and with the id of the log (K3)', async () => {
    const { topic } = await filled()
    const context = (epoch: number) => testContext({ pipeline: 'kit', task: 'kit/search/0', epoch })
    const old = log!.progress(context(1), 'search', 0)
    expect(await old.load()).toBeNull()
    await old.save({ log: log!.id, next: { [topic]: 7 } })
    const young = log!.progress(context(2), 'search', 0)
    expect(await young.load()).toEqual({ log: log!.id, next: { [topic]: 7 } })
    // After the next owner's look, and not before: a commit is answered when it is decided, and a tool that does not ask for stable
    // offsets sees it when its markers are written, a moment later. The next owner's producer waits for them.
    const [committed] = await admin.fetchOffsets({ groupId: 'test.kit.search', topics: [topic] })
    expect(committed!.partitions[0]).toMatchObject({ offset: '7' })
    await expect(old.save({ log: log!.id, next: { [topic]: 8 } })).rejects.toMatchObject({ name: 'Fenced' })
    for (let next = 8; next < 30; next++) await young.save({ log: log!.id, next: { [topic]: next } })
    await expect(log!.progress(context(2), 'search', 0).load()).rejects.toMatchObject({ name: 'Fenced' })
    expect(await log!.progress(context(3), 'search', 0).load()).toEqual({
      log: log!.id,
      next: { [topic]: 29 },
    })
  })
})

describe.skipIf(missing !== null)(title('Kafka that asks who we are'), () => {
  let cluster: KafkaCluster
  beforeAll(async () => {
    cluster = await startKafka({ secure: true })
  })
  afterAll(() => cluster?.[Symbol.asyncDispose]())
  const settings = (over: Partial<KafkaSettings>) => settingsOf(cluster.bootstrap, newPrefix(), over)
  const tls = () => ({
    ca: readFileSync(cluster.ca!, 'utf8'),
    cert: null,
    key: null,
    rejectUnauthorized: true,
  })

  it('every mechanism logs in; a wrong password, no login and no trust are told as what they are', async () => {
    const { username, password } = cluster.users!.admin
    for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'] as const) {
      await using log = await openLog(settings({ tls: tls(), sasl: { mechanism, username, password } }))
      expect(log.id).toMatch(/-/)
      const wrong = openLog(settings({ tls: tls(), sasl: { mechanism, username, password: 'hunter2' } }))
      const error = await wrong.then(
        () => null,
        caught => caught as ConnectorError,
      )
      expect(error).toMatchObject({ kind: 'auth', hint: expect.stringContaining('log.sasl') })
      expect(`${error!.message} ${error!.hint}`).not.toContain('hunter2')
    }
    const sasl = { mechanism: 'plain', username, password } as const
    await expect(openLog(settings({ tls: { ...tls(), ca: null }, sasl }))).rejects.toMatchObject({
      kind: 'auth',
      hint: expect.stringContaining('log.tls'),
    })
  })

  it('a client certificate is a login', async () => {
    const { bootstrap, cert, key } = cluster.clientCertificate!
    const own = settingsOf(bootstrap, newPrefix(), {
      tls: { ...tls(), cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') },
    })
    // It may do nothing, and that is what is said, not that it is unknown.
    await expect(openLog(own)).rejects.toMatchObject({
      kind: 'auth',
      message: expect.stringContaining('AUTHORIZATION'),
    })
  })

  it('who may do nothing is told what he needs; with the ACLs of the docs the log works', async () => {
    const { username, password } = cluster.users!.alice
    const prefix = newPrefix()
    const own = settingsOf(cluster.bootstrap, prefix, {
      tls: tls(),
      sasl: { mechanism: 'scram-sha-256', username, password },
    })
    await expect(openLog(own)).rejects.toMatchObject({
      kind: 'auth',
      hint: expect.stringContaining('kafka-acls'),
    })
    const { username: user, password: secret } = cluster.users!.admin
    const admin = new kafkajs.Kafka({
      brokers: [...cluster.bootstrap],
      ssl: { ca: [tls().ca] },
      sasl: { mechanism: 'plain', username: user, password: secret },
      logLevel: kafkajs.logLevel.NOTHING,
    }).admin()
    await admin.connect()
    await admin.createAcls({ acl: aclsOfDocs(cluster.users!.alice.principal, `${prefix}kit.`, 'test.') })
    await admin.disconnect()
    await using log = await openLog(own)
    await writeAll(log, 3, 5, () => {})
    expect(await idsIn(log)).toEqual(numbers(15))
    const progress = log.progress(testContext({ pipeline: 'kit', task: 'kit/search/0' }), 'search', 0)
    expect(await progress.load()).toBeNull()
    await progress.save({ log: log.id, next: { [`${prefix}kit.test.kit`]: 7 } })
    const removed = await removeKafkaLog({
      settings: own,
      clock: realClock,
      log: silentLog,
      pipeline: 'kit',
      sinks: ['search'],
    })
    expect(removed).toEqual([`topic ${prefix}kit.test.kit`, `topic ${prefix}kit.offsets`])
  })
})
