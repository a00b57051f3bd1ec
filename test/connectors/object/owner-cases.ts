/** Object sinks: one owner after another; what is checked, planned and forgotten without one. */
import { expect, it } from 'vitest'
import type { Table } from '../../../core/record.ts'
import { batchOf, KIT_TABLE } from '../../conform/kit-table.ts'
import { NOW, type On, silence, some } from './sink-place.ts'

export function ownerCases(on: On): void {
  const life = { rotate: { idle_ms: 1_000 } }

  it(
    'that stop drop what they gathered, and the next one writes it',
    on(async ({ open, ids, clock }) => {
      const first = await open(life)
      await first.write(batchOf(some(3)))
      await first[Symbol.asyncDispose]()
      const second = await open(life, { epoch: 2 })
      expect(await second.position!()).toBeNull()
      await second.write(batchOf(some(5)))
      clock.now += 1_000
      await second.write(silence(5))
      expect(await ids()).toEqual([[0, 1, 2, 3, 4]])
    }),
  )

  it(
    'that are fenced add nothing, whatever they gathered',
    on(async ({ open, ids, clock }) => {
      const first = await open(life)
      await first.write(batchOf(some(3)))
      const second = await open(life, { epoch: 2 })
      clock.now += 1_000
      await expect(first.write(silence(3))).rejects.toThrow('newer owner')
      expect(await ids()).toEqual([])
      await second.write(batchOf(some(2)))
      clock.now += 1_000
      await second.write(silence(2))
      expect(await ids()).toEqual([[0, 1]])
    }),
  )

  it(
    'whose lease ran out between two objects write no further one',
    on(async ({ open, ids }) => {
      let puts = 0
      const deadlineMs = () => (puts++ < 6 ? Number.POSITIVE_INFINITY : 0)
      const writer = await open({ ...NOW, partition: { by: 'field', fields: ['id'] } }, { deadlineMs })
      await expect(writer.write(batchOf(some(20)))).rejects.toThrow('lease')
      const made = (await ids()).length
      expect(made).toBeLessThan(20)
      const next = await open({ ...NOW, partition: { by: 'field', fields: ['id'] } }, { epoch: 2 })
      await next.write(batchOf(some(20)))
      expect((await ids()).flat().sort((a, b) => a! - b!)).toEqual(some(20).map(({ offset }) => offset))
    }),
  )

  it(
    'with other options do not touch what was announced with those of before, and say so',
    on(async ({ open, ids }) => {
      const deadlineMs = (
        left => () =>
          left-- > 0 ? Number.POSITIVE_INFINITY : 0
      )(4)
      const writer = await open({ ...NOW, partition: { by: 'field', fields: ['name'] } }, { deadlineMs })
      await expect(writer.write(batchOf(some(4)))).rejects.toThrow('lease')
      const other = await open(NOW, { epoch: 2 })
      await expect(other.write(batchOf(some(4)))).rejects.toThrow(/announced .* and the records now make/)
      const back = await open({ ...NOW, partition: { by: 'field', fields: ['name'] } }, { epoch: 3 })
      await back.write(batchOf(some(4)))
      expect((await ids()).map(one => one.length)).toEqual([2, 2])
    }),
  )

  it(
    'forget: manifests go, objects stay, and it may be said twice',
    on(async ({ open, target, names, context }) => {
      const writer = await open(NOW)
      await writer.write(batchOf(some(1)))
      const config = target.sink.config.parse(target.place) as never
      for (let i = 0; i < 2; i++) await target.sink.forget!(config, [context.task], context)
      expect(await target.manifests()).toEqual([])
      expect(await names()).toHaveLength(1)
    }),
  )

  it(
    'check: leaves nothing behind; plan: says where, of which columns, and that nothing is swept',
    on(async ({ target, context }) => {
      const config = target.sink.config.parse({ ...target.place, path: '${table}/${partition}' }) as never
      await target.sink.check(config, context)
      expect(await target.manifests()).toEqual([])
      const [plan] = await target.sink.plan!(config, [{ table: KIT_TABLE, topic: 'kit.test.kit' }], context)
      expect(plan).toMatchObject({
        name: expect.stringMatching(/kit\/$/),
        tables: ['test.kit'],
        exists: false,
        definition: { format: 'jsonl', sweeps: expect.stringContaining('never taken away') },
      })
      expect((plan!.definition as { columns: string[] }).columns).toContain('price numeric')
    }),
  )

  it(
    'takes no options that would put objects beside the place, or leave out in silence what they say',
    on(async ({ target }) => {
      const byField = { by: 'field', fields: ['name'] }
      for (const [options, said] of [
        [{ path: 'x/${country}' }, /\$\{country\}/],
        [{ path: '${topic}', partition: byField }, /\$\{partition\}/],
        [{ partition: { by: 'time', pattern: '../YYYY' } }, /as a folder/],
        [{ partition: { by: 'time', pattern: '/YYYY' } }, /begin/],
        [{ partition: { by: 'time', pattern: 'YYYY/./MM' } }, /as a folder/],
      ] as const) {
        const { error } = target.sink.config.safeParse({ ...target.place, ...options })
        expect(error?.issues.map(({ message }) => message).join(), JSON.stringify(options)).toMatch(said)
      }
      for (const options of [{ path: '${topic}' }, { partition: byField }])
        expect(target.sink.config.safeParse({ ...target.place, ...options }).success).toBe(true)
    }),
  )

  it(
    'that meet a table whose column is called as one of `metadata`, in plan and when it comes: one of the two would be lost',
    on(async ({ open, names, target, context }) => {
      const table: Table = { ...KIT_TABLE, columns: [...KIT_TABLE.columns, { name: '_op', type: 'text' }] }
      const refusal = { kind: 'config', message: expect.stringContaining('_op') }
      const config = target.sink.config.parse(target.place) as never
      await expect(
        target.sink.plan!(config, [{ table, topic: 'kit.test.kit' }], context),
      ).rejects.toMatchObject(refusal)
      const writer = await open(NOW)
      await expect(writer.write(batchOf(some(1, 0, () => ({ table }))))).rejects.toMatchObject(refusal)
      const other = await open({ ...NOW, metadata: ['version'] }, { epoch: 2 })
      await other.write(batchOf(some(1, 0, () => ({ table }))))
      expect(await names()).toHaveLength(1)
    }),
  )

  it(
    'plan refuses a field that a table does not have',
    on(async ({ target, context }) => {
      const config = target.sink.config.parse({
        ...target.place,
        partition: { by: 'field', fields: ['country'] },
      }) as never
      await expect(
        target.sink.plan!(config, [{ table: KIT_TABLE, topic: 'kit.test.kit' }], context),
      ).rejects.toMatchObject({
        kind: 'config',
        message: expect.stringContaining('country'),
      })
    }),
  )
}
