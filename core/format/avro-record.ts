/** One row after another as Avro, without a container: what stands behind a schema's id in Confluent's wire format. */
import { avroEncoder } from './avro.ts'
import type { TypedColumn, TypedValue } from './columns.ts'

export interface AvroRecord {
  /** JSON text. */
  readonly schema: string
  /** `values` in the order of the columns; the bytes stand behind `head`. */
  encode(values: readonly TypedValue[], head: Buffer): Buffer
}

export function avroRecord(name: string, columns: readonly TypedColumn[]): AvroRecord {
  const { schema, put } = avroEncoder(name, columns)
  let buffer = Buffer.allocUnsafe(4_096)
  return {
    schema: JSON.stringify(schema),
    encode(values, head) {
      let end = put(values, buffer, head.length)
      if (end < 0) {
        buffer = Buffer.allocUnsafe(2 * buffer.length - end) // so many were missing
        end = put(values, buffer, head.length)
      }
      head.copy(buffer, 0)
      return Buffer.from(buffer.subarray(0, end))
    },
  }
}
