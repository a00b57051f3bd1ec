/** Every command as its user runs it: what it prints where, and how it ends. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'libsql'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { metricsAt, newFolder, until } from './program.ts'

const GENERATE = (rows: number, changes = 0, rate = 0) => `name: made-up
source: { type: generate, rows: ${rows}, changes: ${changes}, rate: ${rate} }
sinks:
  - { name: index, type: sqlite, path: index.db }
`
const countOf = (path: string, table: string): number => {
  const database = new Database(path, { timeout: 2_000 })
  try {
    return (database.prepare(`SELECT count(*) AS n FROM "${table}"`).get() as { n: number }).n
  } finally {
    database.close()
  }
}

describe('cli', () => {
  it('refuses bad input with every mistake of every file, and exit code 2', async () => {
    using folder = newFolder()
    folder.write('pipelines/a.yaml', 'name: a\nsource:\n  type: postgress\n  tabels: [x]\n')
    folder.write('pipelines/b.yaml', 'name: b\nsource: { type: generate, rows: many }\nsink: []\n')
    const { code, stdout, stderr } = await folder.run(['validate'])
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^pipelines\/a\.yaml:3:9: .*postgress.*postgres/m)
    expect(stderr).toMatch(/^pipelines\/b\.yaml:2:\d+: /m)
    expect(stderr).toMatch(/^pipelines\/b\.yaml:3:1: .*sink.*sinks/m)
    expect(stderr).not.toContain('    at ')
    const asJson = await folder.run(['validate', '--json'])
    expect(asJson.code).toBe(2)
    expect(JSON.parse(asJson.stdout).mistakes.length).toBeGreaterThan(2)
  })

  it('validate reads the hub file too, the one that is named or that of the folder, and tells all mistakes at once', async () => {
    using folder = newFolder()
    folder.write('pipelines/b.yaml', 'name: b\nsource: { type: generate, rows: many }\n')
    folder.write('other.yaml', 'name: shop\nlog:\n  type: kafka\n')
    const named = await folder.run(['validate', '--hub', 'other.yaml'])
    expect(named).toMatchObject({ code: 2, stdout: '' })
    expect(named.stderr).toMatch(/^other\.yaml:3:\d+: .*brokers/m)
    expect(named.stderr).toMatch(/^pipelines\/b\.yaml:2:\d+: /m)
    folder.write('pipelines/b.yaml', 'name: b\nsource: { type: generate, rows: 1 }\n')
    folder.write('hub.yaml', 'nmae: shop\n')
    const asJson = await folder.run(['validate', '--json'])
    expect(asJson.code).toBe(2)
    expect(JSON.parse(asJson.stdout).mistakes).toMatchObject([{ file: 'hub.yaml', line: 1, column: 1 }])
    folder.write('hub.yaml', 'name: shop\n')
    expect(await folder.run(['validate'])).toMatchObject({
      code: 0,
      stdout: 'hub.yaml: the hub file is valid\npipelines/b.yaml: b is valid\n',
    })
    using alone = newFolder()
    alone.write('hub.yaml', 'name: shop\n')
    expect((await alone.run(['validate', '--hub', 'hub.yaml'])).code).toBe(0)
    expect((await alone.run(['validate'])).code, 'there are no pipelines').toBe(2)
  })

  it('up and run refuse a hub file whose tasks workers run, hub and worker one whose tasks run in one process', async () => {
    using folder = newFolder()
    folder.write('p.yaml', GENERATE(1))
    folder.write(
      'hub.yaml',
      'name: shop\nlog: { type: kafka, brokers: ["127.0.0.1:9"] }\nqueue:\n  type: bullmq\n  url: redis://127.0.0.1:9\n',
    )
    for (const command of [['up', 'p.yaml'], ['run', 'p.yaml'], ['demo']]) {
      const refused = await folder.run(command)
      expect(refused.code, command.join(' ')).toBe(2)
      expect(refused.stderr).toMatch(/^hub\.yaml:4:9: .*bullmq.*`millrace hub` and `millrace worker`/m)
    }
    folder.write('hub.yaml', 'name: shop\nqueue:\n  type: embedded\n')
    for (const command of [['hub', 'p.yaml'], ['worker']]) {
      const refused = await folder.run(command)
      expect(refused.code, command.join(' ')).toBe(2)
      expect(refused.stderr).toMatch(/^hub\.yaml:3:9: .*bullmq.*`millrace up`/m)
    }
    folder.write('hub.yaml', '# nothing\n')
    expect((await folder.run(['worker'])).stderr).toMatch(/^hub\.yaml:1:1: .*queue\.type is embedded/m)
  })

  it('takes an unknown command or option for bad input', async () => {
    using folder = newFolder()
    expect(await folder.run(['serch'])).toMatchObject({ code: 2, stderr: expect.stringContaining('search') })
    expect((await folder.run(['up', '--wrong'])).code).toBe(2)
    expect((await folder.run(['up', 'no-such-file.yaml'])).code).toBe(2)
  })

  it('shows help with an example for every command', async () => {
    using folder = newFolder()
    for (const command of [
      'up',
      'run',
      'validate',
      'check',
      'plan',
      'status',
      'search',
      'dlq list',
      'delete',
      'demo',
    ]) {
      const { code, stdout } = await folder.run([...command.split(' '), '--help'])
      expect(code, command).toBe(0)
      expect(stdout, command).toContain('Example:')
      expect(stdout, command).toContain('--json')
    }
  })

  it('runs a pipeline until it has caught up, and again without doubling', async () => {
    using folder = newFolder()
    folder.write('p.yaml', GENERATE(2_000, 500))
    for (let round = 0; round < 2; round++) {
      const { code, stderr } = await folder.run(['run', 'p.yaml', '--until-caught-up'])
      expect(code, stderr).toBe(0)
    }
    const rows = countOf(join(folder.path, 'index.db'), 'items')
    expect(rows).toBeGreaterThan(1_000)
    expect(rows).toBeLessThanOrEqual(2_000)
    const found = await folder.run(['search', 'made-up', 'amber', '--file', 'p.yaml', '--json'])
    expect(JSON.parse(found.stdout).total).toBeGreaterThan(0)
    expect((await folder.run(['delete', 'made-up', '--file', 'p.yaml'])).code).toBe(1)
    expect(await folder.run(['delete', 'made-up', '--file', 'p.yaml', '--yes'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('progress of made-up'),
    })
    expect(existsSync(join(folder.path, '.millrace/logs/made-up'))).toBe(false)
    expect(countOf(join(folder.path, 'index.db'), 'items'), "the sink's data stay").toBe(rows)
    expect(countOf(join(folder.path, 'index.db'), 'millrace_progress')).toBe(0)
    const anew = await folder.run(['run', 'p.yaml', '--until-caught-up'])
    expect(anew.code, anew.stderr).toBe(0)
    expect(
      countOf(join(folder.path, 'index.db'), 'items'),
      'the same rows, numbered above the old ones',
    ).toBe(rows)
  })

  it('prints records as lines of JSON, logs on the other stream', async () => {
    using folder = newFolder()
    folder.write('p.yaml', 'name: lines\nsource: { type: generate, rows: 25 }\nsinks: [{ type: stdout }]\n')
    const { code, stdout, stderr } = await folder.run(['run', 'p.yaml', '--until-caught-up'])
    expect(code, stderr).toBe(0)
    const lines = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { offset: number })
    expect(lines.map(line => line.offset)).toEqual([...Array(25).keys()])
    for (const line of stderr.trim().split('\n').filter(Boolean)) JSON.parse(line)
  })

  it('a standard output that nobody reads stops its sink and nothing else, and Ctrl-C still ends within 5 s', async () => {
    using folder = newFolder()
    const source = '{ type: generate, rows: 20000 }'
    const sinks = '[{ type: stdout }, { type: sqlite, path: index.db }]'
    folder.write('p.yaml', `name: lines\nsource: ${source}\nsinks: ${sinks}\n`)
    const running = folder.start(['run', 'p.yaml'])
    running.child.stdout!.pause()
    const index = join(folder.path, 'index.db')
    const rows = () => {
      try {
        return countOf(index, 'items')
      } catch {
        return 0 // it is not made yet
      }
    }
    await until(() => existsSync(index) && rows() === 20_000, 'all rows are in the index')
    running.child.kill('SIGINT')
    const code = await new Promise(resolve => running.child.once('exit', resolve))
    expect(code, running.stderr()).toBe(0)
    running.child.stdout!.resume()
    const { stdout } = await running.ended
    const offsets = stdout
      .split('\n')
      .flatMap(line => /^\{"topic":[^}]*?"offset":(\d+)/.exec(line)?.[1] ?? [])
    expect(offsets.length).toBeLessThan(20_000)
    expect(offsets.map(Number), 'what was read is whole and in order').toEqual([...offsets.keys()])
  })

  it('serves status and search while it runs, keeps a second hub out (J5), ends within 5 s of Ctrl-C, and after kill -9 goes on', async () => {
    using folder = newFolder()
    folder.write('pipelines/p.yaml', GENERATE(500, 1_000_000, 200))
    const first = folder.start(['up', '--port', '0'])
    const status = async () =>
      JSON.parse((await folder.run(['status', '--json'])).stdout || '{"pipelines":[]}') as {
        pipelines: { name: string; state: string; tasks: { records: number }[] }[]
      }
    await until(async () => (await status()).pipelines[0]?.state === 'following', 'following')
    expect((await status()).pipelines[0]).toMatchObject({ name: 'made-up', dead_letters: 0 })
    expect(await folder.run(['search', 'made-up', 'cedar'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('found'),
    })
    expect(await folder.run(['dlq', 'list', 'made-up'])).toMatchObject({
      code: 0,
      stdout: 'made-up has no dead letters.\n',
    })
    const { url } = JSON.parse(readFileSync(join(folder.path, '.millrace/hub.json'), 'utf8'))
    const count = async (name: string, task: string) =>
      (await metricsAt(url))
        .get(`millrace_task_${name}_seconds`)
        ?.samples.find(one => one.name.endsWith('_count') && one.labels.includes(`task="made-up/${task}"`))
        ?.value
    await until(async () => ((await count('commit_to_durable', 'source')) ?? 0) >= 500, 'timed into the log')
    await until(
      async () => ((await count('commit_to_applied', 'index/0')) ?? 0) >= 500,
      'timed into the sink',
    )
    expect(await count('commit_to_applied', 'source')).toBeUndefined()
    expect([...(await metricsAt(url)).keys()]).toEqual(
      expect.arrayContaining([
        'millrace_task_lag_records',
        'millrace_task_state',
        'millrace_pipeline_log_bytes',
      ]),
    )
    expect(await folder.run(['up', '--port', '0'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`pid ${first.child.pid}`),
    })
    first.child.kill('SIGKILL')
    await first.ended
    const second = folder.start(['up', '--port', '0'])
    await until(async () => (await status()).pipelines[0]?.state === 'following', 'following after kill -9')
    second.child.kill('SIGINT')
    expect((await second.ended).code).toBe(0)
    expect((await folder.run(['status'])).stdout).toContain('No hub runs')
  })

  it('a failing pipeline never stops another one, and says why', async () => {
    using folder = newFolder()
    folder.write('pipelines/good.yaml', GENERATE(100, 100_000, 50))
    folder.write(
      'pipelines/bad.yaml',
      'name: bad\nsource: { type: postgres, url: "postgres://nobody:top-secret-word@127.0.0.1:1/nothing", tables: [a.b] }\nsinks: [{ type: stdout }]\n',
    )
    const hub = folder.start(['up', '--port', '0', '--json'])
    await until(() => hub.stdout().includes('"url"'), 'the API')
    const status = async () =>
      JSON.parse((await folder.run(['status', '--json'])).stdout) as {
        pipelines: { name: string; state: string; tasks: { error: string | null }[] }[]
      }
    await until(
      async () => (await status()).pipelines.some(one => one.name === 'made-up' && one.state === 'following'),
      'the good one follows',
    )
    const bad = (await status()).pipelines.find(one => one.name === 'bad')
    expect(bad).toMatchObject({ state: 'failing' })
    expect(bad?.tasks[0]?.error).toContain('127.0.0.1:1')
    hub.child.kill('SIGINT')
    const { code, stdout, stderr } = await hub.ended
    expect(code).toBe(0)
    expect(stdout + stderr + JSON.stringify(bad), 'no secret in any output').not.toContain('top-secret-word')
  })

  it('says that the disk is full, loses nothing, and goes on when there is room (ulimit -f)', async () => {
    using folder = newFolder()
    folder.write(
      'p.yaml',
      'name: full\nsource: { type: generate, rows: 30000, batch_rows: 500 }\nlog: { compression: none }\nsinks: [{ type: sqlite, path: index.db }]\n',
    )
    // The index must not be what fills first: it comes when the log is done.
    const small = folder.start(['run', 'p.yaml', '--until-caught-up'], {}, 'ulimit -f 2000;')
    await until(
      () => /is full \(EFBIG\)/.test(small.stderr()) || /disk is full|disk I\/O/i.test(small.stderr()),
      'the message',
    )
    small.child.kill('SIGINT')
    await small.ended
    const { code, stderr } = await folder.run(['run', 'p.yaml', '--until-caught-up'])
    expect(code, stderr).toBe(0)
    expect(countOf(join(folder.path, 'index.db'), 'items')).toBe(30_000)
  })
})

describe('cli with PostgreSQL', () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres()
    await server.sql(
      'CREATE SCHEMA app; CREATE TABLE app.things (id int PRIMARY KEY, name text, secret text); CREATE TABLE app.keyless (x int)',
    )
    await server.sql(
      "INSERT INTO app.things SELECT i, 'thing ' || i, 'hidden ' || i FROM generate_series(1, 1000) i",
    )
  })
  afterAll(() => server[Symbol.asyncDispose]())

  const yaml = (tables: string, more = '') => `name: app
source:
  type: postgres
  url: \${env:URL}
  tables: [${tables}]
${more}sinks:
  - { name: index, type: sqlite, path: index.db }
`

  it('checks, plans, runs, masks before the log, refuses a changed table list, and deletes what it made', async () => {
    using folder = newFolder()
    const env = { URL: server.url }
    folder.write(
      'p.yaml',
      yaml('app.things', '  transforms:\n    - mask: { fields: [app.things.secret], with: "***" }\n'),
    )
    expect(await folder.run(['check', 'p.yaml'], env)).toMatchObject({ code: 0, stdout: 'app: ready\n' })
    const plan = await folder.run(['plan', 'p.yaml'], env)
    expect(plan).toMatchObject({ code: 0, stdout: expect.stringContaining('millrace_app') })
    expect((await server.sql('SELECT count(*)::int AS n FROM pg_replication_slots'))[0]).toEqual({ n: 0 })
    expect(await folder.run(['run', 'p.yaml', '--until-caught-up'], env)).toMatchObject({ code: 0 })
    expect(countOf(join(folder.path, 'index.db'), 'things')).toBe(1_000)
    const password = new URL(server.url).password
    for (const file of ['logs/app/00000000000000000001.seg', 'state.db']) {
      const bytes = readFileSync(join(folder.path, '.millrace', file), 'latin1')
      expect(bytes.includes('hidden 7'), `${file} holds what was masked`).toBe(false)
      expect(bytes.includes(password), `${file} holds the password`).toBe(false)
    }
    await server.sql('CREATE TABLE app.more (id int PRIMARY KEY)')
    folder.write('p.yaml', yaml('app.things, app.more'))
    expect(await folder.run(['run', 'p.yaml'], env)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('millrace delete app --yes'),
    })
    const deleted = await folder.run(['delete', 'app', '--yes', '--file', 'p.yaml'], env)
    expect(deleted).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('replication slot millrace_app'),
    })
    expect((await server.sql('SELECT count(*)::int AS n FROM pg_replication_slots'))[0]).toEqual({ n: 0 })
  })

  it('says what is missing and the exact statement that mends it', async () => {
    using folder = newFolder()
    await server.sql("CREATE ROLE weak LOGIN PASSWORD 'a-weak-password'")
    const weak = server.urlOf({ user: 'weak', password: 'a-weak-password' })
    folder.write('p.yaml', yaml('app.things'))
    const { code, stderr, stdout } = await folder.run(['check', 'p.yaml'], { URL: weak })
    expect(code).toBe(1)
    expect(stderr).toContain('ALTER ROLE "weak" REPLICATION')
    expect(stderr).toContain('GRANT SELECT ON "app"."things" TO "weak"')
    expect(stdout + stderr).not.toContain('a-weak-password')
    folder.write('p.yaml', yaml('app.keyless'))
    expect(await folder.run(['plan', 'p.yaml'], { URL: server.url })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/app.*keyless[\s\S]*PRIMARY KEY/),
    })
  })
})

describe('demo', () => {
  it('snapshots, follows, compares every row, and prints one line of JSON', async () => {
    using folder = newFolder()
    const args = ['demo', '--once', '--json', '--products', '3000', '--changes', '200']
    for (let round = 0; round < 2; round++) {
      const { code, stdout, stderr } = await folder.run(args)
      expect(code, stderr).toBe(0)
      const last = JSON.parse(stdout.trim().split('\n').at(-1)!)
      expect(last).toMatchObject({ changes: 200, different: 0 })
      expect(last.rows).toBe(last.documents)
      expect(last.rows).toBeGreaterThan(3_000)
    }
  })

  it('stops the PostgreSQL that a kill -9 left behind, and refuses a schema that is not its own', async () => {
    using folder = newFolder()
    const first = folder.start(['demo', '--port', '0', '--products', '500'])
    await until(() => first.stdout().includes('Millrace at http'), 'the page')
    first.child.kill('SIGKILL')
    await first.ended
    const second = folder.start(['demo', '--port', '0', '--products', '500'])
    await until(() => second.stdout().includes('Millrace at http'), 'the page again')
    second.child.kill('SIGINT')
    expect((await second.ended).code).toBe(0)
    await using server = await startPostgres()
    await server.sql('CREATE SCHEMA shop')
    expect(await folder.run(['demo', '--once'], { DATABASE_URL: server.url })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('did not make'),
    })
  })
})
