/** A topic that somebody fills, as benches look at it: how far it is, what it holds, when a record arrives, and how fast it could be. */
import { randomUUID } from 'node:crypto'
import kafkajs, { type Kafka, type KafkaMessage } from 'kafkajs'
import { kafkaClient } from '../../core/kafka/client.ts'
import { openTail } from '../../core/kafka/tail.ts'
import { realClock } from '../../core/worker/clock.ts'
import { settingsOf, silentLog } from '../core/log/kafka-settings.ts'
import type { KafkaCluster } from '../servers/kafka.ts'
import { procOf, type Spent } from './report.ts'

/** Who brings a table's changes into a topic of one partition, as a process of its own. */
export interface Follower {
  readonly name: string
  readonly topic: string
  /** 0: it has none yet. */
  pid(): number
  /** Also again, after stop: it goes on where it was. Records may come before it resolves. */
  start(): Promise<void>
  stop(): Promise<void>
  /** Takes away what it left in the database. */
  remove(): Promise<void>
  /** What it wrote, a line each. */
  log(): readonly string[]
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** Knows the compression of the product's topics. */
export const clientOf = ({ bootstrap }: KafkaCluster): Kafka =>
  kafkaClient(settingsOf(bootstrap, ''), silentLog)

/** Of one topic, which need not be there yet. */
export interface Topic extends AsyncDisposable {
  /** Offset behind the last record that readers may see. */
  end(): Promise<number>
}

/** With a client of its own: one that has ever asked for a topic fails in whatever it does when that is deleted. */
export async function openTopic(kafka: Kafka, topic: string): Promise<Topic> {
  const admin = kafka.admin()
  await admin.connect()
  let isThere = false
  return {
    async end() {
      // The client tries again and again to find one that is not there.
      isThere ||= (await admin.listTopics()).includes(topic)
      return isThere ? Number((await admin.fetchTopicOffsets(topic))[0]?.high ?? 0) : 0
    },
    [Symbol.asyncDispose]: () => admin.disconnect(),
  }
}

/** What the processes had used when the topic had come so far. */
interface Mark extends Spent {
  readonly end: number
  /** From the start of the process. */
  readonly ms: number
  readonly brokerCpuSeconds: number
}

export interface Filled {
  /** Part of the records that the first look at them found. */
  readonly share: number
  readonly first: Mark
  readonly last: Mark
}

const LOOK_MS = 25
const STILL_MS = 1_500
const PATIENCE_MS = 120_000

/**
 * Starts the follower, and looks until the topic has come `records` further and stands still: transactions leave markers, which take
 * offsets as records do, so that the time is that of the last step. Whether all are there is counted afterwards.
 */
export async function filled(
  cluster: KafkaCluster,
  follower: Follower,
  topic: Topic,
  from: number,
  records: number,
): Promise<Filled> {
  const startedMs = performance.now()
  const brokerPid = cluster.brokers[0]!.pid
  const brokerBefore = procOf(brokerPid)?.cpuSeconds ?? 0
  let failure: Error | null = null
  follower.start().catch(error => {
    failure = error as Error
  })
  let first: Mark | null = null
  let last: Mark | null = null
  for (;;) {
    await pause(LOOK_MS)
    if (failure) throw failure
    const end = await topic.end()
    const ms = performance.now() - startedMs
    if (end > (last?.end ?? from)) {
      const { peakMb, cpuSeconds } = procOf(follower.pid()) ?? { peakMb: 0, cpuSeconds: 0 }
      const brokerCpuSeconds = (procOf(brokerPid)?.cpuSeconds ?? 0) - brokerBefore
      last = { end, ms, peakMb, cpuSeconds, brokerCpuSeconds }
      first ??= last
    }
    const stillMs = ms - (last?.ms ?? 0)
    if (first && last && last.end - from >= records && stillMs > STILL_MS)
      return { share: (first.end - from) / (last.end - from), first, last }
    if (stillMs > PATIENCE_MS)
      throw new Error(
        `${follower.name}: ${follower.topic} stands at ${end}:\n${follower.log().slice(-40).join('\n')}`,
      )
  }
}

/** Counts them as a reader sees them, and keeps the first. */
export async function recordsOf(
  cluster: KafkaCluster,
  topic: string,
  from: number,
  to: number,
  kept = 0,
): Promise<{ count: number; sample: readonly KafkaMessage[] }> {
  const settings = settingsOf(cluster.bootstrap, '')
  const kafka = kafkaClient(settings, silentLog)
  await using tail = await openTail({
    kafka,
    settings,
    clock: realClock,
    from: new Map([[topic, from]]),
    partition: 0,
  })
  const signal = AbortSignal.timeout(PATIENCE_MS)
  const sample: KafkaMessage[] = []
  let count = 0
  for (let next = from; next < to; ) {
    const fetched = await tail.take(signal)
    if (!fetched) throw new Error(`${topic} was read up to ${next} of ${to} only`)
    count += fetched.messages.length
    if (sample.length < kept) sample.push(...fetched.messages.slice(0, kept - sample.length))
    next = fetched.next
  }
  return { count, sample }
}

/** Tells `seen` of each record that comes from now on, as any read_committed consumer would have it. */
export async function arrivals(
  kafka: Kafka,
  topic: string,
  seen: (message: KafkaMessage, nowMs: number) => void,
): Promise<AsyncDisposable> {
  const consumer = kafka.consumer({
    groupId: `bench-${randomUUID()}`,
    readUncommitted: false,
    minBytes: 1,
    maxWaitTimeInMs: 500,
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: false })
  await consumer.run({
    autoCommit: false,
    async eachBatch({ batch: { messages } }) {
      const nowMs = performance.timeOrigin + performance.now()
      for (const message of messages) seen(message, nowMs)
    },
  })
  return { [Symbol.asyncDispose]: () => consumer.disconnect() }
}

const REQUEST_BYTES = 900_000
const IN_FLIGHT = 4

/** Records a second, and the CPU seconds of a million, of the client that the product uses, which does nothing else. */
export async function writtenBare(
  kafka: Kafka,
  topic: string,
  messages: readonly KafkaMessage[],
): Promise<{ rate: number; cpuSeconds: number }> {
  const requests: KafkaMessage[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const message of messages) {
    if (bytes > REQUEST_BYTES) {
      requests.push([])
      bytes = 0
    }
    requests.at(-1)!.push(message)
    bytes += (message.value?.length ?? 0) + (message.key?.length ?? 0) + 80 // headers, lengths
  }
  const producer = kafka.producer({
    allowAutoTopicCreation: false,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  const before = process.cpuUsage()
  const from = performance.now()
  const left = requests.values()
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      for (const request of left)
        await producer.send({
          topic,
          acks: -1,
          compression: kafkajs.CompressionTypes.LZ4,
          messages: request.map(({ key, value, headers, timestamp }) => ({
            key,
            value,
            timestamp,
            partition: 0,
            ...(headers ? { headers } : {}),
          })),
        })
    }),
  )
  const seconds = (performance.now() - from) / 1000
  const { user, system } = process.cpuUsage(before)
  await producer.disconnect()
  return { rate: messages.length / seconds, cpuSeconds: (user + system) / messages.length }
}
