/**
 * A simulated cluster of Kafka: topics, transactions with fencing and markers, groups' offsets. What it does with a request is done at
 * once and wholly; what happens to a request on its way is wire.ts' business.
 *
 *   partition   data and markers in one row of offsets; consumers see what is committed, up to the first record of an open transaction
 *   producer    a transactional id has an id and an epoch, which each InitProducerId raises: an older one is refused, what it had begun
 *               is aborted. Record batches of a producer come in sequence: one that came already is answered as before, a gap is refused
 */
import { createRequire } from 'node:module'
import type { Random } from './random.ts'

const require = createRequire(import.meta.url)
const Decoder = require('kafkajs/src/protocol/decoder')
const decodeBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder')

type TransactionState = 'open' | 'committed' | 'aborted'
interface Transaction {
  state: TransactionState
  readonly places: Set<string>
  readonly offsets: Map<string, Map<string, GroupOffset>>
  readonly begunMs: number
}

export interface SimMessage {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Readonly<Record<string, Buffer>>
  readonly timestamp: string
  readonly offset: string
}

interface Entry {
  readonly offset: number
  /** null: a marker. */
  readonly message: SimMessage | null
  readonly transaction: Transaction
}

interface GroupOffset {
  readonly offset: string
  readonly metadata: string
}

interface Producer {
  readonly id: number
  epoch: number
  transaction: Transaction | null
  /** Markers of the transaction before are on their way until then. */
  endingUntilMs: number
  /** Place → next sequence, and where the last batch came to stand. */
  readonly sequences: Map<string, { next: number; last: number; base: number }>
}

export interface SimBroker {
  readonly topics: Map<string, Entry[][]>
  readonly producers: Map<string, Producer>
  /** Group → topic/partition → offset. */
  readonly groups: Map<string, Map<string, GroupOffset>>
  /** End of what a read_committed consumer may see. */
  stableEnd(topic: string, partition: number): number
  /** Committed messages from there on, and where the next fetch begins. */
  read(topic: string, partition: number, from: number, most: number): { messages: SimMessage[]; next: number }
  initProducerId(transactionalId: string): { producerId: { toString(): string }; producerEpoch: number }
  addPartitions(of: Sender, places: readonly string[]): void
  addOffsets(of: Sender): void
  commitOffsets(of: Sender, group: string, offsets: ReadonlyMap<string, GroupOffset>): void
  end(of: Sender, commits: boolean): void
  produce(
    body: Buffer,
  ): Promise<{ topicName: string; partitions: { partition: number; baseOffset: string }[] }[]>
}

export interface Sender {
  readonly transactionalId: string
  readonly producerId: { toString(): string }
  readonly producerEpoch: number
}

/** As the client throws what a broker answers. */
export function protocolError(type: string): Error {
  return Object.assign(new Error(`simulated: ${type}`), {
    name: 'KafkaJSProtocolError',
    type,
    retriable: false,
  })
}

const TRANSACTION_MS = 10_000

export function simBroker(random: Random, nowMs: () => number): SimBroker {
  const topics = new Map<string, Entry[][]>()
  const producers = new Map<string, Producer>()
  const groups = new Map<string, Map<string, GroupOffset>>()
  let ids = 0
  const partitionOf = (topic: string, partition: number): Entry[] => {
    const found = topics.get(topic)?.[partition]
    if (!found) throw protocolError('UNKNOWN_TOPIC_OR_PARTITION')
    return found
  }
  const finish = (producer: Producer, state: 'committed' | 'aborted') => {
    const { transaction } = producer
    if (!transaction) return
    transaction.state = state
    producer.transaction = null
    producer.endingUntilMs = nowMs() + (random.chance(0.3) ? random.int(1, 8) : 0)
    for (const place of transaction.places) {
      const [topic, partition] = splitPlace(place)
      const entries = topics.get(topic)?.[partition]
      // Of a partition that got nothing there is a marker all the same.
      entries?.push({ offset: entries.length, message: null, transaction })
    }
    if (state === 'committed')
      for (const [group, offsets] of transaction.offsets) {
        const held = groups.get(group) ?? new Map<string, GroupOffset>()
        groups.set(group, held)
        for (const [place, offset] of offsets) held.set(place, offset)
      }
  }
  const expire = () => {
    for (const producer of producers.values())
      if (producer.transaction && nowMs() - producer.transaction.begunMs > TRANSACTION_MS) {
        finish(producer, 'aborted')
        producer.epoch++ // as the coordinator does, so that a late owner meets it
      }
  }
  const senderOf = ({ transactionalId, producerId, producerEpoch }: Sender): Producer => {
    expire()
    const producer = producers.get(transactionalId)
    if (!producer || String(producer.id) !== producerId.toString())
      throw protocolError('INVALID_PRODUCER_ID_MAPPING')
    if (producerEpoch < producer.epoch) throw protocolError('INVALID_PRODUCER_EPOCH')
    return producer
  }
  /** A transaction that is open, or begins now. */
  const begun = (producer: Producer): Transaction => {
    if (nowMs() < producer.endingUntilMs) throw protocolError('CONCURRENT_TRANSACTIONS')
    producer.transaction ??= { state: 'open', places: new Set(), offsets: new Map(), begunMs: nowMs() }
    return producer.transaction
  }
  const stableEnd = (topic: string, partition: number): number => {
    expire()
    const entries = partitionOf(topic, partition)
    const open = entries.findIndex(one => one.transaction.state === 'open')
    return open < 0 ? entries.length : open
  }
  return {
    topics,
    producers,
    groups,
    stableEnd,
    read(topic, partition, from, most) {
      const entries = partitionOf(topic, partition)
      const end = Math.min(stableEnd(topic, partition), from + most)
      const seen = entries.slice(from, end)
      return {
        messages: seen.flatMap(({ message, transaction }) =>
          message && transaction.state === 'committed' ? [message] : [],
        ),
        next: Math.max(from, end),
      }
    },
    initProducerId(transactionalId) {
      expire()
      const producer = producers.get(transactionalId) ?? {
        id: ++ids,
        epoch: -1,
        transaction: null,
        endingUntilMs: 0,
        sequences: new Map(),
      }
      producers.set(transactionalId, producer)
      if (producer.transaction) {
        producer.epoch++ // whoever had it is fenced from here on
        finish(producer, 'aborted')
        producer.endingUntilMs = nowMs() + random.int(0, 5)
      }
      if (nowMs() < producer.endingUntilMs) throw protocolError('CONCURRENT_TRANSACTIONS')
      producer.epoch++
      producer.sequences.clear()
      return { producerId: { toString: () => String(producer.id) }, producerEpoch: producer.epoch }
    },
    addPartitions(of, places) {
      const transaction = begun(senderOf(of))
      for (const place of places) {
        partitionOf(...splitPlace(place))
        transaction.places.add(place)
      }
    },
    addOffsets: of => void begun(senderOf(of)),
    commitOffsets(of, group, offsets) {
      const { transaction } = senderOf(of)
      if (!transaction) throw protocolError('INVALID_TXN_STATE')
      const pending = transaction.offsets.get(group) ?? new Map<string, GroupOffset>()
      transaction.offsets.set(group, pending)
      for (const [place, offset] of offsets) pending.set(place, offset)
    },
    end(of, commits) {
      const producer = senderOf(of)
      if (!producer.transaction) throw protocolError('INVALID_TXN_STATE')
      finish(producer, commits ? 'committed' : 'aborted')
    },
    async produce(body) {
      const request = new Decoder(body)
      const transactionalId = request.readString() as string
      request.readInt16() // acks
      request.readInt32() // timeout
      const wanted = request.readArray((of: typeof request) => ({
        topic: of.readString() as string,
        partitions: of.readArray((one: typeof of) => ({
          partition: one.readInt32() as number,
          bytes: one.readBytes() as Buffer,
        })) as { partition: number; bytes: Buffer }[],
      })) as { topic: string; partitions: { partition: number; bytes: Buffer }[] }[]
      const decoded = await Promise.all(
        wanted.map(async ({ topic, partitions }) => ({
          topic,
          partitions: await Promise.all(
            partitions.map(async ({ partition, bytes }) => ({
              partition,
              batch: (await decodeBatch(new Decoder(bytes))) as Batch,
            })),
          ),
        })),
      )
      return decoded.map(({ topic, partitions }) => ({
        topicName: topic,
        partitions: partitions.map(({ partition, batch }) => ({
          partition,
          baseOffset: String(append(topic, partition, batch, transactionalId)),
        })),
      }))
    },
  }

  function append(topic: string, partition: number, batch: Batch, transactionalId: string): number {
    const place = `${topic}/${partition}`
    const { producerId, producerEpoch, firstSequence, records } = batch
    const producer = senderOf({ transactionalId, producerId, producerEpoch })
    const entries = partitionOf(topic, partition)
    const known = producer.sequences.get(place) ?? { next: 0, last: -1, base: -1 }
    if (firstSequence === known.last) return known.base // it came already
    if (firstSequence !== known.next) throw protocolError('OUT_OF_ORDER_SEQUENCE_NUMBER')
    const { transaction } = producer
    if (!transaction?.places.has(place)) throw protocolError('INVALID_TXN_STATE')
    const base = entries.length
    for (const { key, value, headers, timestamp } of records)
      entries.push({
        offset: entries.length,
        message: { key, value, headers, timestamp: String(timestamp), offset: String(entries.length) },
        transaction,
      })
    producer.sequences.set(place, { next: firstSequence + records.length, last: firstSequence, base })
    return base
  }
}

interface Batch {
  readonly producerId: string
  readonly producerEpoch: number
  readonly firstSequence: number
  readonly records: readonly {
    readonly key: Buffer | null
    readonly value: Buffer | null
    readonly headers: Readonly<Record<string, Buffer>>
    readonly timestamp: string
  }[]
}

export function splitPlace(place: string): [topic: string, partition: number] {
  const at = place.lastIndexOf('/')
  return [place.slice(0, at), Number(place.slice(at + 1))]
}
