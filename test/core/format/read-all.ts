/** All rows of a file that comes in, by its name. */
import { kindOfName, type ReadOptions, rowsOf } from '../../../core/format/reading.ts'
import type { Bytes, ReadFrom, RowIn } from '../../../core/format/row-in.ts'

export const START: ReadFrom = { line: 0, byte: 0 }
export const optionsOf = (name: string): ReadOptions => ({
  ...kindOfName(name)!,
  csv: { delimiter: ',', names: null },
})

/** With the ranges that were asked for. */
export const counted = (bytes: Buffer): Bytes & { readonly ranges: [number, number][] } => {
  const ranges: [number, number][] = []
  return {
    size: bytes.length,
    ranges,
    async range(from, length) {
      ranges.push([from, length])
      return Buffer.from(bytes.subarray(from, from + length)) // of its own, as a store gives it
    },
  }
}

export async function readAll(name: string, bytes: Buffer | Bytes, from = START): Promise<RowIn[]> {
  const rows: RowIn[] = []
  for await (const some of rowsOf(Buffer.isBuffer(bytes) ? counted(bytes) : bytes, optionsOf(name), from))
    rows.push(...some)
  return rows
}
