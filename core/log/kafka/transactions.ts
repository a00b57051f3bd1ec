/**
 * The transactional producer of one task (K1, K2): nobody else writes under its transactional.id, and whoever opens it ends what the
 * owner before had begun, and fences him. After a failure whose outcome is unknown it is of no use any more: the task opens another,
 * and learns from the log what became of it.
 *
 *   open     connect ─▶ an empty transaction (the client asks for its producer id only there) ─▶ ready
 *   run      begin ─▶ what `work` sends ─▶ commit            any failure ─▶ abort, and thrown on; `work` is run again only when the
 *            coordinator took nothing yet
 */
import type { Kafka, Message, Producer, RecordMetadata, Transaction } from 'kafkajs'
import kafkajs from 'kafkajs'
import type { Clock } from '../../connector.ts'
import { Fenced } from '../../errors.ts'
import { NO_RETRIES } from './client.ts'
import { kafkaError, typeOf } from './error.ts'
import type { KafkaSettings } from './settings.ts'

export interface RecordBatch {
  readonly topic: string
  /** All of one partition, and each names it. */
  readonly messages: readonly Message[]
}

export interface OpenTransaction {
  /** At the same time; no two of one partition. */
  send(batches: readonly RecordBatch[]): Promise<readonly RecordMetadata[]>
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
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly transactionalId: string
  /** A number of the client's compressionType. */
  readonly compression: number
}

export async function openTransactions(options: TransactionsOptions): Promise<Transactions> {
  const { kafka, settings, clock, transactionalId: id } = options
  const producer = kafka.producer({
    transactionalId: id,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    transactionTimeout: settings.producer.transactionTimeoutMs,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner, // never asked: every message names its partition
    retry: NO_RETRIES,
  })
  try {
    await producer.connect()
    await fence(producer, clock)
  } catch (error) {
    await producer.disconnect().catch(() => {})
    throw kafkaError(error, `opening the producer ${id}`)
  }
  return {
    run: (work, before) => run(options, producer, work, before),
    // What is on its way need not be waited for: an open transaction is ended by the next owner.
    [Symbol.asyncDispose]: () => producer.disconnect().catch(() => {}),
  }
}

/** What an owner before had begun is being ended for us, or the coordinator has only just come up. */
const NOT_YET = [
  'CONCURRENT_TRANSACTIONS',
  'COORDINATOR_LOAD_IN_PROGRESS',
  'COORDINATOR_NOT_AVAILABLE',
  'GROUP_LOAD_IN_PROGRESS',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
]
const FENCE_MS = 5_000
const FENCE_PAUSE_MS = 20

async function fence(producer: Producer, clock: Clock): Promise<void> {
  const until = clock.monotonicMs() + FENCE_MS
  for (;;)
    try {
      const empty = await producer.transaction()
      return await empty.abort()
    } catch (error) {
      if (!NOT_YET.includes(typeOf(error)) || clock.monotonicMs() > until) throw error
      await clock.sleep(FENCE_PAUSE_MS)
    }
}

async function run(
  options: TransactionsOptions,
  producer: Producer,
  work: (transaction: OpenTransaction) => Promise<void>,
  before: () => void = () => {},
): Promise<void> {
  const { transactionalId: id, clock } = options
  for (let attempt = 1; ; attempt++) {
    let transaction: Transaction | null = null
    let isCommitting = false
    try {
      transaction = await producer.transaction()
      await work(sending(transaction, options))
      before()
      isCommitting = true
      await transaction.commit()
      return
    } catch (error) {
      // Readers need not wait for its timeout; when this fails too, they do. Whatever an owner met who was fenced meanwhile, he was fenced.
      const ended = transaction?.isActive() ? await aborted(transaction, id) : null
      if (ended instanceof Fenced) throw ended
      // The markers of the transaction before are still on their way, and nothing of this one was taken: no unknown outcome.
      const isEarly = typeOf(error) === 'CONCURRENT_TRANSACTIONS' && ended === null && !isCommitting
      if (!isEarly || attempt === ATTEMPTS) throw kafkaError(error, `the transaction of ${id}`)
      await clock.sleep(PAUSE_MS)
    }
  }
}

const ATTEMPTS = 500
const PAUSE_MS = 3

const aborted = (transaction: Transaction, id: string): Promise<Error | null> =>
  transaction.abort().then(
    () => null,
    error => kafkaError(error, `the transaction of ${id}`),
  )

const sending = (transaction: Transaction, { compression }: TransactionsOptions): OpenTransaction => ({
  send: batches => sendEach(transaction, compression, batches),
  sendOffsets: (group, partition, next, metadata) =>
    transaction.sendOffsets({
      consumerGroupId: group,
      topics: [...next].map(([topic, offset]) => ({
        topic,
        // The client's types leave the metadata out; the client hands it on.
        partitions: [
          { partition, offset: String(offset), metadata } as { partition: number; offset: string },
        ],
      })),
    }),
})

/**
 * Each record batch is a call of its own, and all have ended before anything else is done. One call for several brokers is not
 * safe: the client gives up at the first failure while the others are still on their way, and when it sends those again they
 * come twice, under new sequence numbers.
 */
async function sendEach(
  transaction: Transaction,
  compression: number,
  batches: readonly RecordBatch[],
): Promise<readonly RecordMetadata[]> {
  const sent = await Promise.allSettled(
    batches.map(({ topic, messages }) =>
      transaction.sendBatch({
        acks: -1,
        compression,
        topicMessages: [{ topic, messages: messages as Message[] }],
      }),
    ),
  )
  const failed = sent.find(one => one.status === 'rejected')
  if (failed) throw failed.reason
  return sent.flatMap(one => (one.status === 'fulfilled' ? one.value : []))
}
