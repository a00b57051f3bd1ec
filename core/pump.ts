/**
 * The whole data plane: read, write, set the bad ones aside, remember, let go. The order of these statements *is* the
 * delivery guarantee (rules P1, P2); swapping two of them makes the simulation fail. Everything else is a wrapper around
 * `reader` or `writer`. Does not open, close, retry or log.
 */
import type { Batch, Offset, Reader, Rejected, Writer } from './connector.ts'
import type { ChangeRecord, LogRecord } from './record.ts'

/** Where a task's progress stands when its writer has no `position` of its own. Whoever opened it closes it, where it can be. */
export interface Progress extends Partial<AsyncDisposable> {
  load(): Promise<Offset | null>
  /** Compared-and-set on the offset last loaded or saved; throws Fenced. */
  save(offset: Offset): Promise<void>
}

/** Idempotent by (sink, topic, partition, offset) of the record as it was read. */
export interface DeadLetters<R extends ChangeRecord = LogRecord> {
  add(rejected: readonly Rejected<R>[]): Promise<void>
}

/** Where a task goes on: the offset kept with the data, else the progress. */
export const resumeAt = <R extends ChangeRecord>(
  writer: Writer<R>,
  progress: Progress,
): Promise<Offset | null> => (writer.position ? writer.position() : progress.load())

export async function pump<R extends ChangeRecord>(
  reader: Reader<R>,
  writer: Writer<R>,
  progress: Progress,
  dead: DeadLetters<R>,
): Promise<void> {
  let told: Offset | null = null
  for await (const batch of reader) {
    let left = batch
    for (;;) {
      const rejected = await writer.write(left)
      if (rejected.length === 0) break
      await dead.add(rejected)
      if (!writer.position) break // it wrote the good ones
      left = without(left, rejected) // it wrote nothing: again, without the bad ones
    }
    const durable: Offset | null = writer.durable ? writer.durable() : batch.offset
    if (writer.durable && (durable === null || durable === told)) continue // it gathers: nothing more is durable
    told = durable
    if (!writer.position) await progress.save(durable!)
    await reader.commit?.(durable!) // only now may the upstream forget
  }
}

function without<R extends ChangeRecord>(batch: Batch<R>, rejected: readonly Rejected<R>[]): Batch<R> {
  const bad = new Set<R>(rejected.map(one => one.record))
  const records = batch.records.filter(record => !bad.has(record))
  if (records.length === batch.records.length)
    throw new Error('a writer rejected records that were not in its batch; wrappers must map theirs back')
  return { records, offset: batch.offset }
}
