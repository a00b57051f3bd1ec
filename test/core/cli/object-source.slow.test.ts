/** What our own sinks wrote as files comes back as the same rows, through the whole program, also over kill -9 while it is read. */
import { cpSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'libsql'
import { describe, expect, it } from 'vitest'
import { type Folder, newFolder, until } from './program.ts'

const PIPELINES = fileURLToPath(new URL('../../../pipelines', import.meta.url))

const out = (rows: number, more: string) => `name: out
source: { type: generate, rows: ${rows} }
log: { partitions: 2 }
sinks:
  - { type: sqlite, path: direct.db, name: direct }
  - { type: file, directory: out, rotate: { records: 700, idle_ms: 200 }, ${more} }
`
const back = (more: string) => `name: back
source: { type: file, directory: out, settle_ms: 0, table: items, key: [id], ${more} }
sinks: [{ type: sqlite, path: back.db }]
`

/** Documents by id; none as long as there is no table. */
function documentsOf(folder: Folder, name: string): Map<number, object> {
  if (!readdirSync(folder.path).includes(name)) return new Map()
  const database = new Database(join(folder.path, name), { readonly: true })
  try {
    const [table] = database
      .prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%document%' AND name LIKE '%items'",
      )
      .all() as { name: string }[]
    if (!table) return new Map()
    const rows = database.prepare(`SELECT document FROM "${table.name}"`).all() as { document: string }[]
    return new Map(
      rows.map(({ document }) => {
        const row = JSON.parse(document) as { id: number | string }
        return [Number(row.id), row]
      }),
    )
  } finally {
    database.close()
  }
}

const run = async (folder: Folder, file: string, env: NodeJS.ProcessEnv = {}) => {
  const ended = await folder.run(['run', file, '--until-caught-up'], env)
  expect(ended, ended.stderr).toMatchObject({ code: 0 })
}

describe('files of our own, read back', () => {
  it.each([
    ['jsonl', 'metadata: []'],
    ['jsonl.gz', 'metadata: [], compression: gzip'],
    ['csv', 'metadata: [], format: csv'],
    ['parquet', 'metadata: [], format: parquet'],
    ['parquet with decimals', 'metadata: [], format: parquet, numeric: decimal, decimal: { scale: 2 }'],
  ])(
    '%s gives equal rows',
    async (_, sink) => {
      using folder = newFolder()
      folder.write('out.yaml', out(3_000, sink))
      folder.write('back.yaml', back('columns: { id: int8, price: numeric }'))
      await run(folder, 'out.yaml')
      await run(folder, 'back.yaml')
      const rows = documentsOf(folder, 'direct.db')
      expect(rows.size).toBe(3_000)
      expect(documentsOf(folder, 'back.db')).toEqual(rows)
    },
    120_000,
  )

  it('changes in their envelope are rows of their own', async () => {
    using folder = newFolder()
    folder.write('out.yaml', out(50, 'envelope: change'))
    folder.write('back.yaml', back('').replace('key: [id]', 'key: [partition, offset]'))
    await run(folder, 'out.yaml')
    await run(folder, 'back.yaml')
    const database = new Database(join(folder.path, 'back.db'), { readonly: true })
    const [{ document }] = database.prepare('SELECT document FROM items LIMIT 1').all() as [
      { document: string },
    ]
    expect((database.prepare('SELECT count(*) AS n FROM items').get() as { n: number }).n).toBe(50)
    database.close()
    expect(JSON.parse(document)).toMatchObject({
      op: 'r',
      key: { id: expect.any(Number) },
      after: { name: /./ },
    })
  }, 120_000)

  it('each row comes once over kill -9 of the reader at any moment', async () => {
    using folder = newFolder()
    folder.write('out.yaml', out(40_000, 'metadata: []'))
    folder.write(
      'back.yaml',
      back('batch_rows: 100')
        .replace('key: [id], ', '')
        .replace('sqlite, path: back.db', 'file, directory: copy, metadata: [], rotate: { idle_ms: 200 }'),
    )
    await run(folder, 'out.yaml')
    const log = () => {
      try {
        return readdirSync(join(folder.path, 'copy'), { recursive: true }).length
      } catch {
        return 0
      }
    }
    for (const files of [1, 6]) {
      const running = folder.start(['up', 'back.yaml', '--port', '4796'])
      await until(() => log() >= files, `${files} files`)
      running.child.kill('SIGKILL')
      await running.ended
    }
    await run(folder, 'back.yaml')
    folder.write(
      'count.yaml',
      back('')
        .replaceAll('back', 'count')
        .replace('directory: out', 'directory: copy')
        .replace('key: [id]', 'key: [_object, _line]'),
    )
    await run(folder, 'count.yaml')
    // Read by another pipeline: what was written twice has two places.
    const database = new Database(join(folder.path, 'count.db'), { readonly: true })
    const count = database
      .prepare("SELECT count(*) AS n, count(DISTINCT document ->> 'id') AS ids FROM items")
      .get()
    database.close()
    expect(count).toMatchObject({ n: 40_000, ids: 40_000 })
  }, 240_000)

  it('pipelines/files-to-sqlite.yaml reads what pipelines/generate-to-file.yaml wrote', async () => {
    using folder = newFolder()
    for (const name of ['generate-to-file', 'files-to-sqlite']) {
      cpSync(join(PIPELINES, `${name}.yaml`), join(folder.path, `${name}.yaml`))
      await run(folder, `${name}.yaml`, { MILLRACE_DATA: '.' })
    }
    const rows = documentsOf(folder, 'items.db')
    expect([...rows.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: 1_000 }, (_, i) => i + 1))
  }, 120_000)
})
