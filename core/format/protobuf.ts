/**
 * Rows as Protobuf messages (proto3, every field `optional`, so that null differs from 0). Times, decimals, UUIDs and JSON are strings,
 * as the log has them. A field keeps its number for ever: what a table loses stays, and is not set; what it gains gets the next one; the
 * numbers there are come from the schema that the registry has. So a task that goes back to records from before a change, as each does that
 * is begun again, makes the same schema as the one that is ahead.
 *
 *   boolean bool   int int32   long int64   float float   double double   bytes bytes   the rest string
 */
import protobuf from 'protobufjs'
import { ConnectorError } from '../errors.ts'
import type { Kind, TypedColumn, TypedValue } from './columns.ts'

const TYPES: Readonly<Partial<Record<Kind, string>>> = {
  boolean: 'bool',
  int: 'int32',
  long: 'int64',
  float: 'float',
  double: 'double',
  bytes: 'bytes',
}
const typeOf = ({ kind }: TypedColumn): string => TYPES[kind] ?? 'string'

/** Kinds whose values are strings here, though other formats hold them as numbers: columns are asked for with this. */
export const AS_TEXT: ReadonlySet<Kind> = new Set([
  'decimal',
  'string',
  'json',
  'uuid',
  'date',
  'timestamp',
  'timestamptz',
])

/** The library's 64-bit integers, whose own types leave this out. */
const LONG = protobuf.util.Long as unknown as { fromString(text: string): unknown }

const nameOf = (text: string): string => text.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d|_|$)/, 'f')

interface Field {
  readonly name: string
  readonly type: string
  readonly number: number
}

export interface ProtobufMessage {
  /** A .proto. */
  readonly schema: string
  /** The bytes stand behind `head`. */
  encode(values: readonly TypedValue[], head: Buffer): Buffer
}

const FIRST_SYSTEM = 19_000 // 19000 to 19999 are Protobuf's own
const LAST_SYSTEM = 19_999

/** `previous`: the .proto that the registry has, or null. Throws `config` where a column's type changed: its number cannot mean both. */
export function protobufMessage(
  name: string,
  columns: readonly TypedColumn[],
  previous: string | null,
): ProtobufMessage {
  const { known, reserved } = fieldsOf(previous)
  const used = new Set([...known.values()].map(field => field.number).concat(reserved))
  let next = 1
  const free = (): number => {
    while (used.has(next) || (next >= FIRST_SYSTEM && next <= LAST_SYSTEM)) next++
    used.add(next)
    return next
  }
  if (used.size > 0) next = Math.max(...used) + 1
  const taken = new Set<string>()
  const fields = columns.map((column): Field => {
    let own = nameOf(column.name)
    for (let i = 2; taken.has(own); i++) own = `${nameOf(column.name)}_${i}`
    taken.add(own)
    const before = known.get(own)
    if (before && before.type !== typeOf(column))
      throw new ConnectorError(
        'config',
        `the field ${own} of the Protobuf message ${name} is ${before.type}, and the column ${column.name} needs ${typeOf(column)}`,
        {
          hint: 'A field’s type never changes. Rename the column with a transform, or write to another topic.',
        },
      )
    return { name: own, type: typeOf(column), number: before?.number ?? free() }
  })
  const kept = [...known.values()].filter(field => !taken.has(field.name))
  return messageOf(nameOf(name), fields, kept, reserved)
}

function fieldsOf(previous: string | null): { known: Map<string, Field>; reserved: number[] } {
  const known = new Map<string, Field>()
  const reserved: number[] = []
  if (previous === null) return { known, reserved }
  const { root } = protobuf.parse(previous, { keepCase: true })
  const message = root.nestedArray.find(one => one instanceof protobuf.Type)
  for (const { name, type, id } of message?.fieldsArray ?? []) known.set(name, { name, type, number: id })
  for (const range of message?.reserved ?? [])
    if (Array.isArray(range)) for (let at = range[0]!; at <= range[1]!; at++) reserved.push(at)
  return { known, reserved }
}

/** `kept`: fields that are not written. */
function messageOf(
  name: string,
  fields: readonly Field[],
  kept: readonly Field[],
  reserved: readonly number[],
): ProtobufMessage {
  const all = [...fields, ...kept].sort((a, b) => a.number - b.number)
  const lines = all.map(field => `  optional ${field.type} ${field.name} = ${field.number};\n`)
  const gone = reserved.length > 0 ? `  reserved ${reserved.join(', ')};\n` : ''
  const schema = `syntax = "proto3";\nmessage ${name} {\n${gone}${lines.join('')}}\n`
  const type = protobuf.parse(schema, { keepCase: true }).root.lookupType(name)
  return {
    schema,
    encode(values, head) {
      const object: Record<string, unknown> = {}
      for (const [i, { name: field }] of fields.entries()) {
        const value = values[i]
        if (value !== null && value !== undefined)
          object[field] = typeof value === 'bigint' ? LONG.fromString(String(value)) : value
      }
      return Buffer.concat([head, type.encode(object).finish()])
    },
  }
}
