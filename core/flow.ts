/**
 * Wrappers from Reader to Reader and Writer to Writer that any task may wear. The pump stays as it is.
 */
import type { Batch, Clock, Offset, Reader, Writer } from './connector.ts'
import type { ChangeRecord } from './record.ts'

/**
 * Another `write` before the same writer. What a writer has beside it (position, durable, highest) is part of its type, so the wrapper
 * has each exactly when the inner one has it.
 */
export function rewritten<R extends ChangeRecord>(writer: Writer<R>, write: Writer<R>['write']): Writer<R> {
  const outer: Writer<R> = { write, [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose]() }
  if (writer.position) outer.position = () => writer.position!()
  if (writer.durable) outer.durable = () => writer.durable!()
  if (writer.highest) outer.highest = () => writer.highest!()
  return outer
}

/**
 * Tells `seen` each batch with which more became durable, and up to where. Rests on the pump calling `commit` after the write of such a
 * batch.
 */
export function observed<R extends ChangeRecord>(
  reader: Reader<R>,
  seen: (batch: Batch<R>, durable: Offset) => void,
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
      if (current) seen(current, offset)
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
  return rewritten(writer, async batch => {
    const from = clock.monotonicMs()
    const rejected = await writer.write(batch)
    const hasWritten = rejected.length === 0 || !writer.position // with a position: all or nothing (P1)
    measured(batch, hasWritten ? batch.records.length - rejected.length : 0, clock.monotonicMs() - from)
    return rejected
  })
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

/**
 * While the log is silent, a batch without records every `ms`: a writer that gathers then looks at its clock, and what fails there fails
 * the task as any write does, which a timer inside the writer could not.
 */
export function ticking<R extends ChangeRecord>(reader: Reader<R>, clock: Clock, ms: number): Reader<R> {
  const ticks: Reader<R> = {
    async *[Symbol.asyncIterator]() {
      const batches = reader[Symbol.asyncIterator]()
      let next: Promise<IteratorResult<Batch<R>>> | null = null
      let last: Offset | null = null
      try {
        for (;;) {
          next ??= batches.next()
          const result: IteratorResult<Batch<R>> | null =
            last === null ? await next : await orSilence(next, clock, ms)
          if (result === null) {
            yield { records: [], offset: last! }
            continue
          }
          next = null
          if (result.done) return
          last = (result.value as Batch<R>).offset
          yield result.value
        }
      } finally {
        next?.catch(() => {}) // whoever left us has another reason to end
        void batches.return?.().catch(() => {}) // as in `prefetched`
      }
    },
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  }
  if (reader.commit) ticks.commit = offset => reader.commit!(offset)
  return ticks
}

/** null: `ms` have passed first. */
async function orSilence<T>(next: Promise<T>, clock: Clock, ms: number): Promise<T | null> {
  const over = new AbortController()
  try {
    return await Promise.race([next, clock.sleep(ms, over.signal).then(() => null)])
  } finally {
    over.abort()
  }
}
