/**
 * Transforms as the rest sees them: the verbs there are, and the wrapper that puts steps before a writer. A record that a step
 * refuses is a rejection like any other, of the record *as it was read*; so is one that the writer refuses after the steps.
 */
import type { Batch, Rejected, Writer } from '../connector.ts'
import { ConnectorError, Fenced } from '../errors.ts'
import { rewritten } from '../flow.ts'
import type { ChangeRecord } from '../record.ts'
import { drop } from './drop.ts'
import { mask } from './mask.ts'
import { rename } from './rename.ts'
import type { Step, Transform } from './verb.ts'

export type { Step, Transform } from './verb.ts'

/** Every verb: one import and one line each. */
export const transforms: ReadonlyMap<string, Transform> = new Map(
  [rename, drop, mask].map(one => [one.name, one as unknown as Transform]),
)

/** `steps` in order, before `writer`. Has a position exactly when `writer` has one. */
export function transformed<R extends ChangeRecord>(writer: Writer<R>, steps: readonly Step[]): Writer<R> {
  return rewritten(writer, async batch => {
    const { records, rejected, asRead } = applied(batch, steps)
    // A writer with a position writes all and the offset, or nothing (P1): the pump comes again without these.
    if (rejected.length > 0 && writer.position) return rejected
    const refused = await writer.write(asRead.size + rejected.length === 0 ? batch : { ...batch, records })
    if (refused.length === 0) return rejected
    return [...rejected, ...refused.map(one => ({ ...one, record: asRead.get(one.record) ?? one.record }))]
  })
}

interface Applied<R extends ChangeRecord> {
  readonly records: R[]
  readonly rejected: Rejected<R>[]
  /** Of the records that a step changed: how they were read. */
  readonly asRead: Map<R, R>
}

function applied<R extends ChangeRecord>(batch: Batch<R>, steps: readonly Step[]): Applied<R> {
  const out: Applied<R> = { records: [], rejected: [], asRead: new Map() }
  for (const record of batch.records) {
    const result = throughSteps(record, steps)
    if ('stage' in result) {
      out.rejected.push(result)
      continue
    }
    out.records.push(result)
    if (result !== record) out.asRead.set(result, record)
  }
  return out
}

function throughSteps<R extends ChangeRecord>(record: R, steps: readonly Step[]): R | Rejected<R> {
  if (record.op === 'sweep') return record
  let result = record
  for (const step of steps) {
    try {
      result = step.apply(result)
    } catch (thrown) {
      if (thrown instanceof Fenced) throw thrown
      return { record, stage: step.name, error: asData(step, thrown) }
    }
  }
  return result
}

/**
 * Whatever a step throws, it is this record that it cannot take; the next one may do. The message of a foreign error stays in
 * `cause`: it may quote what a mask is to hide.
 */
const asData = (step: Step, thrown: unknown): ConnectorError =>
  thrown instanceof ConnectorError
    ? thrown
    : new ConnectorError(
        'data',
        `${step.name} cannot read the row: it is no JSON object as the log holds it`,
        {
          cause: thrown,
        },
      )
