/** Tables of other columns than the kit's, and their rows: what the cases of SQL sinks write. */
import type { LogRecord, Table } from '../../../core/record.ts'
import { KIT_TABLE } from '../../conform/kit-table.ts'

/** Beside `id`. */
export const withColumns = (...columns: [name: string, type: string][]): Table => ({
  ...KIT_TABLE,
  columns: [{ name: 'id', type: 'int8' }, ...columns.map(([name, type]) => ({ name, type }))],
})

export const shaped = (table: Table, row: string | object, record: LogRecord): LogRecord => ({
  ...record,
  table,
  after: typeof row === 'string' ? row : JSON.stringify(row),
})
