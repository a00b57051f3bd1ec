/** A sink that takes a part: records of other tables pass it by, the offset moves on. */
import type { Writer } from '../connector.ts'
import { rewritten } from '../flow.ts'

/** `tables`: "schema.table", with `*`. */
export function only(writer: Writer, tables: readonly string[]): Writer {
  const patterns = tables.map(
    table =>
      new RegExp(
        `^${table
          .split('*')
          .map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
          .join('.*')}$`,
      ),
  )
  return rewritten(writer, batch =>
    writer.write({
      ...batch,
      records: batch.records.filter(({ table }) =>
        patterns.some(one => one.test(`${table.schema}.${table.name}`)),
      ),
    }),
  )
}
