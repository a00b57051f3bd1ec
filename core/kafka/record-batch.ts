/**
 * Record batches as Kafka stores them (magic 2), written by us: kafkajs makes an encoder of half a kilobyte for each record and header,
 * which was most of the CPU of a snapshot. A batch grows in one buffer, is packed when it is full, and gets its producer's fields
 * when it is sent. Integers are big endian; lengths, deltas and counts inside a record are zigzag varints.
 * Source: Kafka protocol guide, "Record Batch"; KIP-98.
 *
 *   0   base offset i64 (the broker's)    8   length behind it i32       12  leader epoch i32 (the broker's)     16  magic i8
 *   17  CRC-32C of all behind it u32      21  attributes i16: 0-2 codec, 4 transactional                          23  last offset delta i32
 *   27  first timestamp i64               35  highest timestamp i64      43  producer id i64                      51  producer epoch i16
 *   53  first sequence i32                57  records i32                61  records, packed
 *
 *   record   length, attributes i8, timestamp delta, offset delta, key length, key, value length, value, headers, [name length, name, length, value]
 */
import { crc32c } from '@node-rs/crc32'

const HEADER_BYTES = 61
const MAGIC = 2
const TRANSACTIONAL = 16
/** What surrounds a record's key, value and headers, at most: five lengths, deltas, attributes. */
const FRAME_BYTES = 48

export interface BatchCodec {
  /** Kafka's number for it. */
  readonly type: number
  /** null: as it is. */
  readonly pack: ((raw: Buffer) => Buffer) | null
}

/** Of one partition, complete but for who sends it. */
export interface RecordBatch {
  readonly topic: string
  readonly partition: number
  readonly count: number
  readonly bytes: Buffer
}

export interface Header {
  /** UTF-8. */
  readonly name: Buffer
  readonly value: string
}

/** Who sends a batch: the sequence number is that of its first record. */
export interface Sender {
  readonly producerId: bigint
  readonly epoch: number
  readonly sequence: number
}

export interface BatchBuilder {
  count(): number
  /** Encoded so far, the batch's own header included. */
  bytes(): number
  /** How many bytes the batch would have with it, before packing, where that is more than `most`: it was not taken. Else 0. */
  append(
    key: string | Buffer,
    value: string | Buffer | null,
    timestampMs: number,
    headers: readonly Header[],
    most: number,
  ): number
  /** The batch, and the builder is empty. */
  finish(): RecordBatch
}

interface State {
  buffer: Buffer
  at: number
  count: number
  firstMs: number
  highestMs: number
}

const START_BYTES = 4_096

export function batchBuilder(topic: string, partition: number, codec: BatchCodec): BatchBuilder {
  const state: State = {
    buffer: Buffer.allocUnsafeSlow(START_BYTES),
    at: HEADER_BYTES,
    count: 0,
    firstMs: 0,
    highestMs: 0,
  }
  return {
    count: () => state.count,
    bytes: () => state.at,
    append: (key, value, timestampMs, headers, most) => append(state, key, value, timestampMs, headers, most),
    finish() {
      const bytes = finished(state, codec)
      const batch = { topic, partition, count: state.count, bytes }
      state.at = HEADER_BYTES
      state.count = 0
      return batch
    },
  }
}

function append(
  state: State,
  key: string | Buffer,
  value: string | Buffer | null,
  timestampMs: number,
  headers: readonly Header[],
  most: number,
): number {
  const keyBytes = Buffer.byteLength(key)
  const valueBytes = value === null ? -1 : Buffer.byteLength(value)
  let headerBytes = varintBytes(headers.length)
  for (const { name, value: text } of headers) {
    const length = Buffer.byteLength(text)
    headerBytes += varintBytes(name.length) + name.length + varintBytes(length) + length
  }
  const isFirst = state.count === 0
  const timestampDelta = isFirst ? 0 : timestampMs - state.firstMs
  const body =
    1 +
    varintBytes(timestampDelta) +
    varintBytes(state.count) +
    varintBytes(keyBytes) +
    keyBytes +
    varintBytes(valueBytes) +
    Math.max(0, valueBytes) +
    headerBytes
  const wanted = state.at + varintBytes(body) + body
  if (wanted > most) return wanted
  grow(state, body + FRAME_BYTES)
  const { buffer } = state
  let at = writeVarint(buffer, body, state.at)
  buffer[at++] = 0
  at = writeVarint(buffer, timestampDelta, at)
  at = writeVarint(buffer, state.count, at)
  at = writeText(buffer, key, keyBytes, at)
  at = value === null ? writeVarint(buffer, -1, at) : writeText(buffer, value, valueBytes, at)
  at = writeVarint(buffer, headers.length, at)
  for (const { name, value: text } of headers) {
    at = writeVarint(buffer, name.length, at)
    at += name.copy(buffer, at)
    at = writeText(buffer, text, Buffer.byteLength(text), at)
  }
  state.at = at
  if (isFirst) {
    state.firstMs = timestampMs
    state.highestMs = timestampMs
  }
  state.count++
  state.highestMs = Math.max(state.highestMs, timestampMs)
  return 0
}

function grow(state: State, bytes: number): void {
  if (state.at + bytes <= state.buffer.length) return
  const larger = Buffer.allocUnsafeSlow(Math.max(2 * state.buffer.length, state.at + bytes))
  state.buffer.copy(larger, 0, 0, state.at)
  state.buffer = larger
}

function finished({ buffer, at, count, firstMs, highestMs }: State, { type, pack }: BatchCodec): Buffer {
  const raw = buffer.subarray(HEADER_BYTES, at)
  const records = pack ? pack(raw) : raw
  const bytes = Buffer.allocUnsafeSlow(HEADER_BYTES + records.length)
  bytes.fill(0, 0, HEADER_BYTES)
  records.copy(bytes, HEADER_BYTES)
  bytes.writeInt32BE(bytes.length - 12, 8)
  bytes[16] = MAGIC
  bytes.writeInt16BE(type | TRANSACTIONAL, 21)
  bytes.writeInt32BE(count - 1, 23)
  bytes.writeBigInt64BE(BigInt(firstMs), 27)
  bytes.writeBigInt64BE(BigInt(highestMs), 35)
  bytes.writeInt32BE(count, 57)
  return bytes
}

export interface PlainRecord {
  readonly key: string | Buffer
  readonly value: string | Buffer | null
  readonly timestampMs: number
}

/** Few records, of whatever size they have. */
export function batchOf(
  topic: string,
  partition: number,
  codec: BatchCodec,
  records: readonly PlainRecord[],
): RecordBatch {
  const builder = batchBuilder(topic, partition, codec)
  for (const { key, value, timestampMs } of records) builder.append(key, value, timestampMs, [], Infinity)
  return builder.finish()
}

/** Fills in who sends the batch, in place. */
export function sealed({ bytes }: RecordBatch, { producerId, epoch, sequence }: Sender): Buffer {
  bytes.writeBigInt64BE(producerId, 43)
  bytes.writeInt16BE(epoch, 51)
  bytes.writeInt32BE(sequence, 53)
  bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17)
  return bytes
}

/** Zigzag, of whole numbers of up to 53 bits. */
function varintBytes(value: number): number {
  let left = value < 0 ? -2 * value - 1 : 2 * value
  let bytes = 1
  for (; left >= 128; left = Math.floor(left / 128)) bytes++
  return bytes
}

function writeVarint(buffer: Buffer, value: number, start: number): number {
  let at = start
  let left = value < 0 ? -2 * value - 1 : 2 * value
  for (; left >= 128; left = Math.floor(left / 128)) buffer[at++] = (left % 128) | 128
  buffer[at++] = left
  return at
}

/** Short texts of ASCII byte by byte: a call into the runtime costs more. */
const SHORT = 24

function writeText(buffer: Buffer, text: string | Buffer, bytes: number, start: number): number {
  const at = writeVarint(buffer, bytes, start)
  if (typeof text !== 'string') {
    text.copy(buffer, at)
    return at + bytes
  }
  if (bytes > SHORT || bytes !== text.length) buffer.write(text, at, bytes)
  else for (let i = 0; i < bytes; i++) buffer[at + i] = text.charCodeAt(i)
  return at + bytes
}

/**
 * The body of a Produce request (version 3 to 7) for batches of one broker, no two of a partition, each sealed:
 * transactional id, acks i16, timeout i32, [topic, [partition i32, length i32, batch]].
 */
export function produceBody(
  transactionalId: string,
  timeoutMs: number,
  batches: readonly RecordBatch[],
): Buffer {
  const byTopic = new Map<string, RecordBatch[]>()
  for (const batch of batches) byTopic.set(batch.topic, [...(byTopic.get(batch.topic) ?? []), batch])
  const parts = [string16(transactionalId), int(-1, 2), int(timeoutMs, 4), int(byTopic.size, 4)]
  for (const [topic, own] of byTopic) {
    parts.push(string16(topic), int(own.length, 4))
    for (const { partition, bytes } of own) parts.push(int(partition, 4), int(bytes.length, 4), bytes)
  }
  return Buffer.concat(parts)
}

function int(value: number, bytes: number): Buffer {
  const buffer = Buffer.allocUnsafe(bytes)
  buffer.writeIntBE(value, 0, bytes)
  return buffer
}

function string16(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([int(bytes.length, 2), bytes])
}
