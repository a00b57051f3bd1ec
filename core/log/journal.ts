/**
 * The format of the embedded log's files, and nothing else: bytes ↔ values, no disk, no state. Little-endian; sizes in bytes.
 *
 *   segment   = header frame*                                     logs/<name>/00000000000000000001.seg, numbered from 1
 *   header    = "MILLRACE" | u16 format | u16 0 | u32 size of state | u32 crc32 of state | state (JSON)
 *     state   = { id, number, made_ms, tasks: { name: { epoch, offset, last } }, ends: { topic: [next, …by partition] },
 *                 schemas: { id: Table } }
 *               all that is needed to go on, so that older segments can be deleted (J1); `ends` are also the first offsets
 *               of this segment, and of the log when it is the oldest
 *   frame     = "FRAM" | u32 size of what follows the head | u32 size of meta | u32 crc32 of head and meta | meta (JSON) | block*
 *     meta    = { at_ms, tasks: [{ task, epoch, offset, last }], schemas?: { id: Table }, blocks: [[topic, partition, schema,
 *                 first offset, records, size, stored size, codec (codec.ts), crc32 of what is stored]] }
 *   block     = record*                                           records of one topic-partition and one schema
 *     record  = f64 version | f64 timestamp in ms | u32 size of key | u32 size of value | u8 headers (0) | key | value
 *
 * A frame is what one sync makes durable: all that was appended meanwhile, of however many topics and tasks. It is whole or it
 * never was (J1, J2): the next one is written only after the sync, so that damage with a whole frame behind it is no torn tail.
 *
 * Formats (J6): 1 knew the codecs 0 and 1 only, and took any other for damage. 2 has the others, and refuses what it does not know
 * by name. A segment of an older format is read, and not appended to.
 */
import { crc32 } from 'node:zlib'
import { ConnectorError } from '../errors.ts'
import type { Json, Table } from '../record.ts'
import { type Compression, type Packed, packed } from './codec.ts'

export const FORMAT = 2
const MAGIC = Buffer.from('MILLRACE')
const FRAME = Buffer.from('FRAM')
export const HEADER_SIZE = 20
export const FRAME_HEAD = 16
const RECORD_HEAD = 25

export interface TaskState {
  readonly epoch: number
  readonly offset: Json
  /** Last version number given. */
  readonly last: number
}

export interface SegmentState {
  readonly id: string
  readonly number: number
  readonly made_ms: number
  readonly tasks: { readonly [task: string]: TaskState }
  readonly ends: { readonly [topic: string]: readonly number[] }
  readonly schemas: { readonly [id: string]: Table }
}

export type BlockMeta = readonly [
  topic: string,
  partition: number,
  schema: number,
  first: number,
  count: number,
  size: number,
  stored: number,
  codec: number,
  crc: number,
]

export interface FrameMeta {
  readonly at_ms: number
  readonly tasks: readonly (TaskState & { readonly task: string })[]
  readonly schemas?: { readonly [id: string]: Table }
  readonly blocks: readonly BlockMeta[]
}

/** A block while it is filled. */
export interface BlockBuilder {
  bytes: Buffer
  used: number
  count: number
}

export const blockBuilder = (): BlockBuilder => ({ bytes: Buffer.allocUnsafe(8 * 1024), used: 0, count: 0 })

/** UTF-8 takes at most three bytes for each UTF-16 unit. */
export function putRecord(
  block: BlockBuilder,
  version: number,
  timestampMs: number,
  key: string,
  value: string,
): void {
  const most = RECORD_HEAD + 3 * (key.length + value.length)
  if (block.used + most > block.bytes.length) grow(block, most)
  const { bytes } = block
  const at = block.used
  const keySize = bytes.write(key, at + RECORD_HEAD)
  const valueSize = bytes.write(value, at + RECORD_HEAD + keySize)
  bytes.writeDoubleLE(version, at)
  bytes.writeDoubleLE(timestampMs, at + 8)
  bytes.writeUInt32LE(keySize, at + 16)
  bytes.writeUInt32LE(valueSize, at + 20)
  bytes[at + 24] = 0
  block.used = at + RECORD_HEAD + keySize + valueSize
  block.count++
}

function grow(block: BlockBuilder, by: number): void {
  const bytes = Buffer.allocUnsafe(Math.max(block.bytes.length * 2, block.used + by))
  block.bytes.copy(bytes, 0, 0, block.used)
  block.bytes = bytes
}

/** What is stored of a block. */
export function storedBlock(
  block: BlockBuilder,
  compression: Compression,
): Packed & { readonly crc: number } {
  const { bytes, codec } = packed(block.bytes.subarray(0, block.used), compression)
  return { bytes, codec, crc: crc32(bytes) }
}

/** The records of a stored block. Throws `config` when its sizes contradict each other. */
export function openBlock(
  stored: Buffer,
  [topic, partition, , , , size, , , crc]: BlockMeta,
  open: (packed: Buffer) => Buffer,
): Buffer {
  if (crc32(stored) !== crc) throw damaged(`a block of ${topic}/${partition} is altered`)
  const raw = open(stored)
  if (raw.length !== size)
    throw damaged(`a block of ${topic}/${partition} holds ${raw.length} bytes, ${size} were written`)
  return raw
}

export interface RawRecord {
  readonly version: number
  readonly timestampMs: number
  readonly key: string
  readonly value: string
  /** Where the next record begins. */
  readonly end: number
}

export function recordAt(raw: Buffer, at: number): RawRecord {
  if (at + RECORD_HEAD > raw.length)
    throw damaged(`a record begins at ${at} of a block of ${raw.length} bytes`)
  const keyAt = at + RECORD_HEAD
  const valueAt = keyAt + raw.readUInt32LE(at + 16)
  const end = valueAt + raw.readUInt32LE(at + 20)
  if (end > raw.length) throw damaged(`a record ends at ${end} of a block of ${raw.length} bytes`)
  return {
    version: raw.readDoubleLE(at),
    timestampMs: raw.readDoubleLE(at + 8),
    key: raw.toString('utf8', keyAt, valueAt),
    value: raw.toString('utf8', valueAt, end),
    end,
  }
}

/** Skips a record without making strings of it. */
export const recordEnd = (raw: Buffer, at: number): number =>
  at + RECORD_HEAD + raw.readUInt32LE(at + 16) + raw.readUInt32LE(at + 20)

const damaged = (what: string): ConnectorError => new ConnectorError('config', `the log is damaged: ${what}`)

export function encodeFrame(meta: FrameMeta, blocks: readonly Buffer[]): Buffer {
  const text = Buffer.from(JSON.stringify(meta))
  const size = text.length + blocks.reduce((sum, block) => sum + block.length, 0)
  const frame = Buffer.allocUnsafe(FRAME_HEAD + size)
  FRAME.copy(frame, 0)
  frame.writeUInt32LE(size, 4)
  frame.writeUInt32LE(text.length, 8)
  text.copy(frame, FRAME_HEAD)
  frame.writeUInt32LE(metaCrc(frame), 12)
  let at = FRAME_HEAD + text.length
  for (const block of blocks) at += block.copy(frame, at)
  return frame
}

/** Of the head's first three fields and the meta. */
const metaCrc = (frame: Buffer): number =>
  crc32(frame.subarray(FRAME_HEAD, blocksAt(frame)), crc32(frame.subarray(0, 12)))

/** Whole size of the frame whose head this is; null: no frame begins here. */
export function frameSize(head: Buffer): number | null {
  if (head.length < FRAME_HEAD || head.compare(FRAME, 0, 4, 0, 4) !== 0) return null
  const size = head.readUInt32LE(4)
  return metaSize(head) <= size ? FRAME_HEAD + size : null
}

/** What stands before the blocks; null: altered or not whole. `bytes` begins with the frame and holds at least its meta. */
export function decodeMeta(bytes: Buffer): FrameMeta | null {
  if (
    frameSize(bytes) === null ||
    blocksAt(bytes) > bytes.length ||
    metaCrc(bytes) !== bytes.readUInt32LE(12)
  )
    return null
  return JSON.parse(bytes.toString('utf8', FRAME_HEAD, blocksAt(bytes))) as FrameMeta
}

/** Null: not whole, or altered anywhere. */
export function decodeFrame(frame: Buffer): FrameMeta | null {
  const meta = decodeMeta(frame)
  const size = frameSize(frame)
  if (!meta || size === null || size > frame.length) return null
  let at = blocksAt(frame)
  for (const block of meta.blocks) {
    const end = at + block[6]
    if (end > size || crc32(frame.subarray(at, end)) !== block[8]) return null
    at = end
  }
  return at === size ? meta : null
}

export const metaSize = (head: Buffer): number => head.readUInt32LE(8)
export const blocksAt = (head: Buffer): number => FRAME_HEAD + metaSize(head)

/** Where the next "FRAM" stands at or behind `at`, or -1. */
export const findFrame = (bytes: Buffer, at: number): number => bytes.indexOf(FRAME, at)

export function encodeHeader(state: SegmentState): Buffer {
  const text = Buffer.from(JSON.stringify(state))
  const header = Buffer.alloc(HEADER_SIZE + text.length)
  MAGIC.copy(header)
  header.writeUInt16LE(FORMAT, 8)
  header.writeUInt32LE(text.length, 12)
  header.writeUInt32LE(crc32(text), 16)
  text.copy(header, HEADER_SIZE)
  return header
}

export interface Header {
  readonly format: number
  readonly state: SegmentState
  readonly size: number
}

/** Null: not whole, or altered. Throws `config` on a newer format (J6). */
export function decodeHeader(bytes: Buffer, path: string): Header | null {
  if (bytes.length < HEADER_SIZE || bytes.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0) return null
  const format = bytes.readUInt16LE(8)
  if (format > FORMAT) {
    throw new ConnectorError(
      'config',
      `${path} was written by a newer Millrace: format ${format}, this one knows ${FORMAT}`,
      {
        hint: 'Start the newer Millrace, or another --data-dir.',
      },
    )
  }
  const size = HEADER_SIZE + bytes.readUInt32LE(12)
  if (size > bytes.length || crc32(bytes.subarray(HEADER_SIZE, size)) !== bytes.readUInt32LE(16)) return null
  return { format, state: JSON.parse(bytes.toString('utf8', HEADER_SIZE, size)) as SegmentState, size }
}
