/** The PostgreSQL of demo and tests: quick to start, data kept, nothing left behind, whatever was killed. */
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort, startEmbeddedPostgres } from '../../../connectors/postgres/embedded.ts'
import { executable, findBinaries } from '../../../connectors/postgres/embedded-binaries.ts'

let root: string
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'millrace-embedded-'))
  chmodSync(root, 0o711)
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

async function ask(url: string, sql: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  const { rows } = await client.query(sql)
  await client.end()
  return rows[0] && Object.values(rows[0])[0]
}
const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe('embedded PostgreSQL', () => {
  it('starts, and again with its data, password and port; wants the password', async () => {
    const directory = join(root, 'kept')
    const first = await startEmbeddedPostgres({ directory })
    expect(first).toMatchObject({ isNew: true, directory })
    await ask(first.url, `CREATE TABLE kept AS SELECT 'ä' AS v`)
    expect(
      await ask(
        first.url,
        `SELECT current_setting('server_encoding') || current_setting('TimeZone') || current_setting('listen_addresses')`,
      ),
    ).toBe('UTF8UTC127.0.0.1')
    await expect(ask(first.url.replace(/:[^:@]+@/, ':wrong@'), 'SELECT 1')).rejects.toMatchObject({
      code: '28P01',
    })
    await first.stop()
    await first.stop()
    expect(isAlive(first.pid)).toBe(false)
    await using second = await startEmbeddedPostgres({
      directory,
      port: first.port,
      settings: { wal_level: 'logical' },
    })
    expect(second).toMatchObject({ isNew: false, url: first.url })
    expect(await ask(second.url, 'SELECT v FROM kept')).toBe('ä')
    expect(await ask(second.url, 'SHOW wal_level')).toBe('logical')
  })

  it('a server that outlived its parent is found and stopped first', async () => {
    const directory = join(root, 'orphaned')
    const made = await startEmbeddedPostgres({ directory })
    await made.stop()
    // A parent that is killed: the server it started goes on.
    const script = join(root, 'parent.mjs')
    const binaries = findBinaries()
    const port = await freePort()
    writeFileSync(
      script,
      `import { spawn } from 'node:child_process'
       spawn(${JSON.stringify(executable(binaries, 'postgres'))}, ['-D', ${JSON.stringify(directory)}, '-p', '${port}', '-c', 'unix_socket_directories='], { ...${JSON.stringify(binaries.runAs)}, cwd: '/', detached: true, stdio: 'ignore' })
       setInterval(() => {}, 1000)`,
    )
    const parent = spawn(process.execPath, [script], { stdio: 'ignore' })
    const pidOf = () =>
      existsSync(join(directory, 'postmaster.pid'))
        ? readFileSync(join(directory, 'postmaster.pid'), 'utf8').split('\n')
        : []
    while (pidOf()[7]?.trim() !== 'ready') await new Promise(done => setTimeout(done, 20))
    const orphan = Number(pidOf()[0])
    parent.kill('SIGKILL')
    await new Promise(done => parent.once('exit', done))
    expect(isAlive(orphan)).toBe(true)
    await using next = await startEmbeddedPostgres({ directory })
    expect(isAlive(orphan)).toBe(false)
    expect(await ask(next.url, 'SELECT 1')).toBe(1)
  })

  it('a pid that went to another process is left alone', async () => {
    const directory = join(root, 'reused')
    const made = await startEmbeddedPostgres({ directory })
    await made.stop()
    const bystander = spawn('sleep', ['60'], { stdio: 'ignore' })
    writeFileSync(join(directory, 'postmaster.pid'), `${bystander.pid}\n${directory}\n`)
    await using next = await startEmbeddedPostgres({ directory })
    expect(await ask(next.url, 'SELECT 1')).toBe(1)
    expect(bystander.exitCode).toBeNull()
    bystander.kill()
  })

  it('after a kill -9 of the server it recovers; stop does not wait for sessions', async () => {
    const directory = join(root, 'crashed')
    const first = await startEmbeddedPostgres({ directory })
    await ask(first.url, 'CREATE TABLE t AS SELECT 1 AS v')
    process.kill(first.pid, 'SIGKILL')
    expect(await first.ended).toBe('SIGKILL')
    const second = await startEmbeddedPostgres({ directory })
    expect(await ask(second.url, 'SELECT v FROM t')).toBe(1)
    const busy = ask(second.url, 'SELECT pg_sleep(3600)')
    const refused = expect(busy).rejects.toThrow()
    await new Promise(done => setTimeout(done, 100))
    await second.stop()
    await refused
  })

  it('a folder only we can enter, and one that holds something else', async () => {
    const locked = join(root, 'locked')
    mkdirSync(locked, { mode: 0o700 })
    const server = await startEmbeddedPostgres({ directory: join(locked, 'data') })
    expect(await ask(server.url, 'SELECT 1')).toBe(1)
    await server.stop()
    if (server.directory !== join(locked, 'data')) rmSync(join(server.directory, '..'), { recursive: true })
    const other = join(root, 'other')
    mkdirSync(other)
    writeFileSync(join(other, 'file'), 'mine')
    await expect(startEmbeddedPostgres({ directory: other })).rejects.toMatchObject({ kind: 'config' })
    expect(readFileSync(join(other, 'file'), 'utf8')).toBe('mine')
  })

  it('a half-made directory is made again; a server that cannot start says why', async () => {
    const directory = join(root, 'half')
    mkdirSync(`${directory}.new`)
    writeFileSync(join(`${directory}.new`, 'PG_VERSION'), '18')
    const server = await startEmbeddedPostgres({ directory })
    await server.stop()
    await expect(startEmbeddedPostgres({ directory, settings: { wal_level: 'nonsense' } })).rejects.toThrow(
      /nonsense/,
    )
    writeFileSync(join(directory, 'PG_VERSION'), '17\n')
    await expect(startEmbeddedPostgres({ directory })).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('PostgreSQL 17'),
    })
  })
})
