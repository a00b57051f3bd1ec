/** The pipelines to copy for search servers, and the demo, as their user runs them. */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { missingFor, type SearchServer, type SearchServerKind, startSearch } from '../../servers/search.ts'
import { newFolder } from './program.ts'

const PIPELINES = fileURLToPath(new URL('../../../pipelines', import.meta.url))

const FILES: readonly (readonly [file: string, kind: SearchServerKind, env: string])[] = [
  ['postgres-to-elasticsearch', 'elasticsearch-9', 'ELASTICSEARCH_URL'],
  ['postgres-to-opensearch', 'opensearch-3', 'OPENSEARCH_URL'],
]

for (const [file, kind, variable] of FILES) {
  const missing = missingFor(kind)
  describe.skipIf(missing !== null)(`${file}${missing === null ? '' : `: ${missing}`}`, () => {
    let database: PostgresServer
    let cluster: SearchServer
    beforeAll(async () => {
      database = await startPostgres()
      cluster = await startSearch(kind)
      await database.sql(
        'CREATE TABLE lamps (id int PRIMARY KEY, name text, price numeric, tags jsonb, lit timestamptz)',
      )
      await database.sql(
        `INSERT INTO lamps SELECT i, 'lamp ' || i, i * 1.5, '{"color": "amber"}', '2026-01-01' FROM generate_series(1, 500) i`,
      )
    }, 300_000)
    afterAll(async () => {
      await database?.[Symbol.asyncDispose]()
      await cluster?.[Symbol.asyncDispose]()
    })

    it('is planned, runs, is searched, and follows', async () => {
      using folder = newFolder()
      cpSync(join(PIPELINES, `${file}.yaml`), join(folder.path, 'p.yaml'))
      const env = { DATABASE_URL: database.url, [variable]: cluster.url }
      const run = async (...args: string[]) => {
        const ended = await folder.run(args, env)
        expect(ended.code, ended.stderr).toBe(0)
        return ended.stdout
      }
      expect(await run('plan', 'p.yaml')).toMatch(
        /public-lamps \(public\.lamps\) will be made as[\s\S]*"index.gc_deletes": "10m"/,
      )
      await run('run', 'p.yaml', '--until-caught-up')
      const refresh = () => cluster.request('POST', '/_refresh') // what was written is found within a second, or now
      await refresh()
      const found = JSON.parse(await run('search', file, 'lamp 17', '--file', 'p.yaml', '--json'))
      expect(found.hits[0]).toMatchObject({ id: '17', table: 'public-lamps', document: { price: 25.5 } })
      await database.sql(
        "DELETE FROM lamps WHERE id = 17; UPDATE lamps SET name = 'chandelier' WHERE id = 18",
      )
      await run('run', 'p.yaml', '--until-caught-up')
      await refresh()
      const after = JSON.parse(await run('search', file, 'chandelier', '--file', 'p.yaml', '--json'))
      expect(after.hits).toMatchObject([{ id: '18' }])
      expect((await cluster.request('GET', '/public-lamps/_count')).body).toMatchObject({ count: 499 })
      expect(await run('plan', 'p.yaml')).toContain('as this pipeline would make it')
      expect(await run('check', 'p.yaml')).toContain('ready')
      expect(await run('delete', file, '--yes', '--file', 'p.yaml')).toContain('replication slot')
    })

    if (kind !== 'elasticsearch-9') return
    it('the demo takes ELASTICSEARCH_URL, and every row is there', async () => {
      using folder = newFolder()
      const args = ['demo', '--once', '--json', '--products', '2000', '--changes', '100']
      const { code, stdout, stderr } = await folder.run(args, { ELASTICSEARCH_URL: cluster.url })
      expect(code, stderr).toBe(0)
      const last = JSON.parse(stdout.trim().split('\n').at(-1)!)
      expect(last).toMatchObject({ changes: 100, different: 0 })
      expect(last.documents).toBe(last.rows)
    })
  })
}
