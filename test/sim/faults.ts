/**
 * Wrappers that put "some other time, perhaps never" around every await of a task, and now and then lose an answer: the thing
 * was done, but the caller is told it failed. The production code in between is untouched.
 */
import type { Context, Offset, Reader, Rejected, Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { LogOffset } from '../../core/log/log.ts'
import type { DeadLetters, Progress } from '../../core/pump.ts'
import type { Detached } from '../../core/queue/detached.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { isBad } from './ledger.ts'

export interface Faults {
  pause(): Promise<void>
  /** Now and then throws `unavailable`. */
  maybeFail(what: string): void
}

export const lost = (what: string) => new ConnectorError('unavailable', `simulated: ${what}`)

/** pause, do, pause: a kill may fall before it and between the deed and its answer. */
async function around<T>(faults: Faults, what: string, act: () => Promise<T>): Promise<T> {
  await faults.pause()
  faults.maybeFail(`${what} was not begun`)
  const result = await act()
  await faults.pause()
  faults.maybeFail(`the answer to ${what} was lost`)
  return result
}

export function pausedReader<R extends ChangeRecord>(reader: Reader<R>, faults: Faults): Reader<R> {
  return {
    async *[Symbol.asyncIterator]() {
      for await (const batch of reader) {
        await faults.pause()
        faults.maybeFail('read')
        yield batch
      }
    },
    commit: (offset: Offset) => around(faults, 'commit', async () => reader.commit?.(offset)),
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  }
}

/** Also refuses the ledger's bad records, as a sink would: all or nothing with a position, else the good ones are written (P1). */
export function pausedWriter<R extends ChangeRecord>(
  writer: Writer<R>,
  faults: Faults,
  refuses: boolean,
): Writer<R> {
  const paused: Writer<R> = {
    write: batch =>
      around(faults, 'write', async () => {
        const bad = refuses ? batch.records.filter(isBad) : []
        const rejected: Rejected<R>[] = bad.map(record => ({
          record,
          stage: 'sim',
          error: new ConnectorError('data', 'bad'),
        }))
        if (bad.length > 0 && writer.position) return rejected
        return [
          ...rejected,
          ...(await writer.write(
            bad.length > 0 ? { ...batch, records: batch.records.filter(one => !isBad(one)) } : batch,
          )),
        ]
      }),
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  }
  if (writer.position) paused.position = () => around(faults, 'position', () => writer.position!())
  if (writer.durable) paused.durable = () => writer.durable!()
  if (writer.highest) paused.highest = () => writer.highest!()
  return paused
}

export const pausedProgress = (progress: Progress, faults: Faults): Progress => ({
  load: () => around(faults, 'load', () => progress.load()),
  save: offset => around(faults, 'save', () => progress.save(offset)),
})

export const pausedDead = <R extends ChangeRecord>(dead: DeadLetters<R>, faults: Faults): DeadLetters<R> => ({
  add: rejected => around(faults, 'dead', () => dead.add(rejected)),
})

/** Who has opened, and what was done that must not be. */
export interface Owners {
  /** Highest epoch opened, by task. */
  readonly newest: Map<string, number>
  readonly finds: string[]
}

/** A write that is done for an owner after a newer one has opened is a find (L1, P2), whatever the task makes of it. */
export function fencedWriter<R extends ChangeRecord>(
  writer: Writer<R>,
  { task, epoch }: Context,
  { newest, finds }: Owners,
): Writer<R> {
  newest.set(task, Math.max(newest.get(task) ?? 0, epoch))
  return {
    ...writer,
    async write(batch) {
      const owner = newest.get(task)!
      const rejected = await writer.write(batch)
      if (owner > epoch) finds.push(`epoch ${epoch} of ${task} wrote after epoch ${owner} had opened`)
      return rejected
    },
  }
}

/**
 * Whatever a task reads begins at its position, or at the first record there ever was, and has no gap (V5, J4); and a task that was
 * detached lets go of nothing more.
 */
export function seamlessReader(
  reader: Reader,
  task: string,
  from: LogOffset | null,
  detached: Detached,
  { finds }: Owners,
): Reader {
  const due = new Map(Object.entries(from?.next ?? {}))
  return {
    async *[Symbol.asyncIterator]() {
      for await (const batch of reader) {
        for (const { topic, offset } of batch.records) {
          const expected = due.get(topic) ?? 0
          if (offset !== expected) finds.push(`${task} read ${topic} at ${offset}, and ${expected} was due`)
          due.set(topic, offset + 1)
        }
        yield batch
      }
    },
    async commit(offset) {
      const isLate = detached.has(task)
      await reader.commit?.(offset)
      if (isLate) finds.push(`${task} is detached, and goes on`)
    },
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  }
}
