/** A keyed sink without a position, as Redis or Elasticsearch would be: survives kills, guards by version, keeps tombstones. */
import { assertLease, type Batch, type Context, type Offset, type Writer } from '../../core/connector.ts'
import { type LogRecord, originOf } from '../../core/record.ts'

interface Cell {
  readonly n: number | null
  readonly version: number
  readonly origin: string
}

export interface MemoryStore {
  readonly cells: Map<string, Cell>
  open(context: Context): Writer
  /** `<table>/<id>` → n */
  rows(): Map<string, number>
}

export function memoryStore(): MemoryStore {
  const cells = new Map<string, Cell>()
  const apply = (record: LogRecord) => {
    const { table, version } = record
    if (record.op === 'sweep') {
      for (const [key, cell] of cells)
        if (cell.origin === originOf(record) && cell.n !== null && cell.version < record.below!)
          cells.set(key, { ...cell, n: null, version: record.below! })
      return
    }
    const key = `${table.name}/${(JSON.parse(record.key) as { id: number }).id}`
    if ((cells.get(key)?.version ?? -1) >= version) return
    const n = record.after === null ? null : (JSON.parse(record.after) as { n: number }).n
    cells.set(key, { n, version, origin: originOf(record) })
  }
  return {
    cells,
    open: context => ({
      async write(batch) {
        assertLease(context)
        batch.records.forEach(apply)
        return []
      },
      async [Symbol.asyncDispose]() {},
    }),
    rows: () =>
      new Map([...cells].flatMap(([key, cell]) => (cell.n === null ? [] : [[key, cell.n] as const]))),
  }
}

/** Gathers batches and hands them on when `flushes` says so, or when the log is silent. A kill loses what is gathered. */
export function gathering(writer: Writer, flushes: () => boolean): Writer {
  let gathered: Batch[] = []
  let durable: Offset | null = null
  return {
    ...writer,
    async write(batch) {
      gathered.push(batch)
      if (batch.records.length > 0 && !flushes()) return []
      for (const one of gathered) await writer.write(one)
      gathered = []
      durable = batch.offset
      return []
    },
    durable: () => durable,
  }
}
