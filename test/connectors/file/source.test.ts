/** The source of files: everything that object sources do, on a directory. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { fileReading } from '../../../connectors/file/reading.ts'
import { fileSource } from '../../../connectors/file/source.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { objectSourceCases } from '../object/source-cases.ts'
import type { ObjectPlace } from '../object/source-place.ts'

definitionConformance(fileSource)

async function directoryPlace(): Promise<ObjectPlace> {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-files-'))
  return {
    source: fileSource,
    place: { directory },
    async write(name, bytes) {
      mkdirSync(dirname(join(directory, name)), { recursive: true })
      writeFileSync(join(directory, name), bytes)
    },
    remove: async name => rmSync(join(directory, name)),
    async [Symbol.asyncDispose]() {
      rmSync(directory, { recursive: true })
    },
  }
}

describe('file: source', () => {
  objectSourceCases(directoryPlace)

  it('does not look into folders of which nothing is read: that of a volume’s root may be closed to it', async () => {
    await using place = await directoryPlace()
    const { directory } = place.place as { directory: string }
    for (const folder of ['lost+found', '.cache', '_x', 'open'])
      await place.write(`${folder}/a.jsonl`, '{}\n')
    const looked: string[] = []
    for await (const page of fileReading(directory).list()) looked.push(...page.map(({ name }) => name))
    expect(looked).toEqual(['open/a.jsonl'])
  })

  it('tells of a directory that is not there', async () => {
    const config = fileSource.config.parse({ directory: '/no/such/directory' }) as never
    await expect(fileSource.check(config, testContext())).rejects.toMatchObject({
      kind: 'unavailable',
      message: 'there is no directory /no/such/directory',
    })
  })
})
