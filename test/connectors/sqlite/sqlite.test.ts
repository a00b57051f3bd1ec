import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { describe, expect, it } from 'vitest'
import { sqlite } from '../../../connectors/sqlite/sink.ts'
import { ConnectorError } from '../../../core/errors.ts'
import type { Numbers } from '../../../core/worker/metrics.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { type Held, keyedSinkConformance, type SinkTarget } from '../../conform/sink.ts'

const folder = () => mkdtempSync(join(tmpdir(), 'millrace-sqlite-'))

function rowsOf(path: string): ReadonlyMap<string, Held> {
  const database = new Database(path)
  try {
    const made = database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'kit'").get()
    if (!made) return new Map()
    const rows = database.prepare('SELECT * FROM kit ORDER BY id').all() as {
      id: string
      document: string
      version: number
      origin: string
    }[]
    return new Map(
      rows.map(row => [
        row.id,
        { document: JSON.parse(row.document), version: row.version, origin: row.origin },
      ]),
    )
  } finally {
    database.close()
  }
}

async function target(): Promise<SinkTarget> {
  const directory = folder()
  const path = join(directory, 'index.db')
  return {
    open: context => sqlite.open({ path, table: '${table}', numbers: 'literals' }, context),
    rows: async () => rowsOf(path),
    async [Symbol.asyncDispose]() {
      rmSync(directory, { recursive: true })
    },
  }
}

definitionConformance(sqlite as never)
keyedSinkConformance({ name: 'sqlite', target, bad: good => ({ ...good, after: '{"id":5,"name":' }) })

describe('sqlite: search index', () => {
  const withIndex = async (
    run: (path: string, write: (records: Parameters<typeof batchOf>[0]) => Promise<void>) => Promise<void>,
  ) => {
    const directory = folder()
    const path = join(directory, 'index.db')
    const writer = await sqlite.open({ path, table: '${table}', numbers: 'literals' }, testContext())
    try {
      await run(path, async records => void (await writer.write(batchOf(records))))
    } finally {
      await writer[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true })
    }
  }
  const idsOf = async (path: string, words: string) =>
    (await sqlite.search!({ path, table: '', numbers: 'literals' }, words, 10)).hits.map(hit => hit.id)

  it('finds by words and prefixes, follows updates and deletes', () =>
    withIndex(async (path, write) => {
      await write([
        recordOf({ id: 1, name: 'green garden chair', version: 1 }),
        recordOf({ id: 2, name: 'Green lamp', version: 2 }),
      ])
      expect((await idsOf(path, 'green')).sort()).toEqual(['1', '2'])
      expect(await idsOf(path, 'gard chair')).toEqual(['1'])
      await write([
        recordOf({ id: 1, name: 'blue sofa', version: 3 }),
        recordOf({ op: 'd', id: 2, version: 4 }),
      ])
      expect(await idsOf(path, 'green')).toEqual([])
      expect(await idsOf(path, 'sofa')).toEqual(['1'])
      await write([recordOf({ op: 'sweep', version: 9, below: 9 })])
      expect(await idsOf(path, 'sofa')).toEqual([])
    }))

  it('takes any text as words, never as query syntax', () =>
    withIndex(async (path, write) => {
      await write([recordOf({ id: 1, name: 'a "quoted" AND NEAR thing', version: 1 })])
      for (const words of ['"', 'AND', '*', 'x" OR name:*', '(', '-', '   ', 'NEAR('])
        await idsOf(path, words)
      expect(await idsOf(path, '"quoted')).toEqual(['1'])
    }))

  it('does not find column names', () =>
    withIndex(async (path, write) => {
      await write([recordOf({ id: 1, name: 'chair', version: 1 })])
      expect(await idsOf(path, 'price')).toEqual([])
    }))

  it('counts what it refuses as older, once it is written', async () => {
    const directory = folder()
    const context = testContext()
    const path = join(directory, 'index.db')
    const writer = await sqlite.open({ path, table: '${table}', numbers: 'literals' }, context)
    const ids = [...Array(150).keys()]
    await writer.write(batchOf(ids.map(id => recordOf({ id, version: 10 + id }))))
    await writer.write(
      batchOf([...ids.map(id => recordOf({ id, version: 5 })), recordOf({ id: 1, version: 900 })]),
    )
    await writer[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true })
    expect((context.metrics as Numbers).get('refused')).toBe(149)
  })

  it('names a file that is no database, and what to do', async () => {
    const directory = folder()
    const path = join(directory, 'index.db')
    writeFileSync(path, 'this is not a database, but it is long enough to be looked at as one '.repeat(20))
    const error = await sqlite.check({ path, table: '${table}', numbers: 'literals' }, testContext()).then(
      () => null,
      thrown => thrown as ConnectorError,
    )
    expect(error).toBeInstanceOf(ConnectorError)
    expect(error?.kind).toBe('config')
    expect(error?.message).toContain(path)
    rmSync(directory, { recursive: true })
  })
})
