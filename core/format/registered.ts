/**
 * Keys and values of topics that stand behind a schema's id, in Confluent's wire format, as rows:
 *
 *   Avro       0, the schema's id as i32, bytes
 *   Protobuf   0, the schema's id as i32, which message (a count and so many places as zigzag varints; 0: the first), bytes
 *
 * Each is read by the schema it was written with, so that its columns are those of that schema.
 */
import { ConnectorError } from '../errors.ts'
import type { Column } from '../record.ts'
import { avroRows } from './avro-rows.ts'
import type { DeclaredRows } from './declared.ts'
import type { Member } from './json-row.ts'
import { messageAt, protobufRows } from './protobuf-rows.ts'
import type { Registry } from './registry.ts'

export interface RegisteredRow {
  /** The same list for the same schema. */
  readonly columns: readonly Column[]
  readonly members: readonly Member[]
}

export interface RegisteredReader {
  /** To be called before `row`: asks the registry for the schemas that are not known yet. */
  prepare(parts: readonly (Buffer | null)[]): Promise<void>
  /** null: it does not stand behind a schema's id. Throws `data` for what its schema does not read. */
  row(bytes: Buffer): RegisteredRow | null
}

interface Decoder {
  readonly columns: readonly Column[]
  decode(body: Buffer): Iterable<Member[]>
}
const decoderOf = ({ columns, decode }: DeclaredRows): Decoder => ({
  columns: columns.map(({ name, type }) => ({ name, type })),
  decode,
})
type Known = (bytes: Buffer) => { readonly decoder: Decoder; readonly body: Buffer }

const HEAD_BYTES = 5
const idOf = (bytes: Buffer): number | null =>
  bytes.length >= HEAD_BYTES && bytes[0] === 0 ? bytes.readInt32BE(1) : null

/** `single`: the column of a value that is no record, as a key of a plain text. */
export function registeredReader(registry: Registry, single: string): RegisteredReader {
  const known = new Map<number, Known>()
  const learn = async (id: number) => {
    const { schema, type } = await registry.byId(id)
    known.set(id, type === 'PROTOBUF' ? protobufOf(schema) : avroOf(schema, type, single))
  }
  return {
    async prepare(parts) {
      for (const part of parts) {
        const id = part && idOf(part)
        if (id !== null && !known.has(id)) await learn(id)
      }
    },
    row(bytes) {
      const id = idOf(bytes)
      if (id === null) return null
      const { decoder, body } = known.get(id)!(bytes)
      const [members] = decoder.decode(body)
      return { columns: decoder.columns, members: members! }
    },
  }
}

function avroOf(schema: string, type: string, single: string): Known {
  if (type !== 'AVRO')
    throw new ConnectorError(
      'config',
      `the schema registry has a schema of type ${type}, which is not read`,
      {
        hint: 'Avro and Protobuf are; JSON with a schema is read where it has no id in front of it.',
      },
    )
  const parsed = JSON.parse(schema) as { type?: unknown }
  // A record of one field has the bytes of that field.
  const record =
    parsed?.type === 'record'
      ? schema
      : JSON.stringify({ type: 'record', name: 'Single', fields: [{ name: single, type: parsed }] })
  const decoder = decoderOf(avroRows(record))
  return bytes => ({ decoder, body: bytes.subarray(HEAD_BYTES) })
}

function protobufOf(schema: string): Known {
  const decoders = new Map<string, Decoder>()
  return bytes => {
    const { path, end } = pathOf(bytes)
    const place = path.join()
    const decoder = decoders.get(place) ?? decoderOf(protobufRows(schema, messageAt(schema, path)))
    decoders.set(place, decoder)
    return { decoder, body: bytes.subarray(end) }
  }
}

/** Which message of the schema: a place at the top, then places inside of it. */
function pathOf(bytes: Buffer): { readonly path: readonly number[]; readonly end: number } {
  let at = HEAD_BYTES
  const next = (): number => {
    let [value, shift] = [0, 0]
    for (;;) {
      const byte = bytes[at++]
      if (byte === undefined || shift > 28)
        throw new ConnectorError('data', 'the bytes end inside the place of a Protobuf message')
      value |= (byte & 127) << shift
      if (byte < 128) return (value >>> 1) ^ -(value & 1)
      shift += 7
    }
  }
  const count = next()
  const path = Array.from({ length: Math.min(count, bytes.length) }, next)
  return { path: count === 0 ? [0] : path, end: at }
}
