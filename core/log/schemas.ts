/** The shapes of tables that a log has seen, by number: a block names its shape by it. Does not write them anywhere. */
import type { Table } from '../record.ts'

export interface Schemas {
  readonly byId: ReadonlyMap<number, Table>
  /** Gives a new shape the next number, and notes that the log does not hold it yet. */
  idOf(table: Table): number
  /** Found on disk. */
  learn(schemas: { readonly [id: string]: Table }): void
  /** Shapes that neither the active segment's header nor its frames hold. */
  readonly unwritten: ReadonlyMap<number, Table>
  /** All of them are on disk now. */
  written(): void
}

export function schemaBook(): Schemas {
  const byId = new Map<number, Table>()
  const ids = new Map<string, number>()
  /** Records share their table: mostly one look. */
  const known = new WeakMap<Table, number>()
  const unwritten = new Map<number, Table>()
  const add = (id: number, table: Table) => {
    byId.set(id, table)
    ids.set(JSON.stringify(table), id)
  }
  return {
    byId,
    unwritten,
    idOf(table) {
      const seen = known.get(table) ?? ids.get(JSON.stringify(table))
      const id = seen ?? byId.size + 1
      known.set(table, id)
      if (seen === undefined) {
        add(id, table)
        unwritten.set(id, table)
      }
      return id
    },
    learn(schemas) {
      for (const [id, table] of Object.entries(schemas)) add(Number(id), table)
    },
    written: () => unwritten.clear(),
  }
}
