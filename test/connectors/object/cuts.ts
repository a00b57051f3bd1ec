/**
 * The protocol of connectors/object/manifests.ts, cut everywhere: before and behind every call to the store, with an owner that fails,
 * loses an answer, or freezes there while others go on. Each run ends with an owner without faults, and every record must stand in
 * exactly one object.
 */
import { expect, it } from 'vitest'
import { z } from 'zod'
import { shared } from '../../../connectors/object/config.ts'
import type { ObjectStore } from '../../../connectors/object/store.ts'
import { openObjectWriter } from '../../../connectors/object/writer.ts'
import type { Clock, Context, Writer } from '../../../core/connector.ts'
import { ConnectorError, Fenced } from '../../../core/errors.ts'
import type { LogOffset } from '../../../core/log/log.ts'
import type { LogRecord, Table } from '../../../core/record.ts'
import { testContext } from '../../conform/context.ts'
import { KIT_TABLE, recordOf, WIDER_TABLE } from '../../conform/kit-table.ts'
import { linesOf, type ObjectTarget } from './objects.ts'

const CALLS = ['create', 'read', 'put', 'isSame', 'list', 'remove'] as const
type Call = (typeof CALLS)[number]

/** What becomes of a call: 'before' fails without being made, 'behind' is made and told to have failed; a promise is waited for first. */
export type Fault = 'before' | 'behind' | Promise<void> | null

export function faulty(store: ObjectStore, faultOf: (call: number, name: Call) => Fault): ObjectStore {
  let calls = 0
  const wrapped = { ...store } as Record<string, unknown>
  for (const name of CALLS)
    wrapped[name] = async (...args: unknown[]) => {
      const fault = faultOf(calls++, name)
      if (fault === 'before') throw new ConnectorError('unavailable', `simulated: ${name} was not made`)
      if (fault instanceof Promise) await fault
      const result = await (store[name] as (...args: unknown[]) => Promise<unknown>)(...args)
      if (fault === 'behind')
        throw new ConnectorError('unavailable', `simulated: the answer to ${name} was lost`)
      return result
    }
  return wrapped as unknown as ObjectStore
}

const OTHER: Table = { ...KIT_TABLE, name: 'other' }

/** Two topics, three folders, a shape that changes; in log order. */
export const RECORDS: readonly LogRecord[] = Array.from({ length: 36 }, (_, i) => {
  const isOther = i % 5 === 4
  const offset = isOther ? Math.floor(i / 5) : i - Math.floor((i + 1) / 5)
  return {
    ...recordOf({ id: i, name: `n${i % 3}`, version: i + 1 }),
    table: isOther ? OTHER : i > 20 ? WIDER_TABLE : KIT_TABLE,
    topic: isOther ? 'kit.test.other' : 'kit.test.kit',
    offset,
    commitMs: 1_700_000_000_000 + i * 400,
  }
})

const OPTIONS = z.strictObject(shared).parse({
  metadata: ['topic', 'offset'],
  partition: { by: 'field', fields: ['name'] },
  rotate: { records: 4, span_ms: 3_000, open_ms: 50, idle_ms: 30 },
})

/** Time passes by itself, at each look: so rotation by time falls elsewhere in each life. */
function jumpyClock(step: number): Clock {
  let now = 0
  return {
    nowUs: () => 1_700_000_000_000_000,
    monotonicMs: () => {
      now += step
      return now
    },
    sleep: async () => {},
  }
}

export interface Life {
  readonly epoch: number
  readonly batch: number
  /** How fast its clock goes. */
  readonly step: number
}

/** From its position to the end of the log, then silence until all is durable. */
export async function live(store: ObjectStore, { epoch, batch, step }: Life): Promise<void> {
  const context: Context = testContext({ task: 'kit/object/0', epoch, clock: jumpyClock(step) })
  let writer: Writer | null = null
  try {
    writer = await openObjectWriter(store, 'object', OPTIONS, context)
    const from = ((await writer.position!()) as LogOffset | null)?.next ?? {}
    const left = RECORDS.filter(({ topic, offset }) => offset >= (from[topic] ?? 0))
    const next = { ...from } as Record<string, number>
    for (let at = 0; at < left.length; at += batch) {
      const records = left.slice(at, at + batch)
      for (const { topic, offset } of records) next[topic] = offset + 1
      await writer.write({ records, offset: { log: 'kit', next: { ...next } } })
    }
    const end = { log: 'kit', next: { ...next } }
    for (let tick = 0; tick < 100; tick++) {
      if (JSON.stringify(writer.durable!() ?? (await writer.position!())) === JSON.stringify(end)) return
      await writer.write({ records: [], offset: end })
    }
    throw new Error(`silence flushed nothing: ${JSON.stringify(writer.durable!())}`)
  } finally {
    await writer?.[Symbol.asyncDispose]()
  }
}

const isExpected = (error: unknown): boolean =>
  error instanceof Fenced || (error instanceof ConnectorError && error.kind === 'unavailable')

/** A life that may end by what was simulated, and by nothing else. */
export async function survive(store: ObjectStore, life: Life): Promise<'done' | 'fenced' | 'failed'> {
  try {
    await live(store, life)
    return 'done'
  } catch (error) {
    if (!isExpected(error)) throw error
    return error instanceof Fenced ? 'fenced' : 'failed'
  }
}

export async function expectExactlyOnce(target: ObjectTarget): Promise<void> {
  const objects = await target.objects()
  const found = linesOf(objects).map(line => `${line._topic}/${line._offset}`)
  expect(found.sort()).toEqual(RECORDS.map(({ topic, offset }) => `${topic}/${offset}`).sort())
  expect((await target.manifests()).length, 'old manifests go').toBeLessThanOrEqual(3)
}

const FIRST: Life = { epoch: 1, batch: 7, step: 6 }
const SECOND: Life = { epoch: 2, batch: 4, step: 1 }
const THIRD: Life = { epoch: 3, batch: 11, step: 4 }

export interface CutsKit {
  target(): ObjectTarget
  /** The store of a target, on its own; closed with the writer. */
  store(target: ObjectTarget): Promise<ObjectStore>
  /** One call of so many is cut; default: each. */
  readonly stride?: number
}

async function callsOf({ target, store }: CutsKit): Promise<number> {
  await using place = target()
  let calls = 0
  await live(
    faulty(await store(place), () => {
      calls++
      return null
    }),
    FIRST,
  )
  await expectExactlyOnce(place)
  return calls
}

export function cutConformance(kit: CutsKit): void {
  it.each(['before', 'behind'] as const)(
    'keeps each record once when a call fails, %s it, whichever',
    async fault => {
      const calls = await callsOf(kit)
      expect(calls).toBeGreaterThan(40)
      for (let cut = 0; cut < calls; cut += kit.stride ?? 1) {
        await using place = kit.target()
        await survive(
          faulty(await kit.store(place), call => (call === cut ? fault : null)),
          FIRST,
        )
        await live(await kit.store(place), SECOND)
        await expectExactlyOnce(place)
      }
    },
    300_000,
  )

  it('lets no owner that was frozen before a call, whichever, add anything behind the next one', async () => {
    const calls = await callsOf(kit)
    for (let cut = 0; cut < calls; cut += kit.stride ?? 1) {
      await using place = kit.target()
      let thaw = () => {}
      let isFrozen = () => {}
      const frozen = new Promise<void>(resolve => {
        isFrozen = resolve
      })
      const thawed = new Promise<void>(resolve => {
        thaw = resolve
      })
      const zombie = survive(
        faulty(await kit.store(place), call => {
          if (call !== cut) return null
          isFrozen()
          return thawed
        }),
        FIRST,
      )
      await Promise.race([frozen, zombie])
      await live(await kit.store(place), SECOND)
      const before = [...(await place.objects()).keys()]
      thaw()
      await zombie
      expect([...(await place.objects()).keys()], `frozen before call ${cut}`).toEqual(before)
      await expectExactlyOnce(place)
      await live(await kit.store(place), THIRD)
      await expectExactlyOnce(place)
    }
  }, 300_000)
}
