/**
 * Steps that work column by column (rename, drop, mask): what happens to each column is worked out once for each shape of a
 * table, then done on the raw JSON text of `before` and `after`. Keys are never touched: see `refuseKey`.
 */
import { ConnectorError } from '../errors.ts'
import type { ChangeRecord, Column, Table } from '../record.ts'
import { joinRow, splitRow } from '../row.ts'
import type { Field } from './fields.ts'
import type { Step } from './verb.ts'

/** What becomes of a column. null: it is left out. */
export type Edit = {
  readonly name: string
  /** null: as it was. */
  readonly type: string | null
  /** Raw JSON text to raw JSON text; null: as it was. */
  readonly value: ((raw: string) => string) | null
} | null

export interface ColumnRule {
  readonly name: string
  readonly fields: readonly Field[]
  /** What `fields[field]` does to the column. */
  edit(column: string, field: number): Edit
}

interface Shaped {
  readonly table: Table
  /** Only of columns that change. */
  readonly edits: ReadonlyMap<string, Edit>
}

export function columnStep(rule: ColumnRule): Step {
  // Records of one shape share their Table, so that this is worked out once, mistakes included.
  const known = new WeakMap<Table, Shaped | ConnectorError>()
  const shapedOf = (table: Table): Shaped => {
    let shaped = known.get(table)
    if (!shaped) {
      shaped = shapedOrError(rule, table)
      known.set(table, shaped)
    }
    if (shaped instanceof ConnectorError) throw shaped
    return shaped
  }
  return {
    name: rule.name,
    shape: table => shapedOf(table).table,
    apply<R extends ChangeRecord>(record: R): R {
      const { table, edits } = shapedOf(record.table)
      if (edits.size === 0) return record
      return { ...record, table, before: edited(record.before, edits), after: edited(record.after, edits) }
    },
    unmatched: tables =>
      rule.fields
        .filter(field => !tables.some(table => table.columns.some(({ name }) => field.matches(table, name))))
        .map(field => field.text),
  }
}

function shapedOrError(rule: ColumnRule, table: Table): Shaped | ConnectorError {
  try {
    return shapedBy(rule, table)
  } catch (error) {
    if (error instanceof ConnectorError) return error
    throw error
  }
}

function shapedBy(rule: ColumnRule, table: Table): Shaped {
  const edits = new Map<string, Edit>()
  const columns: Column[] = []
  for (const column of table.columns) {
    // The first pattern that matches decides.
    const field = rule.fields.findIndex(one => one.matches(table, column.name))
    if (field < 0) {
      columns.push(column)
      continue
    }
    refuseKey(rule, table, column.name)
    const edit = rule.edit(column.name, field)
    edits.set(column.name, edit)
    if (edit) columns.push({ name: edit.name, type: edit.type ?? column.type })
  }
  refuseTwins(rule, table, columns)
  return { table: edits.size === 0 ? table : { ...table, columns }, edits }
}

/**
 * The key names the row everywhere: in the log's partitions, in the sinks' ids, in the handoff from snapshot to stream. A step
 * that changed it would part a row from its past (V7).
 */
function refuseKey({ name }: ColumnRule, table: Table, column: string): void {
  if (!table.key.includes(column)) return
  throw new ConnectorError(
    'data',
    `${name} cannot touch "${column}": it is of the key (${table.key.join(', ')}) of ${table.schema}.${table.name}`,
    { hint: 'Name the other columns, or leave the table out.' },
  )
}

function refuseTwins({ name }: ColumnRule, table: Table, columns: readonly Column[]): void {
  const seen = new Set<string>()
  for (const column of columns) {
    if (seen.has(column.name))
      throw new ConnectorError(
        'data',
        `${name} would give ${table.schema}.${table.name} two columns "${column.name}"`,
        { hint: `Drop or rename the "${column.name}" that is there, in a step before.` },
      )
    seen.add(column.name)
  }
}

function edited(row: string | null, edits: ReadonlyMap<string, Edit>): string | null {
  if (row === null) return null
  const { names, values } = splitRow(row)
  const out = { names: [] as string[], values: [] as string[] }
  for (let i = 0; i < names.length; i++) {
    const edit = edits.get(names[i]!)
    if (edit === null) continue
    out.names.push(edit ? edit.name : names[i]!)
    out.values.push(edit?.value ? edit.value(values[i]!) : values[i]!)
  }
  return joinRow(out)
}
