import { describe, expect, it } from 'vitest'
import type { Batch, Reader, Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { prefetched, timed } from '../../core/flow.ts'
import { realClock } from '../../core/worker/clock.ts'
import { batchOf, recordOf } from '../conform/sink.ts'

const large = (from: number): Batch =>
  batchOf(Array.from({ length: 1_000 }, (_, i) => recordOf({ id: i, version: from + i })))
const small = (version: number): Batch => batchOf([recordOf({ version })])

/** Hands out `batches`, then waits until `end` is called. */
function reading(batches: readonly Batch[]) {
  let end = () => {}
  const ended = new Promise<void>(resolve => {
    end = resolve
  })
  const state = { read: 0, isOver: false, committed: [] as unknown[] }
  const reader: Reader = {
    async *[Symbol.asyncIterator]() {
      try {
        for (const batch of batches) {
          state.read++
          yield batch
        }
        await ended
      } finally {
        state.isOver = true
      }
    },
    async commit(offset) {
      state.committed.push(offset)
    },
    async [Symbol.asyncDispose]() {},
  }
  return { reader, state, end }
}
const settled = () => new Promise(resolve => setImmediate(resolve))

describe('reading ahead', () => {
  it('reads one batch ahead of a large one, none ahead of a small one, and hands over all in order', async () => {
    const batches = [large(1), large(2_000), small(5_000), small(5_001)]
    const { reader, state, end } = reading(batches)
    const found: Batch[] = []
    const reads: number[] = []
    for await (const batch of prefetched(reader)) {
      await settled()
      found.push(batch)
      reads.push(state.read)
      if (found.length === 4) break
    }
    expect(found).toEqual(batches)
    expect(reads).toEqual([2, 3, 3, 4])
    end()
  })

  it('leaves at once though the read ahead waits for records, and ends it when that is told to', async () => {
    const { reader, state, end } = reading([large(1)])
    const ahead = prefetched(reader)
    await expect(
      (async () => {
        for await (const batch of ahead) {
          await ahead.commit?.(batch.offset)
          throw new Error('the writer failed')
        }
      })(),
    ).rejects.toThrow('the writer failed')
    expect(state.committed).toHaveLength(1)
    expect(state.isOver).toBe(false)
    end()
    await settled()
    await settled()
    expect(state.isOver).toBe(true)
  })

  it('tells what the read ahead met when its turn comes', async () => {
    const reader: Reader = {
      async *[Symbol.asyncIterator]() {
        yield large(1)
        throw new Error('the log is damaged')
      },
      async [Symbol.asyncDispose]() {},
    }
    let batches = 0
    await expect(
      (async () => {
        for await (const _ of prefetched(reader)) {
          await settled()
          batches++
        }
      })(),
    ).rejects.toThrow('the log is damaged')
    expect(batches).toBe(1)
  })
})

describe('measuring', () => {
  const bad = recordOf({ id: 1, version: 2 })
  const batch = batchOf([recordOf({ id: 0, version: 1 }), bad])
  const measuredOf = async (position: boolean) => {
    const measured: number[] = []
    const writer: Writer = {
      write: async () => [{ record: bad, stage: 'test', error: new ConnectorError('data', 'bad') }],
      ...(position ? { position: async () => null } : {}),
      async [Symbol.asyncDispose]() {},
    }
    await timed(writer, realClock, (_, written) => measured.push(written)).write(batch)
    return measured
  }

  it('counts what was written: all but the bad ones, and of a writer with a position nothing then (P1)', async () => {
    expect(await measuredOf(false)).toEqual([1])
    expect(await measuredOf(true)).toEqual([0])
  })
})
