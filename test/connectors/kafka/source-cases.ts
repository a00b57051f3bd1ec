/** The Kafka source: the kit, what messages are as rows, and topics that are cut, made anew or grow under it. */
import { expect, it } from 'vitest'
import { kafkaTopics } from '../../../connectors/kafka/source.ts'
import type { Offset } from '../../../core/connector.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { ChangeRecord, LogRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { refusalOf } from '../../conform/refusal.ts'
import { sourceConformance } from '../../conform/source.ts'
import { clientOf, committed, openSink } from './reading.ts'

/** `brokers`: they are known when the tests begin. */
export function sourceCases(brokers: readonly string[]): void {
  const source = (over: object) => kafkaTopics.config.parse({ brokers, ...over })
  const produce = async (
    topic: string,
    messages: { key?: string; value: string | null; partition?: number }[],
  ) => {
    const producer = clientOf(brokers).producer()
    await producer.connect()
    await producer.send({ topic, messages: messages.map(one => ({ key: null, ...one })) })
    await producer.disconnect()
  }
  const make = async (topic: string, numPartitions = 1) => {
    const admin = clientOf(brokers).admin()
    await admin.connect()
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions }] })
    await admin.disconnect()
  }
  const readAll = async (over: object, count: number, from: Offset | null = null) => {
    const stop = new AbortController()
    const records: ChangeRecord[] = []
    let offset: Offset = from
    const reader = await kafkaTopics.open(source(over), from, testContext({ signal: stop.signal }))
    for await (const batch of reader) {
      records.push(...batch.records)
      offset = batch.offset
      if (records.length >= count) break
    }
    stop.abort()
    await reader[Symbol.asyncDispose]()
    return { records, offset }
  }

  let kits = 0
  sourceConformance({
    name: 'kafka topics',
    async setUp() {
      const topic = `source-${++kits}`
      await make(topic)
      const rows = (from: number, to: number) =>
        Array.from({ length: to - from }, (_, i) => ({
          key: `k${(from + i) % 5}`,
          value: `{"n": ${from + i}}`,
        }))
      for (let at = 0; at < 40; at += 8) await produce(topic, rows(at, at + 8))
      return {
        open: (from, context) => kafkaTopics.open(source({ topics: [topic] }), from, context),
        change: () => produce(topic, rows(40, 60)),
        async [Symbol.asyncDispose]() {},
      }
    },
    isFixed: () => true,
    isResumable: () => true,
    quietMs: 2_500,
    resumes: 3,
  })

  it('objects are rows; keys are objects, texts, members or places; tombstones delete', async () => {
    await make('shapes')
    await produce('shapes', [
      { key: '{"id": 9223372036854775807}', value: '{"name": " é ", "tags": [1, {"a": 2}]}' },
      { key: 'plain', value: '{"n":1}' },
      { value: '{"n":2}' },
      { key: 'plain', value: null },
    ])
    const { records } = await readAll({ topics: ['shapes'] }, 4)
    expect(records.map(({ op, key, after }) => [op, key, after])).toEqual([
      ['u', '{"id":9223372036854775807}', '{"id":9223372036854775807,"name":" é ","tags":[1,{"a":2}]}'],
      ['u', '{"key":"plain"}', '{"key":"plain","n":1}'],
      ['u', '{"partition":0,"offset":2}', '{"partition":0,"offset":2,"n":2}'],
      ['d', '{"key":"plain"}', null],
    ])
    const byMember = await readAll({ topics: ['shapes'], key: ['n'] }, 4)
    expect(byMember.records[1]!.key).toBe('{"n":1}')
  })

  it('every partition, each in its order, from where it was; a topic that was cut is told (V5)', async () => {
    await make('wide', 3)
    for (let i = 0; i < 30; i++) await produce('wide', [{ key: 'k', value: `{"n":${i}}`, partition: i % 3 }])
    const first = await readAll({ topics: ['wide'] }, 12)
    const rest = await readAll({ topics: ['wide'] }, 30 - first.records.length, first.offset)
    const seen = [...first.records, ...rest.records].map(one => JSON.parse(one.after!).n as number)
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i))
    for (const partition of [0, 1, 2]) {
      const own = seen.filter(n => n % 3 === partition)
      expect(own).toEqual([...own].sort((a, b) => a - b))
    }
    const beyond = { next: { 'wide/0': 100, 'wide/1': 0, 'wide/2': 0 } }
    expect(
      await refusalOf(kafkaTopics.open(source({ topics: ['wide'] }), beyond, testContext())),
    ).toMatchObject({
      kind: 'offset_lost',
      message: expect.stringContaining('wide/0 ends at 10'),
    })
    expect(await refusalOf(kafkaTopics.check(source({ topics: ['nowhere'] }), testContext()))).toMatchObject({
      kind: 'config',
      message: expect.stringContaining('has no topic nowhere'),
    })
  })

  it('a value that is no object deletes nothing: the source halts at its place, behind what came before', async () => {
    await make('broken')
    await produce('broken', [
      { key: 'a', value: '{"n":1}' },
      { key: 'a', value: '{"n":2' },
    ])
    const reader = await kafkaTopics.open(source({ topics: ['broken'] }), null, testContext())
    const seen: (string | null)[] = []
    const error = await (async () => {
      for await (const { records } of reader) seen.push(...records.map(one => one.after))
    })().catch(one => one as ConnectorError)
    await reader[Symbol.asyncDispose]()
    expect(seen).toEqual(['{"key":"a","n":1}'])
    expect(error).toMatchObject({
      kind: 'config',
      message: 'broken/0 offset 1: the value is no JSON object',
      hint: expect.stringContaining('format: text'),
    })
  })

  it('records that went before any was read are lost, and told (V5)', async () => {
    await make('aged')
    const empty = await readAll({ topics: ['aged'] }, 0)
    expect(empty.offset).toMatchObject({ next: { 'aged/0': 0 } })
    await produce(
      'aged',
      Array.from({ length: 10 }, (_, i) => ({ key: 'k', value: `{"n":${i}}` })),
    )
    const admin = clientOf(brokers).admin()
    await admin.connect()
    await admin.fetchTopicOffsets('aged')
    await admin.deleteTopicRecords({ topic: 'aged', partitions: [{ partition: 0, offset: '8' }] })
    await admin.disconnect()
    expect(
      await refusalOf(kafkaTopics.open(source({ topics: ['aged'] }), empty.offset, testContext())),
    ).toMatchObject({ kind: 'offset_lost', message: 'aged/0 begins at 8, and was read up to 0' })
    expect((await readAll({ topics: ['aged'] }, 2)).records, 'anew, from what there is').toHaveLength(2)
  })

  it('a topic that was made anew is not the one that was read, however long it is, at the start and while it runs (V5)', async () => {
    const rows = (count: number) =>
      Array.from({ length: count }, (_, i) => ({ key: 'k', value: `{"n":${i}}` }))
    await make('again')
    await produce('again', rows(5))
    const { offset } = await readAll({ topics: ['again'] }, 5)
    const reader = await kafkaTopics.open(source({ topics: ['again'] }), offset, testContext())
    const running = refusalOf(
      (async () => {
        for await (const _ of reader);
      })(),
    )
    const admin = clientOf(brokers).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: ['again'] })
    for (let known = ['again']; known.includes('again'); known = await admin.listTopics())
      await new Promise(resolve => setTimeout(resolve, 50))
    await admin.disconnect()
    await make('again')
    await produce('again', rows(9))
    const message = expect.stringContaining('again is another than the one that was read')
    expect(
      await refusalOf(kafkaTopics.open(source({ topics: ['again'] }), offset, testContext())),
    ).toMatchObject({
      kind: 'offset_lost',
      message,
    })
    // It may also have met the gap between the two; then it opens anew, and is told as above.
    const met = await running
    if (met?.kind !== 'unavailable') expect(met).toMatchObject({ kind: 'offset_lost', message })
    await reader[Symbol.asyncDispose]()
  })

  it('partitions that a topic gets while it is read are read, too', async () => {
    await make('growing')
    await produce('growing', [{ key: 'a', value: '{"n":0}' }])
    const reader = await kafkaTopics.open(source({ topics: ['growing'] }), null, testContext())
    let offset: Offset = null
    const reading = refusalOf(
      (async () => {
        for await (const batch of reader) offset = batch.offset
      })(),
    )
    const admin = clientOf(brokers).admin()
    await admin.connect()
    await admin.createPartitions({ topicPartitions: [{ topic: 'growing', count: 3 }] })
    await admin.disconnect()
    expect(await reading).toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('growing has 3 partitions now'),
    })
    await reader[Symbol.asyncDispose]()
    await produce('growing', [{ key: 'b', value: '{"n":1}', partition: 2 }])
    const rest = await readAll({ topics: ['growing'] }, 1, offset)
    expect(rest.records.map(one => one.after)).toEqual(['{"key":"b","n":1}'])
  })

  it('as text, into a sink that hands key and value on: the other topic holds the same', async () => {
    await make('edge', 2)
    const messages = Array.from({ length: 20 }, (_, i) => ({
      key: `k${i % 4}`,
      value: i === 7 ? null : `not {json ${i}`,
    }))
    await produce('edge', messages)
    const { records } = await readAll({ topics: ['edge'], format: 'text' }, 20)
    const log = records.map(
      (record, i): LogRecord => ({
        ...record,
        topic: 'm.kafka.edge',
        partition: 0,
        offset: i,
        version: i + 1,
      }),
    )
    const writer = await openSink(
      {
        brokers,
        topic: 'centre',
        partitions: 2,
        key_field: 'key',
        value_field: 'value',
        position_topic: 'p-centre',
      },
      testContext({ task: 'mirror/sink/0' }),
    )
    expect(await writer.write({ records: log, offset: { log: 'm', next: { 'm.kafka.edge': 20 } } })).toEqual(
      [],
    )
    await writer[Symbol.asyncDispose]()
    const plainly = async (topic: string) =>
      (await committed(brokers, topic)).map(({ partition, key, value }) => [
        partition,
        String(key),
        value && String(value),
      ])
    expect(await plainly('centre')).toEqual(await plainly('edge'))
  })
}
