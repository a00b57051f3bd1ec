/** The Kafka of the tests: it keeps what it acknowledged over kill -9, outlives one of three, and lets in only whom it should. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import kafkajs, { type Admin, type Kafka, type KafkaConfig } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeAuthority } from './certificates.ts'
import { homesOf, isRunning, startInChild } from './dying-parent.ts'
import { type KafkaCluster, type KafkaUser, missingForKafka, startKafka } from './kafka.ts'
import { eventually } from './process.ts'

// The first start brings the broker: a minute, and more on a busy machine.
const FIRST_START_MS = 600_000

const clientOf = (cluster: KafkaCluster, config: Partial<KafkaConfig> = {}): Kafka =>
  new kafkajs.Kafka({ brokers: [...cluster.bootstrap], logLevel: kafkajs.logLevel.NOTHING, ...config })

async function asAdmin<T>(client: Kafka, act: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = client.admin()
  try {
    await admin.connect()
    return await act(admin)
  } finally {
    await admin.disconnect()
  }
}

const makeTopic = (client: Kafka, topic: string) =>
  asAdmin(client, admin => admin.createTopics({ waitForLeaders: true, topics: [{ topic }] }))

const partitionOf = async (client: Kafka, topic: string) =>
  (await asAdmin(client, admin => admin.fetchTopicMetadata({ topics: [topic] }))).topics[0]!.partitions[0]!

async function send(client: Kafka, topic: string, values: readonly string[]): Promise<void> {
  const producer = client.producer()
  try {
    await producer.connect()
    await producer.send({ topic, messages: values.map(value => ({ value })) })
  } finally {
    await producer.disconnect()
  }
}

async function read(client: Kafka, topic: string, count: number): Promise<string[]> {
  const consumer = client.consumer({ groupId: randomUUID(), maxWaitTimeInMs: 100 })
  const values: string[] = []
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise<void>((done, fail) => {
      consumer.on('consumer.crash', ({ payload }) => payload.restart || fail(payload.error))
      const eachMessage = async ({ message }: { message: { value: Buffer | null } }) => {
        values.push(String(message.value))
        if (values.length === count) done()
      }
      consumer.run({ eachMessage }).catch(fail)
    })
  } finally {
    await consumer.disconnect()
  }
  return values
}

const numbered = (prefix: string): string[] => Array.from({ length: 10 }, (_, i) => `${prefix}${i}`)

const missing = missingForKafka()
describe.skipIf(missing !== null)(missing ?? 'one broker', () => {
  let cluster: KafkaCluster
  beforeAll(async () => {
    cluster = await startKafka({ settings: { 'message.max.bytes': 200_000 } })
  }, FIRST_START_MS)
  afterAll(() => cluster?.[Symbol.asyncDispose]())

  it('keeps ten records over kill -9, and is silent while frozen', async () => {
    const [broker] = cluster.brokers
    expect(cluster.bootstrap).toEqual([broker!.url])
    await makeTopic(clientOf(cluster), 'ten')
    await send(clientOf(cluster), 'ten', numbered('a'))
    const { pid } = broker!
    await broker!.kill9()
    expect(isRunning(pid)).toBe(false)
    const impatient = clientOf(cluster, { retry: { retries: 0 } })
    await expect(partitionOf(impatient, 'ten')).rejects.toThrow('ECONNREFUSED')
    await broker!.start()
    expect(broker!.pid).not.toBe(pid)
    expect(await read(clientOf(cluster), 'ten', 10)).toEqual(numbered('a'))

    broker!.freeze()
    const asked = asAdmin(clientOf(cluster), admin => admin.fetchTopicOffsets('ten'))
    expect(await Promise.race([asked, sleep(1_000, 'silence')])).toBe('silence')
    broker!.thaw()
    expect(await asked).toMatchObject([{ low: '0', high: '10' }])
  })

  it('stops, even when frozen, and starts again', async () => {
    const [broker] = cluster.brokers
    broker!.freeze()
    await broker!.stop()
    await broker!.stop()
    await broker!.start()
    await expect(broker!.start()).rejects.toThrow('it runs already')
    await send(clientOf(cluster), 'ten', numbered('b'))
    expect(await read(clientOf(cluster), 'ten', 20)).toEqual([...numbered('a'), ...numbered('b')])
  })

  it('is as it is told to be, and makes no topic by itself', async () => {
    await expect(send(clientOf(cluster), 'ten', ['c'.repeat(300_000)])).rejects.toMatchObject({
      type: 'MESSAGE_TOO_LARGE',
    })
    const impatient = clientOf(cluster, { retry: { retries: 0 } })
    await expect(send(impatient, 'other', ['a'])).rejects.toThrow('does not host this topic-partition')
  })
})

describe.skipIf(missing !== null)(missing ?? 'three brokers', () => {
  it('go on without one of them, and keep all that was acknowledged', {
    timeout: FIRST_START_MS,
  }, async () => {
    await using cluster = await startKafka({ brokers: 3 })
    const client = clientOf(cluster)
    const { brokers } = await asAdmin(client, admin => admin.describeCluster())
    expect(brokers.map(one => `${one.host}:${one.port}`).sort()).toEqual([...cluster.bootstrap].sort())
    await makeTopic(client, 'ten')
    const partition = await partitionOf(client, 'ten')
    expect([...partition.replicas].sort()).toEqual([1, 2, 3])
    await send(client, 'ten', numbered('a'))

    const leader = cluster.brokers.find(one => one.id === partition.leader)!
    await leader.kill9()
    await eventually('another leads', async () => {
      const { leader: next } = await partitionOf(client, 'ten')
      return next > 0 && next !== leader.id
    })
    await send(client, 'ten', numbered('b'))
    expect(await read(client, 'ten', 20)).toEqual([...numbered('a'), ...numbered('b')])

    await leader.start()
    await eventually(
      'it is in step',
      async () => (await partitionOf(client, 'ten')).isr.length === cluster.brokers.length,
    )
    await Promise.all(cluster.brokers.map(one => one.kill9()))
    await Promise.all(cluster.brokers.map(one => one.start()))
    expect(await read(client, 'ten', 20)).toEqual([...numbered('a'), ...numbered('b')])
  })
})

const missingSecure = missingForKafka({ secure: true })
describe.skipIf(missingSecure !== null)(missingSecure ?? 'a secure broker', () => {
  const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs
  let cluster: KafkaCluster
  let ssl: { ca: string }
  beforeAll(async () => {
    cluster = await startKafka({ secure: true })
    ssl = { ca: readFileSync(cluster.ca!, 'utf8') }
    await makeTopic(login(cluster.users!.admin), 'secret')
  }, FIRST_START_MS)
  afterAll(() => cluster?.[Symbol.asyncDispose]())

  const MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const
  type Mechanism = (typeof MECHANISMS)[number]
  const login = ({ username, password }: KafkaUser, mechanism: Mechanism = 'scram-sha-512') =>
    clientOf(cluster, {
      ssl,
      sasl: { mechanism, username, password } as NonNullable<KafkaConfig['sasl']>,
    })
  const allow = (principal: string) =>
    asAdmin(login(cluster.users!.admin), admin =>
      admin.createAcls({
        acl: [AclOperationTypes.DESCRIBE, AclOperationTypes.WRITE].map(operation => ({
          resourceType: AclResourceTypes.TOPIC,
          resourceName: 'secret',
          resourcePatternType: ResourcePatternTypes.LITERAL,
          principal,
          host: '*',
          operation,
          permissionType: AclPermissionTypes.ALLOW,
        })),
      }),
    )
  const unauthorized = /topic authorization failed/i

  it('lets users in by three mechanisms, and write when they are allowed to', async () => {
    const { alice } = cluster.users!
    for (const mechanism of MECHANISMS) {
      await expect(send(login(alice, mechanism), 'secret', ['a'])).rejects.toThrow(unauthorized)
      const wrong = { ...alice, password: 'wrong' }
      await expect(send(login(wrong, mechanism), 'secret', ['a'])).rejects.toThrow(/authentication/i)
    }
    await allow(alice.principal)
    for (const mechanism of MECHANISMS)
      await eventually(`${mechanism} may`, () =>
        send(login(alice, mechanism), 'secret', ['a']).then(() => true),
      )
  })

  it('wants TLS of its own authority', async () => {
    const { username, password } = cluster.users!.admin
    const sasl = { mechanism: 'plain', username, password } as const
    const retry = { retries: 1 }
    await expect(partitionOf(clientOf(cluster, { sasl, retry }), 'secret')).rejects.toThrow()
    await expect(partitionOf(clientOf(cluster, { sasl, retry, ssl: true }), 'secret')).rejects.toThrow(
      /certificate/,
    )
  })

  it('takes a certificate for a login where it wants one', async () => {
    const { cert, key, principal, bootstrap } = cluster.clientCertificate!
    const shows = (own: { cert: string; key: string } | null) =>
      clientOf(cluster, {
        brokers: [...bootstrap],
        ssl: own ? { ...ssl, cert: readFileSync(own.cert), key: readFileSync(own.key) } : ssl,
        retry: { retries: 1 },
      })
    await expect(send(shows({ cert, key }), 'secret', ['a'])).rejects.toThrow(unauthorized)
    await allow(principal)
    await eventually('bob may', () => send(shows({ cert, key }), 'secret', ['a']).then(() => true))
    await expect(send(shows(null), 'secret', ['a'])).rejects.toThrow()
    const stranger = makeAuthority(join(dirname(cluster.ca!), 'strangers')).issue('bob')
    await expect(send(shows(stranger), 'secret', ['a'])).rejects.toThrow()
  })

  it('keeps users and what they may over kill -9', async () => {
    await cluster.brokers[0]!.kill9()
    await cluster.brokers[0]!.start()
    for (const mechanism of MECHANISMS) await send(login(cluster.users!.alice, mechanism), 'secret', ['a'])
  })
})

describe.skipIf(missingSecure !== null)(missingSecure ?? 'three secure brokers', () => {
  it('know the same users', { timeout: FIRST_START_MS }, async () => {
    await using cluster = await startKafka({ brokers: 3, secure: true })
    const { username, password } = cluster.users!.admin
    for (const one of cluster.bootstrap) {
      const ssl = { ca: readFileSync(cluster.ca!, 'utf8') }
      const sasl = { mechanism: 'scram-sha-256', username, password } as const
      const client = clientOf(cluster, { brokers: [one], ssl, sasl })
      expect((await asAdmin(client, admin => admin.describeCluster())).brokers).toHaveLength(3)
    }
  })
})

describe.skipIf(missing !== null)(missing ?? 'in the end', () => {
  it('leaves nothing', async () => {
    const cluster = await startKafka()
    const { pid } = cluster.brokers[0]!
    expect(homesOf(process.pid)).toHaveLength(1)
    await cluster[Symbol.asyncDispose]()
    expect([isRunning(pid), homesOf(process.pid)]).toEqual([false, []])
  })

  it('leaves no broker of a test that was killed, even of a frozen one', async () => {
    const parent = await startInChild(
      'kafka',
      'servers.startKafka().then(({ brokers }) => brokers.map(one => one.pid))',
    )
    const [pid] = parent.serverPids
    expect(isRunning(pid!)).toBe(true)
    process.kill(pid!, 'SIGSTOP')
    await parent.kill9()
    await eventually('it is gone', async () => !isRunning(pid!))
    expect(homesOf(parent.pid)).toHaveLength(1)
    await using _next = await startKafka()
    expect(homesOf(parent.pid)).toEqual([])
  })

  it('says why it did not start', async () => {
    const starting = startKafka({ settings: { 'num.io.threads': 'many' } })
    await expect(starting).rejects.toThrow(/did not start:.*Invalid value many.*num.io.threads/s)
    expect(homesOf(process.pid)).toEqual([])
  })
})
