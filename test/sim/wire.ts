/**
 * A worker's client of the simulated cluster, in the shapes of kafkajs that core/kafka uses, so that all of it runs as it is. On its way a
 * request may be lost, come twice, lose its answer, or wait until a partition of the network is over; each is some other time, perhaps never.
 */
import kafkajs, { type Kafka, type PartitionAssigner } from 'kafkajs'
import type { Clock } from '../../core/connector.ts'
import { type SimBroker, splitPlace } from './broker.ts'
import type { Random } from './random.ts'

export interface Wire {
  readonly broker: SimBroker
  readonly random: Random
  readonly clock: Clock
  /** Some other time, perhaps never. */
  pause(): Promise<void>
  /** Chance that a request or its answer is lost, or that it comes twice. */
  readonly failChance: number
  /** The way to the cluster is cut until this time of the monotonic clock. */
  cutUntilMs(): number
}

const away = (what: string): Error =>
  Object.assign(new Error(`simulated: ${what}`), { name: 'KafkaJSConnectionError' })

/** How long an answer is waited for. */
const PATIENCE_MS = 150

/** `isRepeated`: the network may bring it twice, as TCP does not within a connection, but a retry in between could. */
async function ask<T>(wire: Wire, what: string, act: () => T | Promise<T>, isRepeated = false): Promise<T> {
  const { random, clock, failChance } = wire
  await wire.pause()
  if (clock.monotonicMs() < wire.cutUntilMs()) {
    await clock.sleep(PATIENCE_MS)
    throw away(`${what} found no way`)
  }
  if (random.chance(failChance)) throw away(`${what} was lost`)
  const answer = await act()
  if (isRepeated && random.chance(failChance)) await Promise.resolve(act()).catch(() => {})
  await wire.pause()
  if (random.chance(failChance)) throw away(`the answer to ${what} was lost`)
  return answer
}

type Topics = { topic: string; partitions: { partition: number; offset: string; metadata: string }[] }[]
type Of = { transactionalId: string; producerId: { toString(): string }; producerEpoch: number }

function brokerOf(wire: Wire) {
  const { broker } = wire
  return {
    initProducerId: ({ transactionalId }: { transactionalId: string }) =>
      ask(wire, 'InitProducerId', () => broker.initProducerId(transactionalId)),
    addPartitionsToTxn: (of: Of & { topics: { topic: string; partitions: number[] }[] }) =>
      ask(wire, 'AddPartitionsToTxn', () =>
        broker.addPartitions(
          of,
          of.topics.flatMap(one => one.partitions.map(partition => `${one.topic}/${partition}`)),
        ),
      ),
    addOffsetsToTxn: (of: Of) => ask(wire, 'AddOffsetsToTxn', () => broker.addOffsets(of)),
    txnOffsetCommit: (of: Of & { groupId: string; topics: Topics }) =>
      ask(wire, 'TxnOffsetCommit', () =>
        broker.commitOffsets(
          of,
          of.groupId,
          new Map(
            of.topics.flatMap(({ topic, partitions }) =>
              partitions.map(one => [`${topic}/${one.partition}`, one] as const),
            ),
          ),
        ),
      ),
    endTxn: (of: Of & { transactionResult: boolean }) =>
      ask(wire, 'EndTxn', () => broker.end(of, of.transactionResult)),
    connectionPool: {
      send: ({ request }: { request: { encode(): Promise<{ buffer: Buffer }> } }) =>
        ask(
          wire,
          'Produce',
          async () => ({ topics: await broker.produce((await request.encode()).buffer) }),
          true,
        ),
    },
  }
}

function clusterOf(wire: Wire) {
  const { broker } = wire
  return {
    connect: () => ask(wire, 'connecting', () => {}),
    disconnect: async () => {},
    addMultipleTargetTopics: async (topics: readonly string[]) => {
      for (const topic of topics) if (!broker.topics.has(topic)) throw away(`no topic ${topic}`)
    },
    refreshMetadataIfNecessary: async () => {},
    findLeaderForPartitions: (_: string, partitions: number[]) => ({ 1: partitions }),
    findBroker: async () => brokerOf(wire),
    findGroupCoordinatorMetadata: () => ask(wire, 'FindCoordinator', () => ({ coordinator: { nodeId: 1 } })),
  }
}

interface WantedTopics {
  readonly topics: readonly { readonly topic: string; readonly numPartitions: number }[]
}

function adminOf(wire: Wire) {
  const { broker } = wire
  return {
    connect: async () => {},
    disconnect: async () => {},
    listTopics: () => ask(wire, 'listing topics', () => [...broker.topics.keys()]),
    createTopics: ({ topics }: WantedTopics) =>
      ask(wire, 'making topics', () => {
        for (const { topic, numPartitions } of topics)
          if (!broker.topics.has(topic))
            broker.topics.set(
              topic,
              Array.from({ length: numPartitions }, () => []),
            )
      }),
    fetchTopicOffsets: (topic: string) =>
      ask(wire, 'asking for ends', () =>
        broker.topics.get(topic)!.map((_, partition) => ({
          partition,
          low: '0',
          high: String(broker.stableEnd(topic, partition)),
        })),
      ),
    fetchOffsets: ({ groupId, topics }: { groupId: string; topics: readonly string[] }) =>
      ask(wire, 'asking for a group', () =>
        topics.map(topic => ({
          topic,
          partitions: broker.topics.get(topic)!.map((_, partition) => {
            const found = broker.groups.get(groupId)?.get(`${topic}/${partition}`)
            return { partition, offset: found?.offset ?? '-1', metadata: found?.metadata ?? null }
          }),
        })),
      ),
    describeConfigs: ({ resources }: { resources: readonly { name: string }[] }) =>
      ask(wire, 'asking for settings', () => ({
        resources: resources.map(({ name }) => ({
          resourceName: name,
          configEntries: [{ configName: 'max.message.bytes', configValue: '1000000' }],
        })),
      })),
  }
}

type Listener = (event: { payload: Record<string, unknown> }) => void
interface Running {
  eachBatch(payload: object): Promise<void>
}

const { AssignerProtocol } = kafkajs
const POLL_MS = 25
const FETCHED = 60

function consumerOf(wire: Wire, { partitionAssigners }: { partitionAssigners: PartitionAssigner[] }) {
  const { broker, clock, random } = wire
  const listeners = new Map<string, Listener[]>()
  const emit = (name: string, payload: Record<string, unknown>) => {
    for (const listener of listeners.get(name) ?? []) listener({ payload })
  }
  const next = new Map<string, number>()
  const stop = new AbortController()
  const events = {
    GROUP_JOIN: 'join',
    FETCH: 'fetch',
    END_BATCH_PROCESS: 'end',
    CRASH: 'crash',
  }
  const join = async () => {
    const assigner = partitionAssigners[0]!({} as never)
    const assigned = (await assigner.assign({
      members: [{ memberId: 'me' }],
      topics: [],
    } as never)) as unknown as {
      memberAssignment: Buffer
    }[]
    const { assignment } = AssignerProtocol.MemberAssignment.decode(assigned[0]!.memberAssignment)!
    next.clear()
    for (const [topic, partitions] of Object.entries(assignment))
      for (const partition of partitions) next.set(`${topic}/${partition}`, 0)
    emit(events.GROUP_JOIN, {})
  }
  const fetchOne = async (place: string, eachBatch: Running['eachBatch']): Promise<boolean> => {
    const [topic, partition] = splitPlace(place)
    const from = next.get(place)!
    const { messages, next: behind } = broker.read(topic, partition, from, random.int(1, FETCHED))
    emit(events.FETCH, {})
    if (behind === from) return false
    await wire.pause()
    if (next.get(place) !== from) return true // it was told to go elsewhere meanwhile
    next.set(place, behind)
    const lastOffset = String(behind - 1)
    if (messages.length === 0) emit(events.END_BATCH_PROCESS, { topic, batchSize: 0, lastOffset })
    else
      await eachBatch({
        batch: { topic, partition, fetchedOffset: String(from), messages, lastOffset: () => lastOffset },
        heartbeat: async () => {},
      })
    return true
  }
  const follow = async ({ eachBatch }: Running) => {
    while (!stop.signal.aborted) {
      try {
        let isAny = false
        for (const place of next.keys()) {
          await ask(wire, 'Fetch', () => {})
          isAny = (await fetchOne(place, eachBatch)) || isAny
          if (stop.signal.aborted) return
        }
        if (random.chance(wire.failChance)) await join() // the group was shaken: from the start, unless told otherwise
        if (!isAny) await clock.sleep(POLL_MS, stop.signal)
      } catch (error) {
        return emit(events.CRASH, { error, restart: false })
      }
    }
  }
  return {
    events,
    on(name: string, listener: Listener) {
      listeners.set(name, [...(listeners.get(name) ?? []), listener])
    },
    connect: () => ask(wire, 'connecting', () => {}),
    subscribe: async () => {},
    async run(running: Running) {
      await ask(wire, 'joining a group', () => {})
      await join()
      void follow(running)
    },
    seek({ topic, partition, offset }: { topic: string; partition: number; offset: string }) {
      next.set(`${topic}/${partition}`, Number(offset))
    },
    async disconnect() {
      stop.abort()
    },
  }
}

/** Where core/kafka/cluster.ts looks for what kafkajs keeps to itself. */
const CREATE_CLUSTER = Symbol('private:Kafka:createCluster')

export const simKafka = (wire: Wire): Kafka =>
  ({
    [CREATE_CLUSTER]: () => clusterOf(wire),
    admin: () => adminOf(wire),
    consumer: (options: { partitionAssigners: PartitionAssigner[] }) => consumerOf(wire, options),
  }) as unknown as Kafka
