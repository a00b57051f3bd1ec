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

/** Retries nothing, hides nothing: measures how long each write took and hands it to `measured`, with how many records it wrote. */
export function timed<R extends ChangeRecord>(
  writer: Writer<R>,
  clock: Clock,
  measured: (batch: Batch<R>, written: number, ms: number) => void,
): Writer<R> {
  const timedWriter: Writer<R> = {
    async write(batch) {
      const from = clock.monotonicMs()
      const rejected = await writer.write(batch)
      const hasWritten = rejected.length === 0 || !writer.position // with a position: all or nothing (P1)
      measured(batch, hasWritten ? batch.records.length - rejected.length : 0, clock.monotonicMs() - from)
      return rejected
    },
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  }
  // Whether a writer has a position is part of its type, so the wrapper has one exactly when the inner one has.
  if (writer.position) timedWriter.position = () => writer.position!()
  if (writer.highest) timedWriter.highest = () => writer.highest!()
  return timedWriter
}

/** From so many records on there is a backlog, and reading ahead pays; a smaller batch grows while the one before is written. */
const BACKLOG_RECORDS = 1_000

/**
 * Reads the next batch while a large one is written. One batch ahead, so that memory is bounded by two; what was read ahead and not
 * written is read again after a restart, for only written batches are let go.
 */
export function prefetched<R extends ChangeRecord>(reader: Reader<R>): Reader<R> {
  const ahead: Reader<R> = {
    async *[Symbol.asyncIterator]() {
      const batches = reader[Symbol.asyncIterator]()
      let next: Promise<IteratorResult<Batch<R>>> | null = null
      try {
        for (;;) {
          const result: IteratorResult<Batch<R>> = await (next ?? batches.next())
          if (result.done) return
          const value: Batch<R> = result.value
          next = value.records.length >= BACKLOG_RECORDS ? batches.next() : null
          next?.catch(() => {}) // told when its turn comes
          yield value
        }
      } finally {
        // Not awaited: a read ahead may wait for records until the task's signal aborts, and whoever left us aborts it afterwards.
        void batches.return?.().catch(() => {})
      }
    },
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  }
  if (reader.commit) ahead.commit = offset => reader.commit!(offset)
  return ahead
}
