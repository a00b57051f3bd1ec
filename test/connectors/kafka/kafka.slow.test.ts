/** The Kafka sink and source on a real broker: kits, views, keys, headers, partitions, faults, and a mirror of one topic in another. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kafka } from '../../../connectors/kafka/sink.ts'
import { kafkaTopics } from '../../../connectors/kafka/source.ts'
import { freePort } from '../../../connectors/postgres/embedded.ts'
import type { Context } from '../../../core/connector.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import { partitionOf } from '../../../core/kafka/partition.ts'
import type { LogRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { cutConformance } from '../../conform/cuts.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { appendingSinkConformance } from '../../conform/sink.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { clientOf, committed, openSink, topicRows, topicTarget } from './reading.ts'
import { sourceCases } from './source-cases.ts'

definitionConformance(kafka as never)
definitionConformance(kafkaTopics as never)

const missing = missingForKafka()
describe.skipIf(missing !== null)(missing ?? 'kafka', () => {
  let cluster: KafkaCluster
  let proxyPort: number
  const brokers: string[] = []
  beforeAll(async () => {
    proxyPort = await freePort()
    cluster = await startKafka({ proxyPort })
    brokers.push(...cluster.bootstrap)
  })
  afterAll(() => cluster?.[Symbol.asyncDispose]())

  const tooLarge = (good: LogRecord): LogRecord => ({
    ...good,
    after: JSON.stringify({ id: 5, name: 'x'.repeat(3_000_000), price: '1' }),
  })
  appendingSinkConformance({ name: 'kafka', target: topicTarget(brokers), bad: tooLarge })

  cutConformance({
    name: 'kafka',
    port: () => cluster.behindProxy,
    proxyPort: () => proxyPort,
    target: async port => {
      const target = await topicTarget([`127.0.0.1:${port}`])()
      return { ...target, rows: topicRows(brokers, target.topic) }
    },
    keepsDeleted: true,
  })

  const write = async (options: object, records: readonly LogRecord[], context: Partial<Context> = {}) => {
    const writer = await openSink({ brokers, ...options }, testContext(context))
    try {
      expect(await writer.write(batchOf(records))).toEqual([])
    } finally {
      await writer[Symbol.asyncDispose]()
    }
  }
  const said = (work: Promise<unknown>) =>
    work.then(
      () => null,
      error => error as ConnectorError,
    )

  it('a change is the log’s own value, with its version, operation and own headers; sweeps go to every partition', async () => {
    const records = [
      recordOf({ op: 'c', id: 1, version: 1 }),
      recordOf({ op: 'd', id: 1, version: 2 }),
      recordOf({ op: 'sweep', version: 3, below: 3 }),
    ]
    await write({ topic: 'changes.${table}', partitions: 3, headers: { from: 'hub of ${schema}' } }, records)
    const found = await committed(brokers, 'changes.kit')
    const own = found.filter(one => !String(one.key).includes('sweep'))
    expect(own.map(one => JSON.parse(String(one.value)))).toMatchObject([
      { op: 'c', before: null, after: { id: 1, name: 'a', price: '1.50' }, source: { connector: 'kit' } },
      { op: 'd', after: null },
    ])
    expect(own[0]).toMatchObject({
      partition: partitionOf('{"id":1}', 3),
      headers: { 'millrace.version': '1', 'millrace.op': 'c', from: 'hub of test' },
      timestamp: 1_700_000_000_000,
    })
    expect(found.filter(one => String(one.key).includes('sweep')).map(one => one.partition)).toEqual([
      0, 1, 2,
    ])
  })

  it('a row view has the row alone, its delete is a tombstone, and the key may be the id', async () => {
    const options = {
      topic: 'rows',
      position_topic: 'p-rows',
      view: 'row',
      key: 'id',
      numbers: 'literals',
      topic_config: { 'cleanup.policy': 'compact' },
    }
    await write(options, [
      recordOf({ id: 7, version: 1 }),
      recordOf({ op: 'd', id: 7, version: 2 }),
      recordOf({ op: 'sweep', version: 3, below: 3 }),
    ])
    const found = await committed(brokers, 'rows')
    expect(found.map(({ key, value }) => [String(key), value && String(value)])).toEqual([
      ['7', '{"id":7,"name":"a","price":1.50}'],
      ['7', null],
    ])
  })

  it.each(['none', 'gzip', 'snappy', 'lz4'])('packs by %s what any client reads', async compression => {
    const many = Array.from({ length: 3_000 }, (_, i) =>
      recordOf({ id: i, version: i + 1, name: 'schön '.repeat(20) }),
    )
    await write(
      {
        topic: `packed-${compression}`,
        compression,
        batch_bytes: 20_000,
        position_topic: `p-${compression}`,
      },
      many,
    )
    const found = await committed(brokers, `packed-${compression}`)
    expect(found.map(one => JSON.parse(String(one.value)).after.id)).toEqual(many.map((_, i) => i))
  })

  it('takes the partitions of a topic that is there; plan says what is', async () => {
    const admin = clientOf(brokers).admin()
    await admin.connect()
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: 'four', numPartitions: 4 }] })
    await admin.disconnect()
    const records = Array.from({ length: 40 }, (_, i) => recordOf({ id: i, version: i + 1 }))
    await write({ topic: 'four', position_topic: 'p-four' }, records)
    const found = await committed(brokers, 'four')
    for (const { key, partition } of found) expect(partition).toBe(partitionOf(String(key), 4))
    expect(new Set(found.map(one => one.partition)).size).toBe(4)
    const plan = (topic: string) =>
      kafka.plan!(
        kafka.config.parse({ brokers, topic }),
        [{ table: records[0]!.table, topic: 'kit.test.kit' }],
        testContext(),
      )
    expect(await plan('four')).toMatchObject([{ name: 'four', exists: true }])
    expect(await plan('new-${table}')).toMatchObject([{ name: 'new-kit', exists: false }])
  })

  it('forget takes the position, and the task begins anew', async () => {
    const options = { brokers, topic: 'forgotten', position_topic: 'p-forgotten' }
    await write(options, [recordOf({ version: 1 })])
    const config = kafka.config.parse(options)
    await kafka.forget!(config, ['test/sink/0'], testContext())
    const writer = await kafka.open(config, testContext())
    expect(await writer.position!()).toBeNull()
    await writer[Symbol.asyncDispose]()
  })

  it('a topic of positions that would be cut is refused, for a task would begin anew; its hint mends it', async () => {
    const admin = clientOf(brokers).admin()
    await admin.connect()
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: 'p-cut', numPartitions: 1 }] })
    const cut = { brokers, topic: 'cut', position_topic: 'p-cut' }
    const refused = {
      kind: 'config',
      message: expect.stringContaining('cleanup.policy is delete'),
      hint: expect.stringContaining('--topic p-cut --add-config cleanup.policy=compact'),
    }
    expect(await said(kafka.check(kafka.config.parse(cut), testContext()))).toMatchObject(refused)
    expect(await said(openSink(cut, testContext()))).toMatchObject(refused)
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: 2, name: 'p-cut', configEntries: [{ name: 'cleanup.policy', value: 'compact' }] }],
    })
    await admin.disconnect()
    for (let failure = await said(kafka.check(kafka.config.parse(cut), testContext())); failure; )
      failure = await said(kafka.check(kafka.config.parse(cut), testContext()))
    await write({ topic: 'cut', position_topic: 'p-cut' }, [recordOf({ version: 1 })])
  })

  it('no broker, and a registry that is missing, are told', async () => {
    const nowhere = kafka.config.parse({ brokers: ['127.0.0.1:1'] })
    expect(await said(kafka.check(nowhere, testContext()))).toMatchObject({ kind: 'unavailable' })
    expect(kafka.config.safeParse({ brokers, format: 'avro' }).error?.issues[0]).toMatchObject({
      path: ['registry'],
      message: 'is needed for format avro',
    })
  })

  describe('source', () => sourceCases(brokers))
})
