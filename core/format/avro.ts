/**
 * Rows as an Avro object container file. Every column may be null; times, dates, decimals and UUIDs carry their logical types, JSON is
 * a string. The same rows make the same bytes: the mark between blocks is made of the schema.
 */
import { createHash } from 'node:crypto'
import * as zlib from 'node:zlib'
import avro from 'avsc'
import { type Kind, type TypedColumn, type TypedValue, typedValues } from './columns.ts'
import { zstdOnce } from './compress.ts'

export type AvroCompression = 'none' | 'gzip' | 'zstd'
const CODECS: Readonly<Record<AvroCompression, string>> = {
  none: 'null',
  gzip: 'deflate',
  zstd: 'zstandard',
}

const logical = (type: string, logicalType: string) => () => ({ type, logicalType })
const SCHEMAS: Readonly<Record<Kind, (column: TypedColumn) => unknown>> = {
  boolean: () => 'boolean',
  int: () => 'int',
  long: () => 'long',
  float: () => 'float',
  double: () => 'double',
  decimal: ({ precision, scale }) => ({ type: 'bytes', logicalType: 'decimal', precision, scale }),
  string: () => 'string',
  json: () => 'string',
  bytes: () => 'bytes',
  uuid: logical('string', 'uuid'),
  date: logical('int', 'date'),
  timestamp: logical('long', 'local-timestamp-micros'),
  timestamptz: logical('long', 'timestamp-micros'),
}

export const nameOf = (text: string): string => text.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d|$)/, '_')

const PRIMITIVE = /^(?:null|boolean|int|long|float|double|bytes|string)$/

/** Names that Avro does not take are changed, two that meet then are numbered. */
export function namesOf(columns: readonly TypedColumn[]): string[] {
  const taken = new Set<string>()
  return columns.map(({ name }) => {
    const own = nameOf(name)
    let free = own
    for (let i = 2; taken.has(free); i++) free = `${own}_${i}`
    taken.add(free)
    return free
  })
}

export function avroSchema(name: string, columns: readonly TypedColumn[]): object {
  const names = namesOf(columns)
  return {
    type: 'record',
    name: PRIMITIVE.test(name) ? `${name}_` : nameOf(name),
    fields: columns.map((column, i) => ({
      name: names[i],
      type: ['null', SCHEMAS[column.kind](column)],
      default: null,
      ...(names[i] === column.name ? {} : { doc: column.name }),
    })),
  }
}

/** 64 bits as bigint. */
const LONG = avro.types.LongType.__with({
  fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
  toBuffer(value: bigint) {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64LE(value)
    return bytes
  },
  fromJSON: BigInt,
  toJSON: Number,
  isValid: (value: unknown) => typeof value === 'bigint',
  compare: (a: bigint, b: bigint) => (a === b ? 0 : a < b ? -1 : 1),
})

/** Two's complement, big end first, as short as it goes. */
export function decimalBytes(value: bigint): Buffer {
  let size = 1
  while (BigInt.asIntN(size * 8, value) !== value) size++
  const bytes = Buffer.alloc(size)
  let rest = value
  for (let i = size - 1; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn)
  return bytes
}

/** Values of a union stand under the name of its branch: the library tells bigints from nothing else. */
const wrapped = (value: TypedValue, branch: string): object | null =>
  value === null
    ? null
    : { [branch]: branch === 'bytes' && typeof value === 'bigint' ? decimalBytes(value) : value }

function branchOf(kind: Kind): string {
  const schema = SCHEMAS[kind]({ precision: 1, scale: 0 } as TypedColumn)
  return typeof schema === 'string' ? schema : (schema as { type: string }).type
}

export interface AvroEncoder {
  readonly schema: object
  /** Writes a row at `at`; values in the order of the columns. Answers with where it ends, or how many bytes were missing as a negative number. */
  put(values: readonly TypedValue[], buffer: Buffer, at: number): number
}

/**
 * Two ways to the same bytes: with longs as numbers and the values of unions as they are, which takes a third of the time; and where a long
 * is beyond 2^52, as bigints, which the library tells from nothing else, so that they stand under the name of their branch.
 */
export function avroEncoder(name: string, columns: readonly TypedColumn[]): AvroEncoder {
  const schema = avroSchema(name, columns)
  const names = namesOf(columns)
  const branches = columns.map(({ kind }) => branchOf(kind))
  const exact = avro.Type.forSchema(schema as avro.Schema, { typeHook: longs, wrapUnions: true })
  const quick = avro.Type.forSchema(schema as avro.Schema)
  const Row = (quick as avro.types.RecordType).recordConstructor as new (...values: unknown[]) => object
  const quickOf = (values: readonly TypedValue[]): object | null => {
    const plain: unknown[] = []
    for (let i = 0; i < branches.length; i++) {
      const value = values[i]!
      if (typeof value !== 'bigint') plain.push(value)
      else if (branches[i] === 'bytes') plain.push(decimalBytes(value))
      else if (value > MOST || value < -MOST) return null
      else plain.push(Number(value))
    }
    return new Row(...plain)
  }
  return {
    schema,
    put(values, buffer, at) {
      const row = quickOf(values)
      if (row) return quick.encode(row, buffer, at)
      const object: Record<string, object | null> = {}
      for (let i = 0; i < names.length; i++) object[names[i]!] = wrapped(values[i]!, branches[i]!)
      return exact.encode(object, buffer, at)
    },
  }
}
/** The library doubles a number before it writes it. */
const MOST = 2n ** 52n - 1n

/** The header's map and the lengths before a block are Avro themselves. */
const META = avro.Type.forSchema({ type: 'map', values: 'bytes' })
const COUNT = avro.Type.forSchema('long')

const BLOCK_BYTES = 64 * 1024
type Pack = (raw: Buffer) => Buffer
const packers: Readonly<Record<AvroCompression, Pack | null>> = {
  none: raw => Buffer.from(raw),
  gzip: raw => zlib.deflateRawSync(raw, { level: 5 }),
  zstd: zstdOnce,
}

export async function* avroFile(
  name: string,
  columns: readonly TypedColumn[],
  lines: AsyncIterable<readonly string[]>,
  compression: AvroCompression,
): AsyncGenerator<Buffer> {
  const { schema, put } = avroEncoder(name, columns)
  const text = JSON.stringify(schema)
  const sync = createHash('md5').update(text).digest()
  const codec = Buffer.from(CODECS[compression])
  const meta = META.toBuffer({ 'avro.schema': Buffer.from(text), 'avro.codec': codec })
  yield Buffer.concat([Buffer.from('Obj\x01'), meta, sync])
  let block = Buffer.allocUnsafe(2 * BLOCK_BYTES)
  let count = 0
  let at = 0
  const end = (): Buffer => {
    const packed = packers[compression]!(block.subarray(0, at))
    const whole = Buffer.concat([COUNT.toBuffer(count), COUNT.toBuffer(packed.length), packed, sync])
    count = 0
    at = 0
    return whole
  }
  for await (const some of lines)
    for (const line of some) {
      const row = typedValues(line, columns)
      let next = put(row, block, at)
      if (next < 0) {
        // So many bytes were missing.
        block = Buffer.concat([block.subarray(0, at)], block.length - next)
        next = put(row, block, at)
      }
      at = next
      count++
      if (at >= BLOCK_BYTES) yield end()
    }
  if (count > 0) yield end()
}

export const longs = (schema: unknown): avro.Type | undefined =>
  (schema as { type?: string }).type === 'long' || schema === 'long' ? LONG : undefined
