/**
 * Wrappers from Reader to Reader and Writer to Writer that any task may wear. The pump stays as it is.
 */
import type { Batch, Clock, Offset, Reader, Writer } from './connector.ts'
import type { ChangeRecord } from './record.ts'

/** Tells `seen` each batch that was written and let go. Rests on the pump calling `commit` after the write of each batch. */
export function observed<R extends ChangeRecord>(
  reader: Reader<R>,
  seen: (batch: Batch<R>) => void,
): Reader<R> {
  let current: Batch<R> | undefined
  return {
    async *[Symbol.asyncIterator]() {
      for await (const batch of reader) {
        current = batch
        yield batch
      }
    },
    async commit(offset: Offset) {
      await reader.commit?.(offset)
      if (current) seen(current)
    },
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  }
}

/** Retries nothing, hides nothing: measures how long each write took and hands it to `measured`. */
export function timed<R extends ChangeRecord>(
  writer: Writer<R>,
  clock: Clock,
  measured: (records: number, ms: number) => void,
): Writer<R> {
  const timedWriter: Writer<R> = {
    async write(batch) {
      const from = clock.monotonicMs()
      const rejected = await writer.write(batch)
      measured(batch.records.length - rejected.length, clock.monotonicMs() - from)
      return rejected
    },
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  }
  // Whether a writer has a position is part of its type, so the wrapper has one exactly when the inner one has.
  if (writer.position) timedWriter.position = () => writer.position!()
  if (writer.highest) timedWriter.highest = () => writer.highest!()
  return timedWriter
}
