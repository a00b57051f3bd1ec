/**
 * The transactional producer of one task (K1, K2): nobody else writes under its transactional.id, and whoever opens it ends what the
 * owner before had begun, and fences him. After a failure whose outcome is unknown it is of no use any more: the task opens another,
 * and learns from the log what became of it.
 *
 *   open     connect ─▶ an empty transaction (the client asks for its producer id only there) ─▶ ready
 *   run      begin ─▶ what `work` sends ─▶ commit            any failure ─▶ abort, and thrown on
 */
import type { Kafka, Message, Producer, RecordMetadata, Transaction } from 'kafkajs'
import kafkajs from 'kafkajs'
import type { Clock } from '../../connector.ts'
import { Fenced } from '../../errors.ts'
import { QUICK_RETRIES } from './client.ts'
import { kafkaError, typeOf } from './error.ts'
import type { KafkaSettings } from './settings.ts'

export interface TopicMessages {
  readonly topic: string
  /** Each names its partition. */
  readonly messages: readonly Message[]
}

export interface OpenTransaction {
  /** One request to each broker, one record batch of each partition. */
  send(batches: readonly TopicMessages[]): Promise<readonly RecordMetadata[]>
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
  const { kafka, settings, transactionalId: id } = options
  const producer = kafka.producer({
    transactionalId: id,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    transactionTimeout: settings.producer.transactionTimeoutMs,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner, // never asked: every message names its partition
    retry: QUICK_RETRIES,
  })
  try {
    await producer.connect()
    const empty = await producer.transaction()
    await empty.abort()
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

async function run(
  { transactionalId: id, compression, clock }: TransactionsOptions,
  producer: Producer,
  work: (transaction: OpenTransaction) => Promise<void>,
  before: () => void = () => {},
): Promise<void> {
  let transaction: Transaction | null = null
  try {
    transaction = await producer.transaction()
    await work(sending(transaction, compression, clock))
    before()
    await transaction.commit()
  } catch (error) {
    // Readers need not wait for its timeout; when this fails too, they do. Whatever an owner met who was fenced meanwhile, he was fenced.
    const ended = transaction?.isActive() ? await aborted(transaction, id) : null
    throw ended instanceof Fenced ? ended : kafkaError(error, `the transaction of ${id}`)
  }
}

const aborted = (transaction: Transaction, id: string): Promise<Error | null> =>
  transaction.abort().then(
    () => null,
    error => kafkaError(error, `the transaction of ${id}`),
  )

const sending = (transaction: Transaction, compression: number, clock: Clock): OpenTransaction => ({
  send: batches =>
    transaction.sendBatch({
      acks: -1,
      compression,
      topicMessages: batches.map(({ topic, messages }) => ({ topic, messages: messages as Message[] })),
    }),
  sendOffsets: (group, partition, next, metadata) =>
    patiently(clock, () =>
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
    ),
})

const ATTEMPTS = 200
const PAUSE_MS = 3

/**
 * The markers of the transaction before may still be on their way. The client asks again by itself when records are sent, not when
 * offsets are; nothing of this transaction was done yet.
 */
async function patiently(clock: Clock, work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++)
    try {
      return await work()
    } catch (error) {
      if (typeOf(error) !== 'CONCURRENT_TRANSACTIONS' || attempt === ATTEMPTS) throw error
      await clock.sleep(PAUSE_MS)
    }
}
