import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { file } from '../../../connectors/file/sink.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { appendingSinkConformance } from '../../conform/sink.ts'
import { objectCases } from '../object/cases.ts'
import { EACH, fileTarget, kitTarget } from '../object/objects.ts'

definitionConformance(file)
appendingSinkConformance({
  name: 'file',
  target: async () => kitTarget(fileTarget()),
  bad: good => ({ ...good, after: '{"id":5,"name":' }),
})

describe('file: objects', () => objectCases(() => fileTarget()))

describe('file: what else may stand there', () => {
  const directoryOf = (target: { place: object }) => (target.place as { directory: string }).directory

  it('takes no stray file among the manifests for one of them', async () => {
    await using target = fileTarget()
    const folder = join(directoryOf(target), '_millrace/test/sink/0')
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `${'9'.repeat(20)}.json-stray`), 'half')
    await using writer = await target.open(EACH, testContext())
    await writer.write(batchOf([recordOf({ version: 1 })]))
    expect((await target.objects()).size).toBe(1)
  })

  it('refuses a manifest of a newer version, and one that is none', async () => {
    for (const text of ['{"millrace":2}', 'half']) {
      await using target = fileTarget()
      const folder = join(directoryOf(target), '_millrace/test/sink/0')
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, `${'1'.padStart(20, '0')}.json`), text)
      await expect(target.open(EACH, testContext())).rejects.toMatchObject({ kind: 'config' })
    }
  })

  it('leaves nothing unfinished, and removes what a killed process of the task left, not what others write', async () => {
    await using target = fileTarget()
    const folder = join(directoryOf(target), '_millrace/unfinished')
    mkdirSync(folder, { recursive: true })
    // In a container each life of the program has the same pid.
    const mine = [2 ** 22 + 1, process.pid].map(pid => `test%2Fsink%2F0.${pid}.1`)
    const others = [`test%2Fsink%2F1.${2 ** 22 + 1}.1`, `test%2Fsink%2F0.${process.ppid}.99999`]
    for (const name of [...mine, ...others]) writeFileSync(join(folder, name), 'half')
    await using writer = await target.open(EACH, testContext())
    await writer.write(batchOf([recordOf({ version: 1 })]))
    expect(readdirSync(folder).sort()).toEqual(others.sort())
  })

  it('takes no unfinished file of an owner with its pid, on another machine or before a restart, for its own', async () => {
    await using target = fileTarget()
    const folder = join(directoryOf(target), '_millrace/unfinished')
    mkdirSync(folder, { recursive: true })
    await using writer = await target.open(EACH, testContext())
    for (let i = 0; i < 1_000; i++) writeFileSync(join(folder, `test%2Fsink%2F0.${process.pid}.${i}`), 'half')
    await writer.write(batchOf([recordOf({ version: 1 })]))
    expect((await target.objects()).size).toBe(1)
    expect(readdirSync(folder)).toHaveLength(1_000)
  })

  it('does not touch a file of an object’s name that holds something else', async () => {
    await using target = fileTarget()
    const folder = join(directoryOf(target), 'kit.test.kit/partition=0')
    mkdirSync(folder, { recursive: true })
    const path = join(folder, `kit.test.kit-0-${'1'.padStart(20, '0')}.jsonl`)
    writeFileSync(path, 'not ours')
    await using writer = await target.open(EACH, testContext())
    await expect(writer.write(batchOf([recordOf({ version: 1 })]))).rejects.toMatchObject({ kind: 'config' })
    expect(readFileSync(path, 'utf8')).toBe('not ours')
  })

  it('takes folders of 255 bytes, as file systems do, and rejects longer ones', async () => {
    await using target = fileTarget()
    const partition = { by: 'field', fields: ['name'] }
    await using writer = await target.open({ ...EACH, path: '${partition}', partition }, testContext())
    const all = [250, 251].map((length, i) => ({
      ...recordOf({ version: i + 1 }),
      offset: i,
      after: `{"id":${i},"name":"${'x'.repeat(length)}"}`,
    }))
    const rejected = await writer.write(batchOf(all))
    expect(rejected.map(({ record }) => record.offset)).toEqual([1])
    await writer.write(batchOf(all.slice(0, 1)))
    expect((await target.objects()).size).toBe(1)
  })

  it('tells of a directory that cannot be', async () => {
    await using target = fileTarget()
    const path = join(directoryOf(target), 'file')
    writeFileSync(path, '')
    const config = file.config.parse({ directory: path }) as never
    await expect(file.check(config, testContext())).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringMatching(/writing .*file\/_millrace/),
    })
  })
})
