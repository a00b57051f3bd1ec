/**
 * Rows of a Protobuf message that somebody else declared: JSON checked against it, by the names of its fields, and its bytes read.
 *
 *   bool bool   *int32, *fixed32 int4 (unsigned: int8)   *int64, *fixed64 int8 (unsigned: numeric)   float float4   double float8
 *   string, enums text   bytes bytea   repeated, map, messages jsonb
 *
 * A field that has presence is null where it is not set, another one what Protobuf says: 0, "", false, [].
 */
import protobuf from 'protobufjs'
import { ConnectorError } from '../errors.ts'
import { quote } from '../row.ts'
import {
  type DeclaredColumn,
  type DeclaredRows,
  declaredMembers,
  NOT_FINITE,
  refuse,
  type Shape,
  scalar,
} from './declared.ts'
import { itemsOf, type Member, membersOf, objectOf } from './json-row.ts'
import type { TextType } from './typed-text.ts'

interface ProtobufShape extends Shape {
  /** Of a value that the library read. */
  textOf(value: unknown): string
}

interface ProtobufColumn extends DeclaredColumn {
  textOf(value: unknown): string
  /** Has the message its own value for it, or only what stands for none? */
  readonly hasPresence: boolean
}

export function protobufRows(text: string, name: string): DeclaredRows {
  const { root, imports = [], weakImports = [] } = protobuf.parse(text, { keepCase: true })
  const [first] = [...imports, ...weakImports]
  if (first !== undefined)
    throw new ConnectorError('config', `the .proto imports ${first}, and imports are not read`, {
      hint: 'Write what it takes from there into the file.',
    })
  let type: protobuf.Type
  try {
    type = root.lookupType(name)
    root.resolveAll()
  } catch (error) {
    throw new ConnectorError('config', (error as Error).message, {
      hint: '`message` names a message of the .proto, with its package if it has one.',
    })
  }
  const columns = columnsOf(type, new Map())
  return {
    columns,
    *decode(body) {
      let message: unknown
      try {
        message = type.decode(body)
      } catch (error) {
        throw new ConnectorError('data', `the bytes are no ${name}: ${(error as Error).message}`)
      }
      yield membersOfMessage(columns, message)
    },
  }
}

/** The full name of a message by its place in the file, and inside others. Throws `config` where there is none. */
export function messageAt(text: string, path: readonly number[]): string {
  const { root } = protobuf.parse(text, { keepCase: true })
  const typesIn = (space: protobuf.NamespaceBase) =>
    space.nestedArray.filter(one => one instanceof protobuf.Type)
  const { package: space } = protobuf.parse(text)
  let found: protobuf.NamespaceBase = space === undefined ? root : (root.lookup(space) as protobuf.Namespace)
  for (const place of path) {
    const next: protobuf.Type | undefined = typesIn(found)[place]
    if (!next) throw new ConnectorError('config', `the Protobuf schema has no message at ${path.join('.')}`)
    found = next
  }
  return found.fullName.replace(/^\./, '')
}

const membersOfMessage = (columns: readonly ProtobufColumn[], message: unknown): Member[] =>
  columns.map(({ name, textOf, hasPresence, absent }): Member => {
    const value = (message as Record<string, unknown>)[name]
    const isSet = Object.hasOwn(message as object, name) && value !== null && value !== undefined
    return [name, isSet ? textOf(value) : hasPresence ? 'null' : absent!]
  })

const bits = (type: TextType): ProtobufShape => ({ ...scalar(type), textOf: String })
const unsigned = (type: TextType, most: bigint): ProtobufShape => {
  const { fromJson } = scalar(type)
  return {
    type,
    fromJson(raw) {
      const text = fromJson(raw)
      const digits = text.replaceAll('"', '')
      if (!/^\d+$/.test(digits) || BigInt(digits) > most)
        refuse(raw, 'no integer without a sign, or too large')
      return text
    },
    textOf: value => (type === 'numeric' ? `"${value}"` : String(value)),
  }
}
const float = (type: TextType): ProtobufShape => ({
  ...scalar(type),
  textOf: value =>
    NOT_FINITE.has(String(value)) ? `"${value}"` : Object.is(value, -0) ? '-0' : String(value),
})
const UINT32 = 2n ** 32n - 1n
const UINT64 = 2n ** 64n - 1n

const SCALARS: Readonly<Record<string, readonly [shape: ProtobufShape, unset: string]>> = {
  bool: [bits('bool'), 'false'],
  int32: [bits('int4'), '0'],
  sint32: [bits('int4'), '0'],
  sfixed32: [bits('int4'), '0'],
  uint32: [unsigned('int8', UINT32), '0'],
  fixed32: [unsigned('int8', UINT32), '0'],
  int64: [bits('int8'), '0'],
  sint64: [bits('int8'), '0'],
  sfixed64: [bits('int8'), '0'],
  uint64: [unsigned('numeric', UINT64), '"0"'],
  fixed64: [unsigned('numeric', UINT64), '"0"'],
  float: [float('float4'), '0'],
  double: [float('float8'), '0'],
  string: [{ ...scalar('text'), textOf: value => quote(value as string) }, '""'],
  bytes: [
    { ...scalar('bytea'), textOf: value => `"${Buffer.from(value as Uint8Array).toString('base64')}"` },
    '""',
  ],
}

/** `known`: messages that are being looked at, of which one may be inside itself. */
function columnsOf(type: protobuf.Type, known: Map<protobuf.Type, ProtobufColumn[]>): ProtobufColumn[] {
  const before = known.get(type)
  if (before) return before
  const columns: ProtobufColumn[] = []
  known.set(type, columns)
  for (const field of type.fieldsArray) {
    const [one, unset] = shapeOf(field, known)
    const shape = field.map
      ? mapShape(one, keyTextOf(field as unknown as protobuf.MapField))
      : field.repeated
        ? listShape(one)
        : one
    const isMany = field.map || field.repeated
    const hasPresence = !isMany && (field.resolvedType instanceof protobuf.Type || field.hasPresence)
    columns.push({
      ...shape,
      name: field.name,
      isNullable: hasPresence && !field.required,
      hasPresence,
      absent: field.required ? null : hasPresence ? 'null' : field.map ? '{}' : field.repeated ? '[]' : unset,
    })
  }
  return columns
}

function shapeOf(
  { resolvedType, type }: protobuf.Field,
  known: Map<protobuf.Type, ProtobufColumn[]>,
): readonly [shape: ProtobufShape, unset: string] {
  if (resolvedType instanceof protobuf.Enum) return enumShape(resolvedType)
  if (resolvedType instanceof protobuf.Type) return [messageShape(columnsOf(resolvedType, known)), 'null']
  return SCALARS[type]!
}

function enumShape({ values, valuesById }: protobuf.Enum): readonly [ProtobufShape, string] {
  const names = Object.keys(values)
  const shape: ProtobufShape = {
    type: 'text',
    fromJson: raw =>
      names.some(name => raw === quote(name)) ? raw : refuse(raw, `none of ${names.join(', ')}`),
    // A number that the .proto does not know may come from a newer one.
    textOf: value => quote(valuesById[value as number] ?? String(value)),
  }
  return [shape, quote(valuesById[0] ?? names[0]!)]
}

const messageShape = (columns: readonly ProtobufColumn[]): ProtobufShape => ({
  type: 'jsonb',
  fromJson: raw => objectOf(declaredMembers(columns, membersOf(raw) ?? refuse(raw, 'no JSON object'))),
  textOf: value => objectOf(membersOfMessage(columns, value)),
})

const listShape = ({ fromJson, textOf }: ProtobufShape): ProtobufShape => ({
  type: 'jsonb',
  fromJson: raw => `[${(itemsOf(raw) ?? refuse(raw, 'no JSON array')).map(fromJson).join(',')}]`,
  textOf: value => `[${(value as readonly unknown[]).map(textOf).join(',')}]`,
})

/** The library holds keys of 64 bits as eight bytes of text. */
const keyTextOf = ({ keyType }: { readonly keyType: string }): ((key: string) => string) =>
  /64$/.test(keyType)
    ? key => String(protobuf.util.longFromHash(key, keyType.startsWith('u') || keyType === 'fixed64'))
    : key => key

const mapShape = ({ fromJson, textOf }: ProtobufShape, keyText: (key: string) => string): ProtobufShape => ({
  type: 'jsonb',
  fromJson: raw =>
    objectOf((membersOf(raw) ?? refuse(raw, 'no JSON object')).map(([name, one]) => [name, fromJson(one)])),
  textOf: value => objectOf(Object.entries(value as object).map(([key, one]) => [keyText(key), textOf(one)])),
})
