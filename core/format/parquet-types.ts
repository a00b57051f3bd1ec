/** What a column of a Parquet file is called as a type of ours, and its values as raw JSON text. */
import type { SchemaElement, SchemaTree } from 'hyparquet'
import { quote } from '../row.ts'
import { stampOfMicros } from './typed-text.ts'

type ToJson = (value: unknown) => string

export interface ParquetColumn {
  readonly name: string
  readonly type: string
  /** Not of null. */
  readonly toJson: ToJson
}

const TEXTS = ['UTF8', 'ENUM', 'JSON']

const isText = ({ converted_type: converted, logical_type: logical }: SchemaElement): boolean =>
  TEXTS.includes(converted ?? '') || ['STRING', 'ENUM', 'JSON'].includes(logical?.type ?? '')

/** So that its values are read as they stand; texts stay texts, for the names of maps. */
export function withoutMeaning(element: SchemaElement): SchemaElement {
  if (element.num_children || !element.type) return element
  const { converted_type: _, logical_type: __, ...rest } = element
  return element.type === 'BYTE_ARRAY' && isText(element) ? { ...rest, converted_type: 'UTF8' } : rest
}

export function columnOf(tree: SchemaTree): ParquetColumn {
  const { name } = tree.element
  if (tree.children.length > 0) return { name, type: 'jsonb', toJson: nested(tree) }
  const { type, toJson } = leafOf(tree.element)
  // A column may stand for a list by itself.
  return tree.element.repetition_type === 'REPEATED'
    ? { name, type: 'jsonb', toJson: list(toJson) }
    : { name, type, toJson }
}

interface Leaf {
  readonly type: string
  readonly toJson: ToJson
}
const leaf = (type: string, toJson: ToJson): Leaf => ({ type, toJson })
const number: ToJson = value => String(value)
const float: ToJson = value =>
  Number.isFinite(value) ? (Object.is(value, -0) ? '-0' : String(value)) : `"${value}"`
const bytes: ToJson = value => `"${bufferOf(value).toString('base64')}"`

const bufferOf = (value: unknown): Buffer => {
  const { buffer, byteOffset, byteLength } = value as Uint8Array
  return Buffer.from(buffer, byteOffset, byteLength)
}

function leafOf(element: SchemaElement): Leaf {
  const { type, converted_type: converted, logical_type: logical } = element
  if (converted === 'DECIMAL' || logical?.type === 'DECIMAL') {
    const scale = element.scale ?? (logical?.type === 'DECIMAL' ? logical.scale : 0)
    return leaf('numeric', value => `"${decimalText(unscaledOf(value), scale)}"`)
  }
  if (type === 'INT32' || type === 'INT64') return integerOf(element)
  if (type === 'BOOLEAN') return leaf('bool', number)
  if (type === 'FLOAT') return leaf('float4', value => float(shortest(value as number)))
  if (type === 'DOUBLE') return leaf('float8', float)
  if (type === 'INT96') return leaf('timestamp', value => stamp(microsOf(value as bigint, 'NANOS'), false))
  if (isText(element)) {
    const isJson = converted === 'JSON' || logical?.type === 'JSON'
    return isJson ? leaf('jsonb', jsonOf) : leaf('text', value => quote(String(value)))
  }
  if (logical?.type === 'UUID') return leaf('uuid', value => `"${uuidText(bufferOf(value))}"`)
  if (logical?.type === 'FLOAT16') return leaf('float4', value => float(float16(bufferOf(value))))
  if (converted === 'INTERVAL') return leaf('interval', value => `"${intervalText(bufferOf(value))}"`)
  return leaf('bytea', bytes)
}

/** Whole numbers, days and times. */
function integerOf({ type, converted_type: converted, logical_type: logical }: SchemaElement): Leaf {
  const isLong = type === 'INT64'
  if (logical?.type === 'TIMESTAMP') {
    const { unit, isAdjustedToUTC: isUtc } = logical
    return leaf(isUtc ? 'timestamptz' : 'timestamp', value => stamp(microsOf(value as bigint, unit), isUtc))
  }
  if (converted === 'TIMESTAMP_MILLIS' || converted === 'TIMESTAMP_MICROS') {
    const unit = converted === 'TIMESTAMP_MILLIS' ? 'MILLIS' : 'MICROS'
    return leaf('timestamptz', value => stamp(microsOf(value as bigint, unit), true))
  }
  if (logical?.type === 'TIME' || converted === 'TIME_MILLIS' || converted === 'TIME_MICROS') {
    const unit = logical?.type === 'TIME' ? logical.unit : isLong ? 'MICROS' : 'MILLIS'
    return leaf('time', value =>
      stamp(microsOf(BigInt(value as number), unit), false).replace(/^"[^T]*T/, '"'),
    )
  }
  if (converted === 'DATE' || logical?.type === 'DATE')
    return leaf('date', value => stamp(BigInt(value as number) * 86_400_000_000n, false).replace(/T.*$/, '"'))
  const bits =
    logical?.type === 'INTEGER'
      ? logical.bitWidth
      : Number(/\d+$/.exec(converted ?? '')?.[0] ?? (isLong ? 64 : 32))
  const isUnsigned = logical?.type === 'INTEGER' ? !logical.isSigned : /^UINT/.test(converted ?? '')
  if (isUnsigned && bits === 64) return leaf('numeric', value => `"${BigInt.asUintN(64, value as bigint)}"`)
  if (isUnsigned && bits === 32) return leaf('int8', value => String(Number(value) >>> 0))
  if (isLong) return leaf('int8', number)
  return leaf(bits < (isUnsigned ? 16 : 32) ? 'int2' : 'int4', number)
}

const microsOf = (value: bigint, unit: 'MILLIS' | 'MICROS' | 'NANOS'): bigint =>
  unit === 'MILLIS' ? value * 1_000n : unit === 'MICROS' ? value : floored(value, 1_000n)

const floored = (value: bigint, by: bigint): bigint => (value - (((value % by) + by) % by)) / by

/** Beyond what a Date can hold: infinity, as some writers mean it. */
const stamp = (micros: bigint, isUtc: boolean): string =>
  stampOfMicros(micros, isUtc) ?? (micros < 0n ? '"-infinity"' : '"infinity"')

function unscaledOf(value: unknown): bigint {
  if (!(value instanceof Uint8Array)) return BigInt(value as number | bigint)
  if (value.length === 0) return 0n
  return BigInt.asIntN(8 * value.length, BigInt(`0x${bufferOf(value).toString('hex')}`))
}

function decimalText(unscaled: bigint, scale: number): string {
  if (scale === 0) return String(unscaled)
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0')
  return `${unscaled < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}

/** The fewest digits that mean this float of 32 bits. */
function shortest(value: number): number {
  if (!Number.isFinite(value)) return value
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return Number(value.toPrecision(9))
}

function float16(two: Buffer): number {
  const bits = two.readUInt16LE()
  const sign = bits >> 15 ? -1 : 1
  const [exponent, fraction] = [(bits >> 10) & 0x1f, bits & 0x3ff]
  if (exponent === 0) return sign * 2 ** -14 * (fraction / 1024)
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024)
}

const uuidText = (sixteen: Buffer): string =>
  sixteen.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')

/** Months, days and milliseconds, in ISO 8601. */
function intervalText(twelve: Buffer): string {
  const [months, days, ms] = [0, 4, 8].map(at => twelve.readUInt32LE(at)) as [number, number, number]
  const time = ms === 0 && (months > 0 || days > 0) ? '' : `T${ms / 1_000}S`
  return `P${months > 0 ? `${months}M` : ''}${days > 0 ? `${days}D` : ''}${time}`
}

/** A text that should be JSON and is not stays a text. */
function jsonOf(value: unknown): string {
  const text = String(value)
  try {
    JSON.parse(text)
    return text.replace(/[\u0000-\u001f]/g, ' ').trim()
  } catch {
    return quote(text)
  }
}

/** Structs as objects, lists as lists, maps as objects: as the library puts them together. */
function nested(tree: SchemaTree): ToJson {
  const { converted_type: converted, logical_type: logical, repetition_type: repetition } = tree.element
  const [child] = tree.children
  if (converted === 'LIST' || logical?.type === 'LIST') {
    const item = child!.children.length === 1 ? child!.children[0]! : child!
    return list(single(item))
  }
  if (converted === 'MAP' || converted === 'MAP_KEY_VALUE' || logical?.type === 'MAP') {
    const value = single(child!.children[1]!)
    return map => members(Object.entries(map as object), () => value)
  }
  const byName = new Map(tree.children.map(one => [one.element.name, columnOf(one).toJson]))
  const struct: ToJson = value =>
    members(Object.entries(value as object), name => byName.get(name) ?? anything)
  return repetition === 'REPEATED' ? list(struct) : struct
}

/** Of what is repeated, one. */
const single = (tree: SchemaTree): ToJson =>
  columnOf({ ...tree, element: { ...tree.element, repetition_type: 'OPTIONAL' } }).toJson

const orNull = (toJson: ToJson, value: unknown): string =>
  value === null || value === undefined ? 'null' : toJson(value)
const list =
  (toJson: ToJson): ToJson =>
  values =>
    `[${Array.from(values as Iterable<unknown>, value => orNull(toJson, value)).join(',')}]`
const members = (entries: readonly [string, unknown][], of: (name: string) => ToJson): string =>
  `{${entries.map(([name, value]) => `${quote(name)}:${orNull(of(name), value)}`).join(',')}}`

const anything: ToJson = value => (value instanceof Uint8Array ? bytes(value) : quote(String(value)))
