/**
 * Follows partitions of topics from given offsets, as a queue to be taken from (K4): a consumer in a private group with a random name,
 * whose assigner returns exactly these partitions, without commits. What the client says of its own health is not believed: no fetch
 * that ended for a while fails the tail, and whoever holds it makes another.
 *
 *   fetched at      below what is due: what was seen already is cut; a client that had to join its group again begins at the start
 *   what is due     taken on; the transaction's own markers count as read
 *   above           the client found the offset out of range and began elsewhere: `offset_lost`, no reader ever jumps (V5)
 */
import { randomUUID } from 'node:crypto'
import type { Consumer, EachBatchPayload, Kafka, KafkaMessage, PartitionAssigner } from 'kafkajs'
import kafkajs from 'kafkajs'
import type { Clock } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import { lostPosition } from '../log/log.ts'
import { kafkaError, NO_COORDINATOR, typeOf } from './error.ts'
import type { ClusterSettings } from './settings.ts'

const { AssignerProtocol } = kafkajs

export interface TailOptions {
  readonly kafka: Kafka
  readonly settings: ClusterSettings
  readonly clock: Clock
  /** Next offset by topic of one partition. Not empty. */
  readonly from: ReadonlyMap<string, number>
  readonly partition: number
}

/** What one fetch brought of one topic. */
export interface Fetched {
  readonly topic: string
  readonly messages: readonly KafkaMessage[]
  /** Offset behind it, markers included. */
  readonly next: number
  readonly bytes: number
}

export interface Tail extends AsyncDisposable {
  /** The oldest that was not taken; waits for one. null: the signal aborted. Throws what ended the tail. */
  take(signal: AbortSignal): Promise<Fetched | null>
  /** Something is there to be taken at once. */
  isReady(): boolean
}

/** A batch as the client has it; its types keep these to themselves. */
interface ClientBatch {
  readonly topic: string
  readonly fetchedOffset: string | number
  readonly messages: readonly KafkaMessage[]
}

/** What waits to be taken: at most about twice this. */
const QUEUE_BYTES = 4 << 20
const HEARTBEAT_MS = 3_000
const SESSION_MS = 30_000
const STALL_MS = 45_000

interface State {
  readonly options: TailOptions
  readonly due: Map<string, number>
  readonly queue: Fetched[]
  readonly consumer: Consumer
  bytes: number
  failure: Error | null
  isOver: boolean
  /** Its group, once at least. */
  hasJoined: boolean
  /** Waits for something to take; waits for room. */
  wake: () => void
  drained: () => void
  /** The client was waiting for us, or a fetch of it ended. */
  aliveMs: number
}

export async function openTail(options: TailOptions): Promise<Tail> {
  const { kafka, settings, clock, from, partition } = options
  const { consumer: wanted, hub } = settings
  const topics = [...from.keys()]
  const consumer = kafka.consumer({
    groupId: `${hub}.private.${randomUUID()}`,
    partitionAssigners: [exactly(topics, partition)],
    readUncommitted: false,
    allowAutoTopicCreation: false,
    sessionTimeout: SESSION_MS,
    heartbeatInterval: HEARTBEAT_MS,
    rebalanceTimeout: wanted.maxPollIntervalMs,
    maxWaitTimeInMs: wanted.fetchMaxWaitMs,
    maxBytes: wanted.fetchMaxBytes,
    maxBytesPerPartition: wanted.maxPartitionFetchBytes,
    retry: {
      // Whoever holds the tail makes another; two who mend are one too many. But the first group of a cluster waits until the topic
      // of groups is made, on a slow machine for longer than the client has patience.
      restartOnFailure: async error => !state.hasJoined && NO_COORDINATOR.includes(typeOf(error)),
      retries: 4,
      initialRetryTime: 100,
      maxRetryTime: 1_000,
    },
  })
  const state: State = {
    options,
    due: new Map(from),
    queue: [],
    consumer,
    bytes: 0,
    failure: null,
    isOver: false,
    hasJoined: false,
    wake: () => {},
    drained: () => {},
    aliveMs: clock.monotonicMs(),
  }
  listen(state)
  try {
    await consumer.connect()
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: payload => received(state, payload),
    })
  } catch (error) {
    await close(state)
    throw kafkaError(error, `reading ${topics.join(', ')}`)
  }
  return {
    take: signal => take(state, signal),
    isReady: () => state.queue.length > 0,
    [Symbol.asyncDispose]: () => close(state),
  }
}

function exactly(topics: readonly string[], partition: number): PartitionAssigner {
  const assignment = Object.fromEntries(topics.map(topic => [topic, [partition]]))
  const name = 'MillraceExactly'
  return () => ({
    name,
    version: 1,
    async assign({ members }) {
      return members.map(({ memberId }) => ({
        memberId,
        memberAssignment: AssignerProtocol.MemberAssignment.encode({
          version: 1,
          assignment,
          userData: Buffer.alloc(0),
        }),
      }))
    },
    protocol: ({ topics: subscribed }) => ({
      name,
      metadata: AssignerProtocol.MemberMetadata.encode({
        version: 1,
        topics: subscribed,
        userData: Buffer.alloc(0),
      }),
    }),
  })
}

function listen(state: State): void {
  const { consumer, due, options } = state
  const { partition, clock } = options
  const alive = () => {
    state.aliveMs = clock.monotonicMs()
  }
  // Also after it had to join again: it would begin at the start.
  consumer.on(consumer.events.GROUP_JOIN, () => {
    state.hasJoined = true
    alive()
    for (const [topic, offset] of due) consumer.seek({ topic, partition, offset: String(offset) })
  })
  consumer.on(consumer.events.FETCH, alive)
  // A fetch of nothing but markers, or of aborted records, comes by here only.
  consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
    alive()
    if (payload.batchSize === 0) push(state, payload.topic, [], Number(payload.lastOffset) + 1, 0)
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || fail(state, payload.error))
}

function fail(state: State, error: unknown): void {
  state.failure ??= kafkaError(error, `reading ${[...state.due.keys()].join(', ')}`)
  state.wake()
  state.drained()
}

function push(
  state: State,
  topic: string,
  messages: readonly KafkaMessage[],
  next: number,
  bytes: number,
): void {
  if (next <= (state.due.get(topic) ?? 0)) return
  state.due.set(topic, next)
  state.queue.push({ topic, messages, next, bytes })
  state.bytes += bytes
  state.wake()
}

/** What of a fetch was not seen yet; null: it begins beyond what is due. A client that joined its group again may bring old ones. */
export function freshOf<M extends { readonly offset: string }>(
  messages: readonly M[],
  fetchedAt: number,
  due: number,
): readonly M[] | null {
  if (fetchedAt > due) return null
  return fetchedAt === due ? messages : messages.filter(one => Number(one.offset) >= due)
}

async function received(state: State, { batch, heartbeat }: EachBatchPayload): Promise<void> {
  const { topic, fetchedOffset, messages } = batch as unknown as ClientBatch
  const { partition, clock } = state.options
  const due = state.due.get(topic) ?? 0
  const fresh = freshOf(messages, Number(fetchedOffset), due)
  if (!fresh) {
    fail(
      state,
      lostPosition(
        `${topic}/${partition} was to be read from ${due}, which the cluster does not hold; it offers ${fetchedOffset}`,
      ),
    )
    return
  }
  let bytes = 0
  for (const { key, value } of fresh) bytes += (key?.length ?? 0) + (value?.length ?? 0)
  push(state, topic, fresh, Number(batch.lastOffset()) + 1, bytes)
  while (state.bytes > QUEUE_BYTES && !state.isOver && !state.failure) {
    const room = new AbortController()
    state.drained = () => room.abort(ENOUGH)
    await clock.sleep(HEARTBEAT_MS, room.signal)
    await heartbeat() // a sink that is away may keep us here for hours: the group must not think us dead
    state.aliveMs = clock.monotonicMs()
  }
}

/** Why a sleep ends before its time: without a reason each would make an error with its stack. */
const ENOUGH = 'enough'

async function take(state: State, signal: AbortSignal): Promise<Fetched | null> {
  const { clock, from } = state.options
  const wake = () => state.wake()
  signal.addEventListener('abort', wake)
  try {
    for (;;) {
      if (signal.aborted) return null
      if (state.failure) throw state.failure
      const fetched = state.queue.shift()
      if (fetched) {
        state.bytes -= fetched.bytes
        if (state.bytes <= QUEUE_BYTES) state.drained()
        return fetched
      }
      const idleMs = clock.monotonicMs() - state.aliveMs
      if (idleMs > STALL_MS)
        throw new ConnectorError(
          'unavailable',
          `Kafka: no fetch of ${[...from.keys()].join(', ')} has ended for ${Math.round(idleMs / 1000)} s; the client is made anew`,
        )
      await waited(state, STALL_MS - idleMs + 100)
    }
  } finally {
    signal.removeEventListener('abort', wake)
  }
}

async function waited(state: State, ms: number): Promise<void> {
  const woken = new AbortController()
  state.wake = () => woken.abort(ENOUGH)
  if (state.queue.length > 0 || state.failure) return
  await state.options.clock.sleep(ms, woken.signal)
}

async function close(state: State): Promise<void> {
  if (state.isOver) return
  state.isOver = true
  state.drained()
  await state.consumer.disconnect().catch(() => {}) // it may be the connection whose loss brought us here
}
