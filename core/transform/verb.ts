/**
 * The contract of transforms: a verb with its options, and what it becomes when a pipeline uses it. Holds no verb itself.
 */
import type { z } from 'zod'
import type { ChangeRecord, Table } from '../record.ts'

/** A verb with its options, as it stands in a pipeline. Pure; keeps nothing but what it has worked out per table. */
export interface Step {
  /** The verb: stands as `stage` on what it rejects. */
  readonly name: string
  /**
   * The table as it is after the step; the same object when the step does not touch it. Throws ConnectorError `data`
   * for what can never work (a key column, two columns of one name); `plan` asks before anything runs.
   */
  shape(table: Table): Table
  /** The same object when nothing changes. Throws ConnectorError `data` to refuse the record. Never sees sweeps. */
  apply<R extends ChangeRecord>(record: R): R
  /** Those of its field patterns that match no column of `tables`: a mask that masks nothing is a mistake. */
  unmatched(tables: readonly Table[]): readonly string[]
}

export interface Transform<O extends z.ZodObject = z.ZodObject> {
  /** A verb = the file = the key in YAML. */
  readonly name: string
  /** One sentence for docs and editors. */
  readonly summary: string
  /** A strictObject; each field carries .meta({ title, description }). */
  readonly schema: O
  /** Each is run by a test: a row before and after. */
  readonly examples: readonly {
    readonly title: string
    readonly options: z.input<O>
    readonly before: string
    readonly after: string
  }[]
  make(options: z.output<O>): Step
}

export const defineTransform = <O extends z.ZodObject>(transform: Transform<O>): Transform<O> => transform
