/** One row after another as Avro, without a container: what stands behind a schema's id in Confluent's wire format. */
import avro from 'avsc'
import { avroSchema, branchOf, longs, namesOf, wrapped } from './avro.ts'
import type { TypedColumn, TypedValue } from './columns.ts'

export interface AvroRecord {
  /** JSON text. */
  readonly schema: string
  /** `values` in the order of the columns; the bytes stand behind `head`. */
  encode(values: readonly TypedValue[], head: Buffer): Buffer
}

export function avroRecord(name: string, columns: readonly TypedColumn[]): AvroRecord {
  const schema = avroSchema(name, columns)
  const type = avro.Type.forSchema(schema as avro.Schema, { typeHook: longs, wrapUnions: true })
  const names = namesOf(columns)
  const branches = columns.map(({ kind }) => branchOf(kind))
  let buffer = Buffer.allocUnsafe(4_096)
  return {
    schema: JSON.stringify(schema),
    encode(values, head) {
      const row: Record<string, object | null> = {}
      for (let i = 0; i < names.length; i++) row[names[i]!] = wrapped(values[i]!, branches[i]!)
      let end = type.encode(row, buffer, head.length)
      if (end < 0) {
        buffer = Buffer.allocUnsafe(2 * buffer.length - end) // so many were missing
        end = type.encode(row, buffer, head.length)
      }
      head.copy(buffer, 0)
      return Buffer.from(buffer.subarray(0, end))
    },
  }
}
