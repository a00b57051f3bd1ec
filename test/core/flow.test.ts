import { describe, expect, it } from 'vitest'
import type { Batch, Offset, Reader, Writer } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { prefetched, ticking, timed } from '../../core/flow.ts'
import { pump } from '../../core/pump.ts'
import { realClock } from '../../core/worker/clock.ts'
import { batchOf, recordOf } from '../conform/kit-table.ts'

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

describe('a writer that gathers', () => {
  it('is written an empty batch with the last offset while the log is silent, and none before its first batch', async () => {
    const { reader, end } = reading([small(1), small(2)])
    const found: Batch[] = []
    for await (const batch of ticking(reader, realClock, 5)) {
      found.push(batch)
      if (found.length === 5) end()
      if (found.length > 20) throw new Error('it never ended')
    }
    expect(found.slice(0, 2)).toEqual([small(1), small(2)])
    expect(found.length).toBeGreaterThanOrEqual(5)
    for (const tick of found.slice(2)) expect(tick).toEqual({ records: [], offset: small(2).offset })
    let isEarly = false
    const silent = reading([])
    setTimeout(silent.end, 30)
    for await (const _ of ticking(silent.reader, realClock, 1)) isEarly = true
    expect(isEarly).toBe(false)
  })

  it('ends with its reader, hands on what it met, and leaves at once', async () => {
    const failing: Reader = {
      // biome-ignore lint/correctness/useYield: it fails before
      async *[Symbol.asyncIterator]() {
        throw new Error('the log is damaged')
      },
      async [Symbol.asyncDispose]() {},
    }
    await expect(
      (async () => {
        for await (const _ of ticking(failing, realClock, 5));
      })(),
    ).rejects.toThrow('the log is damaged')
    const { reader, state, end } = reading([small(1)])
    for await (const batch of ticking(reader, realClock, 5)) if (batch.records.length === 0) break
    end()
    await settled()
    await settled()
    expect(state.isOver).toBe(true)
  })

  it.each([true, false])(
    'is let go up to what is durable, each time once (position: %s)',
    async hasPosition => {
      const { reader, state, end } = reading([small(1), small(2), small(3), small(4)])
      end()
      const saved: Offset[] = []
      let durable: Offset | null = null
      const gathered: Offset[] = []
      const writer: Writer = {
        async write({ offset }) {
          gathered.push(offset)
          if (gathered.length === 2) durable = offset
          return []
        },
        durable: () => durable,
        async [Symbol.asyncDispose]() {},
        ...(hasPosition ? { position: async () => null } : {}),
      }
      const progress = { load: async () => null, save: async (offset: Offset) => void saved.push(offset) }
      await pump(reader, writer, progress, { async add() {} })
      expect(gathered).toHaveLength(4)
      expect(state.committed).toEqual([small(2).offset])
      expect(saved).toEqual(hasPosition ? [] : [small(2).offset])
    },
  )
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
