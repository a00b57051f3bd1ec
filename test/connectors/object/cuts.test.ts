/** The protocol of the object sinks under faults at every call, on the store of files. */
import { describe, expect, it } from 'vitest'
import { fileStore } from '../../../connectors/file/store.ts'
import { randomOf } from '../../sim/random.ts'
import { type CutsKit, cutConformance, expectExactlyOnce, faulty, live, survive } from './cuts.ts'
import { fileTarget } from './objects.ts'

const kit: CutsKit = {
  target: fileTarget,
  store: target => fileStore((target.place as { directory: string }).directory, 'kit/object/0'),
}

describe('objects: cut at every call', () => {
  cutConformance(kit)

  it('keeps each record once through lives that fail, lose answers and freeze, many of them: 60 seeds', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = randomOf(seed)
      await using place = kit.target()
      const frozen: { thaw(): void; readonly done: Promise<unknown> }[] = []
      let epoch = 1
      for (; epoch < 8; epoch++) {
        let thaw = () => {}
        const thawed = new Promise<void>(resolve => {
          thaw = resolve
        })
        let isFrozen = () => {}
        const freezes = new Promise<void>(resolve => {
          isFrozen = resolve
        })
        const cut = random.int(0, 60)
        const what = random.pick(['before', 'behind', 'freeze'] as const)
        const store = faulty(await kit.store(place), call => {
          if (call !== cut) return null
          if (what !== 'freeze') return what
          isFrozen()
          return thawed
        })
        const done = survive(store, { epoch, batch: random.int(1, 12), step: random.int(1, 12) })
        await Promise.race([done, freezes])
        frozen.push({ thaw, done })
        if (random.chance(0.3)) random.pick(frozen).thaw()
      }
      for (const { thaw, done } of frozen) {
        thaw()
        await done
      }
      await live(await kit.store(place), { epoch, batch: 6, step: 3 })
      await expectExactlyOnce(place).catch(error => {
        throw new Error(`seed ${seed}: ${(error as Error).message}`)
      })
    }
    expect(true).toBe(true)
  }, 300_000)
})
