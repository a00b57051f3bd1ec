/**
 * The transactional producer of one task (K1, K2): nobody else writes under its transactional.id, and whoever opens it ends what the
 * owner before had begun, and fences him. Ours, on the connections of kafkajs: its own producer spends ten times the CPU on a record
 * (record-batch.ts), asks who the coordinator is before each step, and meets CONCURRENT_TRANSACTIONS when half of a transaction is sent.
 *
 *   open     InitProducerId: the owner before is fenced, what he had begun is aborted ─▶ ready
 *   run      what `work` sends ─▶ EndTxn(commit)        any failure ─▶ EndTxn(abort), and the producer is dead: whoever has it opens another,
 *                                                        and learns from the log what became of the transaction
 *   send     AddPartitionsToTxn for those that are new ─▶ one Produce after another to each leader, not waiting between them; but the
 *            first to a new partition is waited for, and sent again while nobody leads it yet
 */
import type { Kafka } from 'kafkajs'
import type { Clock } from '../connector.ts'
import { ConnectorError, Fenced } from '../errors.ts'
import {
  type Broker,
  type Cluster,
  COORDINATOR,
  clusterOf,
  type Placed,
  type ProducerId,
  produce,
} from './cluster.ts'
import { kafkaError, NO_COORDINATOR, typeOf } from './error.ts'
import { produceBody, type RecordBatch, sealed } from './record-batch.ts'
import type { ClusterSettings } from './settings.ts'

export interface OpenTransaction {
  /** In this order within a partition. Where they came to stand, in no order. All requests have ended when it settles. */
  send(batches: readonly RecordBatch[]): Promise<readonly Placed[]>
  /** A group's offsets move with the transaction (K3). `metadata`: stands beside each. */
  sendOffsets(
    group: string,
    partition: number,
    next: ReadonlyMap<string, number>,
    metadata: string,
  ): Promise<void>
}

export interface Transactions extends AsyncDisposable {
  /** Committed when it resolves. `before`: called right before the commit; what it throws aborts it. */
  run(work: (transaction: OpenTransaction) => Promise<void>, before?: () => void): Promise<void>
}

export interface TransactionsOptions {
  readonly kafka: Kafka
  readonly settings: ClusterSettings
  readonly clock: Clock
  readonly transactionalId: string
}

interface State extends TransactionsOptions {
  readonly cluster: Cluster
  /** Node of the transactions' coordinator. */
  readonly coordinator: number
  readonly id: ProducerId
  /** Topic/partition → sequence number of its next record. */
  readonly sequences: Map<string, number>
  /** Nothing can be asked of it any more. */
  isDead: boolean
}

/** Topic/partition and groups that take part in the transaction under way. */
interface Taking {
  readonly places: Set<string>
  readonly groups: Set<string>
}

export async function openTransactions(options: TransactionsOptions): Promise<Transactions> {
  const { kafka, transactionalId } = options
  const cluster = clusterOf(kafka)
  try {
    await cluster.connect()
    const state: State = {
      ...options,
      cluster,
      ...(await fence(cluster, options)),
      sequences: new Map(),
      isDead: false,
    }
    return {
      run: (work, before) => run(state, work, before),
      // What is on its way need not be waited for: an open transaction is ended by the next owner.
      [Symbol.asyncDispose]: () => cluster.disconnect().catch(() => {}),
    }
  } catch (error) {
    await cluster.disconnect().catch(() => {})
    throw kafkaError(error, `opening the producer ${transactionalId}`)
  }
}

/** What an owner before had begun is being ended for us, or the coordinator has only just come up. */
const NOT_YET = [
  'CONCURRENT_TRANSACTIONS',
  'COORDINATOR_LOAD_IN_PROGRESS',
  'COORDINATOR_NOT_AVAILABLE',
  ...NO_COORDINATOR,
]
const FENCE_MS = 5_000
const FENCE_PAUSE_MS = 20

async function fence(
  cluster: Cluster,
  { clock, settings, transactionalId }: TransactionsOptions,
): Promise<{ id: ProducerId; coordinator: number }> {
  const until = clock.monotonicMs() + FENCE_MS
  for (;;)
    try {
      await cluster.refreshMetadataIfNecessary() // without it the client knows no brokers yet
      const coordinator = await coordinatorOf(cluster, transactionalId, COORDINATOR.transaction)
      const broker = await cluster.findBroker({ nodeId: coordinator })
      const transactionTimeout = settings.producer.transactionTimeoutMs
      return { id: await broker.initProducerId({ transactionalId, transactionTimeout }), coordinator }
    } catch (error) {
      if (!NOT_YET.includes(typeOf(error)) || clock.monotonicMs() > until) throw error
      await clock.sleep(FENCE_PAUSE_MS)
    }
}

async function coordinatorOf(cluster: Cluster, groupId: string, coordinatorType: number): Promise<number> {
  return (await cluster.findGroupCoordinatorMetadata({ groupId, coordinatorType })).coordinator.nodeId
}

async function run(
  state: State,
  work: (transaction: OpenTransaction) => Promise<void>,
  before: () => void = () => {},
): Promise<void> {
  const { transactionalId } = state
  const what = `the transaction of ${transactionalId}`
  if (state.isDead)
    throw new ConnectorError(
      'unavailable',
      `Kafka: ${what}: the one before failed, and its producer is to be opened anew`,
    )
  const taking: Taking = { places: new Set(), groups: new Set() }
  try {
    await work({
      send: batches => send(state, taking, batches),
      sendOffsets: (group, partition, next, metadata) =>
        sendOffsets(state, taking, group, partition, next, metadata),
    })
    before()
    await end(state, taking, true)
  } catch (error) {
    state.isDead = true
    // Readers need not wait for its timeout; when this fails too, they do. Whatever an owner met who was fenced meanwhile, he was fenced.
    const ended = await end(state, taking, false).then(
      () => null,
      failure => kafkaError(failure, what),
    )
    throw ended instanceof Fenced ? ended : kafkaError(error, what)
  }
}

const coordinatorBroker = ({ cluster, coordinator }: State): Promise<Broker> =>
  cluster.findBroker({ nodeId: coordinator })

async function end(state: State, { places, groups }: Taking, transactionResult: boolean): Promise<void> {
  if (places.size === 0 && groups.size === 0) return
  const broker = await coordinatorBroker(state)
  await broker.endTxn({ ...state.id, transactionalId: state.transactionalId, transactionResult })
}

/** What a broker refuses for a moment only, and how long it is asked again. */
interface Passing {
  readonly types: readonly string[]
  readonly attempts: number
  pauseMs(attempt: number): number
}

async function askAgain<T>({ clock }: State, passing: Passing, ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++)
    try {
      return await ask()
    } catch (error) {
      if (!passing.types.includes(typeOf(error)) || attempt === passing.attempts) throw error
      await clock.sleep(passing.pauseMs(attempt))
    }
}

/** The markers of the transaction before may be on their way; or the coordinator has not heard yet of a topic that was just made. */
const NOT_BEGUN_YET: Passing = {
  types: ['CONCURRENT_TRANSACTIONS', 'UNKNOWN_TOPIC_OR_PARTITION'],
  attempts: 500,
  pauseMs: () => 2,
}

/** The first thing that a transaction asks for: when it is refused, nothing was taken yet. */
const begin = (state: State, ask: (broker: Broker) => Promise<unknown>): Promise<unknown> =>
  askAgain(state, NOT_BEGUN_YET, async () => ask(await coordinatorBroker(state)))

async function send(
  state: State,
  taking: Taking,
  batches: readonly RecordBatch[],
): Promise<readonly Placed[]> {
  const { cluster, id, transactionalId } = state
  await cluster.addMultipleTargetTopics([...new Set(batches.map(({ topic }) => topic))])
  await cluster.refreshMetadataIfNecessary()
  const fresh = new Map<string, number[]>()
  for (const { topic, partition } of batches) {
    if (taking.places.has(`${topic}/${partition}`)) continue
    taking.places.add(`${topic}/${partition}`)
    fresh.set(topic, [...(fresh.get(topic) ?? []), partition])
  }
  const topics = [...fresh].map(([topic, partitions]) => ({ topic, partitions }))
  if (topics.length > 0)
    await begin(state, broker => broker.addPartitionsToTxn({ ...id, transactionalId, topics }))
  const sent = await Promise.allSettled(
    [...leadersOf(cluster, batches)].map(([node, own]) => sendTo(state, node, own)),
  )
  return allOf(sent)
}

/** A request after another, none waiting for the answer of the one before: a broker takes those of a connection in their order. */
async function sendTo(state: State, nodeId: string, batches: readonly RecordBatch[]): Promise<Placed[]> {
  const broker = await state.cluster.findBroker({ nodeId })
  const rounds = roundsOf(batches)
  const isNew = rounds[0]!.some(({ topic, partition }) => !state.sequences.has(`${topic}/${partition}`))
  const requests = rounds.map(round => ({ round, body: bodyOf(state, round) }))
  const ask = async ({ round, body }: (typeof requests)[number]) =>
    (await produce(broker, body)).map(placed => ({ ...placed, count: countAt(round, placed) }))
  // The first batches of a partition go alone: were they refused and those behind them taken, sending them again would turn the order.
  const ahead = isNew ? await askAgain(state, NOT_LED_YET, () => ask(requests[0]!)) : []
  const behind = isNew ? requests.slice(1) : requests
  return [...ahead, ...allOf(await Promise.allSettled(behind.map(ask)))]
}

/**
 * Right after a topic was made, the broker that is to lead a partition may not have heard of it. Of a request that is sent again, what
 * was taken the first time is not taken twice: the sequence numbers are the same (KIP-98).
 */
const NOT_LED_YET: Passing = {
  types: ['NOT_LEADER_FOR_PARTITION', 'UNKNOWN_TOPIC_OR_PARTITION'],
  attempts: 10,
  pauseMs: attempt => attempt * 50,
}

const countAt = (round: readonly RecordBatch[], { topic, partition }: Omit<Placed, 'count'>): number =>
  round.find(one => one.topic === topic && one.partition === partition)?.count ?? 0

function allOf<T>(settled: readonly PromiseSettledResult<readonly T[]>[]): T[] {
  const failed = settled.find(one => one.status === 'rejected')
  if (failed) throw failed.reason
  return settled.flatMap(one => (one.status === 'fulfilled' ? one.value : []))
}

function leadersOf(cluster: Cluster, batches: readonly RecordBatch[]): Map<string, RecordBatch[]> {
  const byLeader = new Map<string, RecordBatch[]>()
  for (const batch of batches) {
    const [node] = Object.keys(cluster.findLeaderForPartitions(batch.topic, [batch.partition]))
    if (node === undefined)
      throw new ConnectorError(
        'unavailable',
        `Kafka: nobody knows a leader of ${batch.topic}/${batch.partition}`,
      )
    byLeader.set(node, [...(byLeader.get(node) ?? []), batch])
  }
  return byLeader
}

/** A request takes one batch of a partition: the first of each, then the second of each… */
function roundsOf(batches: readonly RecordBatch[]): RecordBatch[][] {
  const rounds: RecordBatch[][] = []
  const counts = new Map<string, number>()
  for (const batch of batches) {
    const place = `${batch.topic}/${batch.partition}`
    const round = counts.get(place) ?? 0
    counts.set(place, round + 1)
    rounds[round] = [...(rounds[round] ?? []), batch]
  }
  return rounds
}

/** Sequence numbers go on with each batch, by KIP-98 from 0 again behind the highest number of 31 bits. */
function bodyOf({ sequences, id, transactionalId, settings }: State, round: readonly RecordBatch[]): Buffer {
  const producerId = BigInt(id.producerId.toString())
  for (const batch of round) {
    const place = `${batch.topic}/${batch.partition}`
    const sequence = sequences.get(place) ?? 0
    sealed(batch, { producerId, epoch: id.producerEpoch, sequence })
    sequences.set(place, (sequence + batch.count) % 2 ** 31)
  }
  return produceBody(transactionalId, settings.producer.requestTimeoutMs, round)
}

/** The group's coordinator has only just come up. Saying it again in the same transaction is the same. */
const NO_GROUP_YET: Passing = {
  types: [...NOT_YET, 'UNKNOWN_TOPIC_OR_PARTITION'],
  attempts: 5,
  pauseMs: attempt => attempt * 100,
}

async function sendOffsets(
  state: State,
  taking: Taking,
  groupId: string,
  partition: number,
  next: ReadonlyMap<string, number>,
  metadata: string,
): Promise<void> {
  const { id, transactionalId, cluster } = state
  if (!taking.groups.has(groupId)) {
    taking.groups.add(groupId)
    await begin(state, broker => broker.addOffsetsToTxn({ ...id, transactionalId, groupId }))
  }
  const topics = [...next].map(([topic, offset]) => ({
    topic,
    partitions: [{ partition, offset: String(offset), metadata }],
  }))
  await askAgain(state, NO_GROUP_YET, async () => {
    const nodeId = await coordinatorOf(cluster, groupId, COORDINATOR.group)
    const broker = await cluster.findBroker({ nodeId })
    await broker.txnOffsetCommit({ ...id, transactionalId, groupId, topics })
  })
}
