/**
 * Rows of an Avro schema that somebody else wrote: JSON checked against it, and its bytes read: one record's, or a container file's.
 *
 *   boolean bool   int int4   long int8   float float4   double float8   string, enum text   bytes, fixed bytea
 *   record, array, map jsonb   decimal numeric   uuid uuid   date date   time-* time   timestamp-* timestamptz   local-timestamp-* timestamp
 *
 * JSON is plain: the value of a union stands as it is, without the name of its branch.
 */
import * as zlib from 'node:zlib'
import avro from 'avsc'
import { ConnectorError } from '../errors.ts'
import { quote } from '../row.ts'
import { longs } from './avro.ts'
import {
  type DeclaredColumn,
  type DeclaredRows,
  declaredMembers,
  NOT_FINITE,
  named,
  refuse,
  type Shape,
  scalar,
  timeText,
} from './declared.ts'
import { itemsOf, type Member, membersOf, objectOf } from './json-row.ts'
import type { TextType } from './typed-text.ts'

interface AvroShape extends Shape {
  /** In the library's unions. */
  readonly branch: string
  /** Of a value that the library read; null only where the schema has it. */
  textOf(value: unknown): string
}

interface AvroObject {
  readonly type: unknown
  readonly logicalType?: string
  readonly name?: string
  readonly namespace?: string
  readonly symbols?: readonly string[]
  readonly items?: unknown
  readonly values?: unknown
  readonly scale?: number
  readonly size?: number
  readonly fields?: readonly { readonly name: string; readonly type: unknown; readonly default?: unknown }[]
}

/** Named types, of which one may be inside itself. */
interface Names {
  readonly known: Map<string, AvroShape>
  readonly space: string
}

export function avroRows(text: string): DeclaredRows {
  const schema = JSON.parse(text) as AvroObject
  if (schema?.type !== 'record' || !schema.fields)
    throw new ConnectorError('config', 'the schema is no record', {
      hint: 'A row is a record: {"type":"record","name":…,"fields":[…]}.',
    })
  const type = typeOf(schema)
  const fields = fieldsOf(schema, { known: new Map(), space: schema.namespace ?? '' })
  const columns = fields.map(
    ({ name, shape, isNullable, absent }): DeclaredColumn => ({
      ...shape,
      name,
      isNullable,
      absent,
    }),
  )
  const rowOf = (value: unknown) =>
    fields.map(({ name, textOf }): Member => [name, textOf((value as Record<string, unknown>)[name])])
  return {
    columns,
    *decode(body) {
      if (body.subarray(0, 4).equals(MAGIC)) {
        for (const value of contained(type, body)) yield rowOf(value)
        return
      }
      yield rowOf(whole(type, body))
    },
  }
}

/** The library notes names in the options that it is given: each schema has its own. */
const typeOf = (schema: unknown): avro.Type =>
  avro.Type.forSchema(schema as avro.Schema, { typeHook: longs, wrapUnions: true })

const MAGIC = Buffer.from('Obj\x01')
const SYNC_BYTES = 16
/** What a block may become when it is decompressed. */
const BLOCK_BYTES = 64 << 20
const META = avro.Type.forSchema({ type: 'map', values: 'bytes' })
const COUNT = avro.Type.forSchema('long')

const noAvro = (why: string): ConnectorError =>
  new ConnectorError('data', `the bytes are no Avro of the schema: ${why}`)

interface Decoded<T> {
  readonly value: T
  readonly offset: number
}

function decoded<T>(type: avro.Type, bytes: Buffer, at: number, resolver?: unknown): Decoded<T> {
  let read: Decoded<T>
  try {
    read = type.decode(bytes, at, resolver as never) as Decoded<T>
  } catch (error) {
    throw noAvro((error as Error).message)
  }
  if (read.offset < 0) throw noAvro('they end too early')
  return read
}

function whole(type: avro.Type, body: Buffer): unknown {
  const { value, offset } = decoded(type, body, 0)
  if (offset !== body.length) throw noAvro(`${body.length - offset} bytes are left behind the record`)
  return value
}

/** A file says by which schema it was written; what that has otherwise is brought to ours as Avro has it. */
function* contained(type: avro.Type, file: Buffer): Generator<unknown> {
  const { value: meta, offset } = decoded<Record<string, Buffer>>(META, file, MAGIC.length)
  const codec = meta['avro.codec']?.toString() ?? 'null'
  const resolver = resolverOf(type, meta['avro.schema']?.toString() ?? '')
  for (let at = offset + SYNC_BYTES; at < file.length; ) {
    const { value: count, offset: sizeAt } = decoded<number>(COUNT, file, at)
    const { value: size, offset: dataAt } = decoded<number>(COUNT, file, sizeAt)
    if (size < 0 || dataAt + size + SYNC_BYTES > file.length) throw noAvro('the file ends inside a block')
    const block = unpacked(codec, file.subarray(dataAt, dataAt + size))
    let next = 0
    for (let i = 0; i < count; i++) {
      const one = decoded(type, block, next, resolver)
      next = one.offset
      yield one.value
    }
    at = dataAt + size + SYNC_BYTES
  }
}

function resolverOf(type: avro.Type, written: string): unknown {
  try {
    return type.createResolver(typeOf(JSON.parse(written)))
  } catch (error) {
    throw noAvro(`the file's own schema does not fit it: ${(error as Error).message}`)
  }
}

function unpacked(codec: string, block: Buffer): Buffer {
  if (codec === 'null') return block
  if (codec !== 'deflate') throw noAvro(`the file's codec is ${codec}, and null and deflate are read`)
  try {
    return zlib.inflateRawSync(block, { maxOutputLength: BLOCK_BYTES })
  } catch (error) {
    throw noAvro(`a block cannot be decompressed: ${(error as Error).message}`)
  }
}

interface AvroField {
  readonly name: string
  readonly shape: Shape
  readonly isNullable: boolean
  readonly absent: string | null
  textOf(value: unknown): string
}

function fieldsOf({ fields = [] }: AvroObject, names: Names): AvroField[] {
  return fields.map(({ name, type, default: preset }): AvroField => {
    const branches = [type].flat()
    const shapes = branches.filter(one => one !== 'null').map(one => shapeOf(one, names))
    const shape = shapes.length === 1 ? shapes[0]! : unionOf(shapes)
    const isNullable = branches.includes('null')
    return {
      name,
      shape,
      isNullable,
      absent: preset === undefined ? null : preset === null ? 'null' : presetOf(name, shape, preset),
      textOf: value => optional(branches.length > 1, shapes, value),
    }
  })
}

/** Bytes stand in a schema as text of Latin-1. */
function presetOf(name: string, shape: Shape, preset: unknown): string {
  const isBytes = shape.type === 'bytea' && typeof preset === 'string'
  const raw = JSON.stringify(isBytes ? Buffer.from(preset, 'latin1').toString('base64') : preset)
  return named(`the default of ${name}`, () => shape.fromJson(raw))
}

/** A value as the library has it: in a union under the name of its branch. */
function optional(isUnion: boolean, shapes: readonly AvroShape[], value: unknown): string {
  if (value === null) return 'null'
  if (!isUnion) return shapes[0]!.textOf(value)
  const [branch, inner] = Object.entries(value as object)[0]!
  return shapes.find(one => one.branch === branch)!.textOf(inner)
}

/** Of several that are not null: what any of them takes. */
const unionOf = (shapes: readonly AvroShape[]): Shape => ({
  type: 'jsonb',
  fromJson(raw) {
    for (const shape of shapes)
      try {
        return shape.fromJson(raw)
      } catch {
        // the next branch may take it
      }
    return refuse(raw, `none of ${shapes.map(one => one.branch).join(', ')}`)
  },
})

const quoted = (value: unknown): string => quote(value as string)
const bytesText = (value: unknown): string => `"${(value as Buffer).toString('base64')}"`
const numberText = (value: unknown): string =>
  NOT_FINITE.has(String(value)) ? `"${value}"` : Object.is(value, -0) ? '-0' : String(value)

const plainShape = (branch: string, type: TextType, textOf: (value: unknown) => string): AvroShape => ({
  ...scalar(type),
  branch,
  textOf,
})

const PRIMITIVES: Readonly<Record<string, AvroShape>> = {
  boolean: plainShape('boolean', 'bool', String),
  int: plainShape('int', 'int4', String),
  long: plainShape('long', 'int8', String),
  float: plainShape('float', 'float4', numberText),
  double: plainShape('double', 'float8', numberText),
  string: plainShape('string', 'text', quoted),
  bytes: plainShape('bytes', 'bytea', bytesText),
}

const clock = (perSecond: bigint) => (value: unknown) =>
  `"${timeText((BigInt(value as number | bigint) * 1_000_000n) / perSecond).slice(11)}"`
const moment = (perSecond: bigint, zone: string) => (value: unknown) =>
  `"${timeText((BigInt(value as bigint) * 1_000_000n) / perSecond)}${zone}"`

/** By the type it is of, and its name. */
const LOGICAL: Readonly<Record<string, AvroShape>> = {
  'string uuid': plainShape('string', 'uuid', quoted),
  'int date': plainShape(
    'int',
    'date',
    days => `"${timeText(BigInt(days as number) * 86_400_000_000n).slice(0, -9)}"`,
  ),
  'int time-millis': plainShape('int', 'time', clock(1_000n)),
  'long time-micros': plainShape('long', 'time', clock(1_000_000n)),
  'long timestamp-millis': plainShape('long', 'timestamptz', moment(1_000n, 'Z')),
  'long timestamp-micros': plainShape('long', 'timestamptz', moment(1_000_000n, 'Z')),
  'long local-timestamp-millis': plainShape('long', 'timestamp', moment(1_000n, '')),
  'long local-timestamp-micros': plainShape('long', 'timestamp', moment(1_000_000n, '')),
}

function shapeOf(schema: unknown, names: Names): AvroShape {
  if (typeof schema === 'string') return namedShape(schema, names)
  if (Array.isArray(schema)) return nestedUnion(schema, names)
  const object = schema as AvroObject
  const { type, logicalType, scale = 0 } = object
  if (logicalType === 'decimal' && (type === 'bytes' || type === 'fixed')) {
    const shape = plainShape('bytes', 'numeric', value => `"${decimalText(value as Buffer, scale)}"`)
    return type === 'fixed' ? register(object, names, () => shape) : shape
  }
  const logical = LOGICAL[`${type} ${logicalType}`]
  if (logical) return logical
  switch (type) {
    case 'record':
      return register(object, names, inner => recordShape(object, inner))
    case 'enum':
      return register(object, names, () => enumShape(object))
    case 'fixed':
      return register(object, names, () => fixedShape(object))
    case 'array':
      return arrayShape(shapeOf(object.items, names))
    case 'map':
      return mapShape(shapeOf(object.values, names))
    default:
      return shapeOf(type, names)
  }
}

function namedShape(name: string, { known, space }: Names): AvroShape {
  const found = PRIMITIVES[name] ?? known.get(name) ?? known.get(`${space}.${name}`)
  if (found) return found
  throw new ConnectorError('config', `the schema names a type ${name} that it does not define`)
}

/** Under its full name, by which the library tells branches. It may be met again inside itself, before it is made. */
function register(
  { name = '', namespace }: AvroObject,
  { known, space }: Names,
  make: (inner: Names) => AvroShape,
): AvroShape {
  const dot = name.lastIndexOf('.')
  const inner = dot < 0 ? (namespace ?? space) : name.slice(0, dot)
  const full = dot < 0 && inner !== '' ? `${inner}.${name}` : name
  let made: AvroShape | null = null
  known.set(full, {
    type: 'jsonb',
    branch: full,
    fromJson: raw => made!.fromJson(raw),
    textOf: value => made!.textOf(value),
  })
  made = { ...make({ known, space: inner }), branch: full }
  known.set(full, made)
  return made
}

function nestedUnion(branches: readonly unknown[], names: Names): AvroShape {
  const shapes = branches.filter(one => one !== 'null').map(one => shapeOf(one, names))
  const of = shapes.length === 1 ? shapes[0]! : unionOf(shapes)
  const isNullable = branches.includes('null')
  return {
    type: of.type,
    branch: '',
    fromJson: raw => (isNullable && raw === 'null' ? raw : of.fromJson(raw)),
    textOf: value => optional(true, shapes, value),
  }
}

function recordShape(object: AvroObject, names: Names): AvroShape {
  const fields = fieldsOf(object, names)
  const columns = fields.map(({ name, shape, isNullable, absent }) => ({
    ...shape,
    name,
    isNullable,
    absent,
  }))
  return {
    type: 'jsonb',
    branch: '',
    fromJson: raw => objectOf(declaredMembers(columns, membersOf(raw) ?? refuse(raw, 'no JSON object'))),
    textOf: value =>
      objectOf(fields.map(({ name, textOf }) => [name, textOf((value as Record<string, unknown>)[name])])),
  }
}

function enumShape({ symbols = [] }: AvroObject): AvroShape {
  const known = new Set(symbols.map(quote))
  return {
    type: 'text',
    branch: '',
    fromJson: raw => (known.has(raw) ? raw : refuse(raw, `none of ${symbols.join(', ')}`)),
    textOf: quoted,
  }
}

function fixedShape({ size = 0 }: AvroObject): AvroShape {
  const { fromJson } = scalar('bytea')
  return {
    type: 'bytea',
    branch: '',
    fromJson: raw =>
      Buffer.from(fromJson(raw), 'base64').length === size ? raw : refuse(raw, `not of ${size} bytes`),
    textOf: bytesText,
  }
}

const arrayShape = (item: AvroShape): AvroShape => ({
  type: 'jsonb',
  branch: 'array',
  fromJson: raw => `[${(itemsOf(raw) ?? refuse(raw, 'no JSON array')).map(item.fromJson).join(',')}]`,
  textOf: value => `[${(value as readonly unknown[]).map(item.textOf).join(',')}]`,
})

const mapShape = (of: AvroShape): AvroShape => ({
  type: 'jsonb',
  branch: 'map',
  fromJson: raw =>
    objectOf(
      (membersOf(raw) ?? refuse(raw, 'no JSON object')).map(([name, one]) => [name, of.fromJson(one)]),
    ),
  textOf: value => objectOf(Object.entries(value as object).map(([name, one]) => [name, of.textOf(one)])),
})

/** Two's complement, big end first. */
export function decimalText(bytes: Buffer, scale: number): string {
  const value =
    bytes.length === 0 ? 0n : BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString('hex')}`))
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, '0')
  const whole = digits.slice(0, digits.length - scale)
  return `${value < 0n ? '-' : ''}${whole}${scale > 0 ? `.${digits.slice(-scale)}` : ''}`
}
