import { describe, expect, it } from 'vitest'
import { generate, recordAt } from '../../../connectors/generate/source.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { sourceConformance } from '../../conform/source.ts'

const config = generate.config.parse({ rows: 50, changes: 120, batch_rows: 7, seed: 3 })

definitionConformance(generate as never)
sourceConformance({
  name: 'generate',
  setUp: async () => ({
    open: (from, context) => generate.open(config, from, context),
    change: async () => {},
    async [Symbol.asyncDispose]() {},
  }),
  isFixed: () => true,
  isResumable: () => true,
  quietMs: 1_000,
  resumes: 100,
})

describe('generate', () => {
  it('makes each row of the snapshot once, then changes of them, the same for the same seed', () => {
    const keys = new Set(Array.from({ length: 50 }, (_, n) => recordAt(config, n, 0).key))
    expect(keys.size).toBe(50)
    expect(recordAt(config, 60, 0)).toEqual(recordAt(config, 60, 0))
    expect(recordAt({ ...config, seed: 4 }, 60, 0)).not.toEqual(recordAt(config, 60, 0))
  })

  it('refuses an offset that is none of its own', async () => {
    await expect(generate.open(config, { other: 1 }, testContext())).rejects.toMatchObject({
      kind: 'offset_lost',
    })
  })
})
