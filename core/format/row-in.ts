/** A file that comes in, and a row of it: what the readers of the formats have in common. */

/** A file's bytes, by range. It must stay as it is: `range` throws when it does not. */
export interface Bytes {
  readonly size: number
  range(from: number, length: number): Promise<Buffer>
}

export interface RowIn {
  readonly names: readonly string[]
  /** Raw JSON text of each. */
  readonly values: readonly string[]
  /** Names of `Column.type`, the same list for rows of one shape; null: the values tell. */
  readonly types: readonly string[] | null
  /** Rises from row to row. Of text: the line on which the row ends; of Parquet: its number, from 1. */
  readonly line: number
  /** Where the next one begins, in a file that can be entered there; else 0. */
  readonly behind: number
}

/** Rows behind `line` come. `byte`: the `behind` of that line, 0 to read from the file's beginning. */
export interface ReadFrom {
  readonly line: number
  readonly byte: number
}

export interface CsvOptions {
  readonly delimiter: string
  /** Names of the columns where no line has them; null: the first line has. */
  readonly names: readonly string[] | null
}
