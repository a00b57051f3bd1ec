/** A sink that takes a part: records of other tables pass it by, the offset moves on. */
import type { Writer } from '../connector.ts'

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
  const chosen: Writer = {
    write: batch =>
      writer.write({
        ...batch,
        records: batch.records.filter(({ table }) =>
          patterns.some(one => one.test(`${table.schema}.${table.name}`)),
        ),
      }),
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  }
  if (writer.position) chosen.position = () => writer.position!()
  if (writer.highest) chosen.highest = () => writer.highest!()
  return chosen
}
