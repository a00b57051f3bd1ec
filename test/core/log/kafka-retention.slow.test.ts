/** Retention of topics on a real Kafka follows the sinks (K5), and what their groups say does not fade (K3). */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import kafkajs, { type Admin } from 'kafkajs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Clock, Log, LogFields } from '../../../core/connector.ts'
import type { KafkaLog } from '../../../core/log/kafka/log.ts'
import type { KafkaSettings } from '../../../core/log/kafka/settings.ts'
import type { Retention } from '../../../core/log/log.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { testContext } from '../../conform/context.ts'
import { change } from '../../conform/log.ts'
import { type KafkaCluster, missingForKafka, startKafka } from '../../servers/kafka.ts'
import { aclsOfDocs } from './kafka-acls.ts'
import { openLog, settingsOf, silentLog } from './kafka-settings.ts'

const missing = missingForKafka()
const title = (name: string) => (missing === null ? name : `${name}: ${missing}`)
const HOUR_MS = 3_600_000
const newPrefix = () => `r${randomUUID().slice(0, 8)}.`
const SINKS = ['search', 'cache']

interface Told {
  readonly fields: LogFields
  readonly message: string
}

/** Records whose commit was so long ago. */
const fill = async (log: KafkaLog, agoMs: number, count: number, from: number, bytes = 10) => {
  const writer = await log.writer(testContext({ pipeline: 'kit', task: 'kit/source', epoch: from + 1 }), 0)
  const commitMs = Date.now() - agoMs
  const after = (id: number) => JSON.stringify({ id, name: 'x'.repeat(bytes) })
  const records = Array.from({ length: count }, (_, i) =>
    change(from + i, { commitMs, after: after(from + i) }),
  )
  await writer.write({ records, offset: from })
  await writer[Symbol.asyncDispose]()
}

describe.skipIf(missing !== null)(title('retention on Kafka follows the sinks (K5)'), () => {
  let cluster: KafkaCluster
  let admin: Admin
  const open: KafkaLog[] = []
  const warned: Told[] = []
  const told: Log = {
    ...silentLog,
    warn: (fields, message) => void warned.push({ fields, message }),
  }
  beforeAll(async () => {
    cluster = await startKafka({ secure: true, settings: { 'log.retention.bytes': 400_000 } })
    const { username, password } = cluster.users!.admin
    admin = new kafkajs.Kafka({
      brokers: [...cluster.bootstrap],
      ssl: { ca: [readFileSync(cluster.ca!, 'utf8')] },
      sasl: { mechanism: 'plain', username, password },
      logLevel: kafkajs.logLevel.NOTHING,
    }).admin()
    await admin.connect()
  })
  afterAll(async () => {
    await admin?.disconnect()
    await cluster?.[Symbol.asyncDispose]()
  })
  afterEach(async () => {
    for (const log of open.splice(0)) await log[Symbol.asyncDispose]()
    warned.length = 0
  })

  const own = (user: 'admin' | 'alice', over: Partial<KafkaSettings> = {}) => {
    const { username, password } = cluster.users![user]
    return settingsOf(cluster.bootstrap, newPrefix(), {
      tls: { ca: readFileSync(cluster.ca!, 'utf8'), cert: null, key: null, rejectUnauthorized: true },
      sasl: { mechanism: 'plain', username, password },
      ...over,
    })
  }
  const retentionOf = (over: Partial<Retention> = {}): Retention => ({
    hours: 1,
    consumers: SINKS.flatMap(sink => [0, 1].map(partition => `kit/${sink}/${partition}`)),
    isDetached: () => false,
    atLimit: () => false,
    ...over,
  })
  const opened = async (settings: KafkaSettings, retention: Retention | null, clock: Clock = realClock) => {
    const log = await openLog(settings, { partitions: 2, retention, clock, log: told })
    open.push(log)
    return log
  }
  const ofTopic = async (topic: string): Promise<Record<string, string>> => {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: 2, name: topic }],
    })
    const set = resources[0]!.configEntries.filter(
      one => (one as unknown as { configSource: number }).configSource === 1,
    )
    return Object.fromEntries(set.map(one => [one.configName, one.configValue]))
  }
  /** The controller answers, and a broker that is asked hears of it a moment later. */
  const becomes = (topic: string, settings: Readonly<Record<string, string>>) =>
    expect.poll(() => ofTopic(topic), { timeout: 60_000 }).toEqual(settings)
  const hoursOf = async (topic: string) => Number((await ofTopic(topic))['retention.ms']) / HOUR_MS
  const becomesHours = (topic: string, hours: number) =>
    expect.poll(() => hoursOf(topic), { timeout: 60_000 }).toBe(hours)
  /** And readers may see them: that comes a moment after the commit. */
  const fillSeen = async (...[log, ...rest]: Parameters<typeof fill>) => {
    await fill(log, ...rest)
    const written = await log.ends()
    const missing = async () => {
      const seen = await admin.fetchTopicOffsets(written[0]!.topic)
      return written.flatMap(({ partition, end }) => {
        const high = Number(seen.find(one => one.partition === partition)?.high)
        return high >= end ? [] : [{ partition, end, high }]
      })
    }
    await expect.poll(missing, { timeout: 60_000 }).toEqual([])
  }
  /** Where a sink stands is committed a moment before those who ask are told, and the next look takes it in. */
  const isSetBack = (log: KafkaLog, topic: string, settings: Readonly<Record<string, string>>) =>
    expect
      .poll(
        async () => {
          await log.retain()
          return ofTopic(topic)
        },
        { timeout: 60_000 },
      )
      .toEqual(settings)
  /** All of its tasks are at the end. */
  const catchUp = async (log: KafkaLog, sinks: readonly string[], epoch: number) => {
    const ends = await log.ends()
    for (const sink of sinks)
      for (const partition of [0, 1]) {
        const progress = log.progress(
          testContext({ pipeline: 'kit', task: `kit/${sink}/${partition}`, epoch }),
          sink,
          partition,
        )
        await progress.load()
        const next = Object.fromEntries(
          ends.filter(one => one.partition === partition).map(one => [one.topic, one.end]),
        )
        await progress.save({ log: log.id, next })
        await progress[Symbol.asyncDispose]!()
      }
  }
  const setByHand = async (topic: string, over: Record<string, string>) => {
    const entries = Object.entries({ ...(await ofTopic(topic)), ...over })
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: 2, name: topic, configEntries: entries.map(([name, value]) => ({ name, value })) }],
    })
    await becomes(topic, Object.fromEntries(entries))
  }

  it('raised by time while a sink is behind, by any number of hubs, kept over a restart, set back when it has caught up', async () => {
    const settings = own('admin', { topicConfig: { 'retention.ms': String(HOUR_MS) } })
    const topic = `${settings.topicPrefix}kit.test.kit`
    const log = await opened(settings, retentionOf())
    await log.retain()
    await fillSeen(log, 10 * 60_000, 20, 1)
    await catchUp(log, ['cache'], 1)
    await setByHand(topic, { 'max.message.bytes': '900001' })
    const before = await ofTopic(topic)
    expect(before).toMatchObject({ 'retention.ms': String(HOUR_MS), 'max.message.bytes': '900001' })
    await log.retain()
    expect(await ofTopic(topic), 'ten minutes of an hour are no reason').toEqual(before)
    // What the search has not read is 50 minutes old, by a clock that is ahead.
    const ahead: Clock = { ...realClock, nowUs: () => realClock.nowUs() + 40 * 60_000_000 }
    const hubs = await Promise.all([
      opened(settings, retentionOf(), ahead),
      opened(settings, retentionOf(), ahead),
    ])
    await Promise.all(hubs.map(hub => hub.retain()))
    await hubs[0].retain()
    const raised = { ...before, 'retention.ms': String(2 * HOUR_MS) }
    await becomes(topic, raised)
    expect(warned[0]).toMatchObject({
      fields: { pipeline: 'kit', topic, setting: 'retention.ms', from: HOUR_MS, to: 2 * HOUR_MS },
      message: expect.stringMatching(/kit\/search\/[01] has not read/),
    })
    // A day later: as often as it takes.
    const later: Clock = { ...realClock, nowUs: () => realClock.nowUs() + 24 * HOUR_MS * 1_000 }
    const restarted = await opened(settings, retentionOf(), later)
    await restarted.retain()
    await becomes(topic, { ...before, 'retention.ms': String(64 * HOUR_MS) })
    await catchUp(restarted, ['search'], 1)
    await isSetBack(await opened(settings, retentionOf(), later), topic, before)
    const count = warned.length
    await restarted.retain()
    await becomes(topic, before)
    expect(warned.length).toBe(count)
  })

  it('a sink between a quarter and a half changes nothing; detached and removed sinks, and those that lost their place, do not count', async () => {
    const settings = own('admin', { topicConfig: { 'retention.ms': String(HOUR_MS) } })
    const topic = `${settings.topicPrefix}kit.test.kit`
    const at = (minutes: number): Clock => ({
      ...realClock,
      nowUs: () => realClock.nowUs() + minutes * 60_000_000,
    })
    const is = (hours: number) => becomesHours(topic, hours)
    await fillSeen(await opened(settings, null), 0, 20, 1)
    await (await opened(settings, retentionOf({ isDetached: () => true }), at(50))).retain()
    await (await opened(settings, retentionOf({ consumers: [] }), at(50))).retain()
    await (await opened(settings, null, at(50))).retain()
    await is(1)
    await (await opened(settings, retentionOf(), at(50))).retain()
    await is(2)
    await (await opened(settings, retentionOf(), at(20))).retain()
    await is(2) // set back only when it is well within
    // Changed by hand while it was raised: that is what is declared now.
    await setByHand(topic, { 'retention.ms': String(5 * HOUR_MS) })
    await (await opened(settings, retentionOf(), at(5))).retain()
    await is(5)
    await (await opened(settings, retentionOf(), at(200))).retain()
    await is(10)
    await admin.deleteTopicRecords({
      topic,
      partitions: [0, 1].map(partition => ({ partition, offset: '-1' })),
    })
    const log = await opened(settings, retentionOf(), at(200))
    await fillSeen(log, 0, 20, 100)
    for (const partition of [0, 1])
      for (const sink of SINKS) {
        const progress = log.progress(
          testContext({ pipeline: 'kit', task: `kit/${sink}/${partition}` }),
          sink,
          partition,
        )
        await progress.load()
        await progress.save({ log: log.id, next: { [topic]: 1 } })
        await progress[Symbol.asyncDispose]!()
      }
    // What they had not read is gone: they can never go on.
    await isSetBack(log, topic, { ...(await ofTopic(topic)), 'retention.ms': String(5 * HOUR_MS) })
  })

  it('a broker that has not heard yet what was set back is not taken at its word', async () => {
    const settings = own('admin', { topicConfig: { 'retention.ms': String(HOUR_MS) } })
    const topic = `${settings.topicPrefix}kit.test.kit`
    const at = (minutes: number): Clock => ({
      ...realClock,
      nowUs: () => realClock.nowUs() + minutes * 60_000_000,
    })
    const look = async (minutes: number) => (await opened(settings, retentionOf(), at(minutes))).retain()
    const is = (hours: number) => becomesHours(topic, hours)
    await fillSeen(await opened(settings, null), 0, 20, 1)
    await look(50)
    await is(2)
    await look(5)
    await is(1)
    // What such a broker tells is what was raised; here it is so for all who ask.
    await setByHand(topic, { 'retention.ms': String(2 * HOUR_MS) })
    await look(5)
    await is(1)
    // Long after, it is somebody's will.
    await look(8)
    await setByHand(topic, { 'retention.ms': String(2 * HOUR_MS) })
    await look(8)
    await is(2)
  })

  it('raised by size, where there is one; what the topic had not of its own is taken away again', async () => {
    const settings = own('admin', { topicConfig: { 'retention.ms': '-1' } })
    const topic = `${settings.topicPrefix}kit.test.kit`
    const log = await opened(settings, retentionOf())
    await fillSeen(log, 0, 100, 1, 1_000)
    const before = await ofTopic(topic)
    expect(Object.keys(before)).not.toContain('retention.bytes')
    await log.retain()
    expect(await ofTopic(topic), '60 kB a partition of 400').toEqual(before)
    await fillSeen(log, 0, 400, 101, 1_000)
    await log.retain()
    await becomes(topic, { ...before, 'retention.bytes': '800000' })
    await catchUp(log, SINKS, 1)
    await isSetBack(log, topic, before)
  })

  it('without the right it says so once, with the line that gives it; with the ACLs of the docs it works', async () => {
    const settings = own('alice', { topicConfig: { 'retention.ms': String(HOUR_MS) } })
    const topic = `${settings.topicPrefix}kit.test.kit`
    const { principal } = cluster.users!.alice
    const acls = aclsOfDocs(principal, `${settings.topicPrefix}kit.`, 'test.')
    const alter = acls.filter(one => one.operation === kafkajs.AclOperationTypes.ALTER_CONFIGS)
    expect(alter.length).toBe(1)
    await admin.createAcls({ acl: acls.filter(one => !alter.includes(one)) })
    const log = await opened(settings, retentionOf())
    await fillSeen(log, 50 * 60_000, 20, 1)
    await log.retain()
    await log.retain()
    expect(warned).toEqual([
      {
        fields: {
          pipeline: 'kit',
          hint: `kafka-acls --bootstrap-server ${cluster.bootstrap[0]} --add --allow-principal User:alice --operation AlterConfigs --operation DescribeConfigs --topic ${settings.topicPrefix}kit. --resource-pattern-type prefixed`,
        },
        message: expect.stringContaining('AUTHORIZATION_FAILED'),
      },
    ])
    expect(await ofTopic(topic)).toMatchObject({ 'retention.ms': String(HOUR_MS) })
    await admin.createAcls({ acl: alter })
    await (await opened(settings, retentionOf())).retain()
    await expect
      .poll(() => ofTopic(topic), { timeout: 60_000 })
      .toMatchObject({ 'retention.ms': String(2 * HOUR_MS) })
  })
})

describe.skipIf(missing !== null)(title('brokers that forget what a group has committed (K3)'), () => {
  it('the offsets of a sink that has nothing to do are renewed', async () => {
    await using cluster = await startKafka({
      settings: { 'offsets.retention.minutes': 1, 'offsets.retention.check.interval.ms': 500 },
    })
    await using log = await openLog(settingsOf(cluster.bootstrap, newPrefix()))
    await fill(log, 0, 20, 1)
    const admin = new kafkajs.Kafka({
      brokers: [...cluster.bootstrap],
      logLevel: kafkajs.logLevel.NOTHING,
    }).admin()
    await admin.connect()
    const [{ topic } = { topic: '' }] = await log.ends()
    const offsetOf = async (sink: string) => {
      const [group] = await admin.fetchOffsets({ groupId: `test.kit.${sink}`, topics: [topic] })
      return group!.partitions.find(one => one.partition === 0)?.offset
    }
    const progressOf = async (sink: string, clock: Clock) => {
      const progress = log.progress(testContext({ pipeline: 'kit', task: `kit/${sink}/0`, clock }), sink, 0)
      await progress.load()
      await progress.save({ log: log.id, next: { [topic]: 3 } })
      return progress
    }
    // The hour between two renewals goes by in seconds.
    const quick: Clock = {
      ...realClock,
      sleep: (ms, signal) => realClock.sleep(ms === HOUR_MS ? 10_000 : ms, signal),
    }
    const renewed = await progressOf('renewed', quick)
    const left = await progressOf('left', realClock)
    expect([await offsetOf('renewed'), await offsetOf('left')]).toEqual(['3', '3'])
    await expect.poll(() => offsetOf('left'), { timeout: 180_000, interval: 500 }).toBe('-1')
    expect(await offsetOf('renewed')).toBe('3')
    for (const progress of [renewed, left]) await progress[Symbol.asyncDispose]!()
    await admin.disconnect()
  })
})
