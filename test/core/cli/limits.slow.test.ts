/** A log at its limit, as the user of the program meets it (J4). */
import { join } from 'node:path'
import Database from 'libsql'
import { describe, expect, it } from 'vitest'
import type { Status } from '../../../core/hub/status.ts'
import { type Folder, newFolder, until } from './program.ts'

const LIMIT = 1_000_000

const yaml = (policy: string) => `name: full
source: { type: generate, rows: 2000, batch_rows: 200, changes: 30000, rate: 12000 }
log: { compression: none }
sinks:
  - { name: good, type: sqlite, path: good.db }
  - { name: bad, type: sqlite, path: bad.db }
errors: { retry: { max_attempts: 2, backoff_ms: 10, max_backoff_ms: 50 } }
limits: { log_bytes: 1MB, policy: ${policy} }
`

async function pipeline(folder: Folder) {
  const { stdout } = await folder.run(['status', '--json'])
  return (JSON.parse(stdout) as Status).pipelines[0]
}

/** Nobody else can write the sink's file until it is disposed. */
function locked(path: string): Disposable {
  const database = new Database(path, { timeout: 5_000 })
  database.exec('BEGIN IMMEDIATE')
  return { [Symbol.dispose]: () => void database.close() }
}

describe('a log at its limit', () => {
  it('detach_sink: lets the sink go that holds it, for good; the others and the source go on', async () => {
    using folder = newFolder()
    folder.write('p.yaml', yaml('detach_sink'))
    const hub = folder.start(['up', 'p.yaml', '--port', '4790'])
    await until(async () => ((await pipeline(folder))?.tasks[2]?.records ?? 0) > 0, 'the sink has written')
    {
      using _ = locked(join(folder.path, 'bad.db'))
      await until(
        async () => (await pipeline(folder))?.tasks[2]?.state === 'detached',
        'the sink is detached',
      )
      await until(async () => (await pipeline(folder))?.tasks[0]?.state === 'ended', 'the source has ended')
    }
    await until(async () => (await pipeline(folder))?.tasks[1]?.lag_records === 0, 'the good one has it all')
    const status = await pipeline(folder)
    expect(status).toMatchObject({ state: 'detached', log: { limit_bytes: LIMIT } })
    expect(status?.log.bytes).toBeLessThan(LIMIT + 200_000)
    expect(status?.log.bytes).toBeGreaterThan(LIMIT / 3)
    expect(status?.tasks[2]).toMatchObject({
      error: expect.stringContaining('full/bad/0 is detached'),
      hint: expect.stringContaining('millrace delete'),
    })
    const { stdout } = await folder.run(['status'])
    expect(stdout).toMatch(/full +detached .* of 1\.0 MB/)
    hub.child.kill('SIGINT')
    expect((await hub.ended).stderr).toContain('"kind":"offset_lost"')

    const again = await folder.run(['run', 'p.yaml', '--until-caught-up'])
    expect(again, 'it stays so over a restart').toMatchObject({
      code: 1,
      stderr: expect.stringContaining('full/bad/0 is detached'),
    })
    expect((await folder.run(['delete', 'full', '--yes', '--file', 'p.yaml'])).code).toBe(0)
    folder.write(
      'p.yaml',
      yaml('alert')
        .replaceAll('.db', '-2.db')
        .replace(/changes.*rate: \d+/, 'changes: 0'),
    )
    const anew = await folder.run(['run', 'p.yaml', '--until-caught-up'])
    expect(anew.code, anew.stderr).toBe(0)
  })

  it('alert: the source waits for the sink, and goes on by itself', async () => {
    using folder = newFolder()
    folder.write('p.yaml', yaml('alert'))
    const hub = folder.start(['up', 'p.yaml', '--port', '4791'])
    await until(async () => ((await pipeline(folder))?.tasks[2]?.records ?? 0) > 0, 'the sink has written')
    {
      using _ = locked(join(folder.path, 'bad.db'))
      await until(
        async () => (await pipeline(folder))?.tasks[0]?.error?.includes('limits.log_bytes') === true,
        'the source waits',
      )
      expect((await pipeline(folder))?.log.bytes).toBeLessThan(LIMIT + 200_000)
    }
    await until(async () => (await pipeline(folder))?.tasks[0]?.state === 'ended', 'the source has ended')
    await until(async () => (await pipeline(folder))?.caught_up === true, 'all have caught up')
    expect((await pipeline(folder))?.tasks.map(task => task.error)).toEqual([null, null, null])
    hub.child.kill('SIGINT')
    expect((await hub.ended).code).toBe(0)
  })
})
