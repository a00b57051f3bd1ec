/** A place of objects that a test can write to, and how a source reads it to its end. */
import type { Batch, Context, Log, Offset, Reader, Source } from '../../../core/connector.ts'
import type { ConnectorError } from '../../../core/errors.ts'
import type { ChangeRecord } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'

export interface ObjectPlace extends AsyncDisposable {
  readonly source: Source
  /** The options of the place. */
  readonly place: object
  write(name: string, bytes: string | Buffer): Promise<void>
  remove(name: string): Promise<void>
}

export const linesFrom = (from: number, to: number, more: object = {}): string =>
  Array.from({ length: to - from }, (_, i) => `${JSON.stringify({ id: from + i, ...more })}\n`).join('')

export const openSource = (
  { source, place }: ObjectPlace,
  over: object,
  from: Offset | null,
  context: Context,
): Promise<Reader<ChangeRecord>> =>
  source.open(source.config.parse({ ...place, settle_ms: 0, follow_ms: 20, ...over }) as never, from, context)

export interface Read {
  readonly records: readonly ChangeRecord[]
  readonly offset: Offset
  /** Behind each batch. */
  readonly offsets: readonly Offset[]
  readonly error: ConnectorError | null
}

/** Until all that stood there was read and `until` holds; or an error. */
export async function readAll(
  place: ObjectPlace,
  over: object = {},
  from: Offset | null = null,
  {
    until = () => true,
    onLevel,
    log,
  }: {
    until?: (records: readonly ChangeRecord[]) => boolean
    onLevel?: () => Promise<void>
    log?: Log
  } = {},
): Promise<Read> {
  const stop = new AbortController()
  const context = testContext({ signal: stop.signal, ...(log ? { log } : {}) })
  const reader = await openSource(place, over, from, context)
  const records: ChangeRecord[] = []
  const offsets: Offset[] = []
  let isLevel = false
  try {
    for await (const batch of reader as AsyncIterable<Batch<ChangeRecord>>) {
      records.push(...batch.records)
      offsets.push(JSON.parse(JSON.stringify(batch.offset)) as Offset)
      if (batch.caughtUp && !isLevel) {
        isLevel = true
        await onLevel?.()
        onLevel = undefined
      }
      if (isLevel && until(records)) break
    }
    return { records, offsets, offset: offsets.at(-1) ?? from, error: null }
  } catch (error) {
    return { records, offsets, offset: offsets.at(-1) ?? from, error: error as ConnectorError }
  } finally {
    stop.abort()
    await reader[Symbol.asyncDispose]()
  }
}

export const idsOf = ({ records }: Pick<Read, 'records'>): number[] =>
  records.map(({ after }) => (JSON.parse(after!) as { id: number }).id)

/** Warnings are kept. */
export function noting(): { log: Log; warnings: string[] } {
  const warnings: string[] = []
  return { warnings, log: { debug() {}, info() {}, warn: (_, text) => void warnings.push(text), error() {} } }
}
