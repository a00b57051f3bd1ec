/** The program into files: killed at any moment, at its log's limit, started anew; every change stands once. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Status } from '../../../core/hub/status.ts'
import { type Folder, newFolder, until } from './program.ts'

const ROWS = 2_000
const CHANGES = 12_000
const yaml = (more: string) => `name: lake
source: { type: generate, rows: ${ROWS}, batch_rows: 500, changes: ${CHANGES}, rate: 6000 }
log: { partitions: 2, compression: none }
sinks:
  - type: file
    directory: out
    metadata: [partition, offset]
    rotate: ${more}
`

const namesIn = (folder: Folder): string[] => {
  try {
    return readdirSync(join(folder.path, 'out'), { recursive: true, encoding: 'utf8' })
      .filter(name => !name.startsWith('_millrace') && statSync(join(folder.path, 'out', name)).isFile())
      .sort()
  } catch {
    return []
  }
}

/** "partition/offset" of each row of each object. */
const placesIn = (folder: Folder): string[] =>
  namesIn(folder).flatMap(name =>
    readFileSync(join(folder.path, 'out', name), 'utf8')
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line) as { _partition: number; _offset: number })
      .map(({ _partition, _offset }) => `${_partition}/${_offset}`),
  )

function expectAll(folder: Folder): void {
  const places = placesIn(folder)
  expect(places.length).toBe(ROWS + CHANGES)
  expect(new Set(places).size).toBe(places.length)
  for (const partition of [0, 1]) {
    const offsets = places.filter(one => one.startsWith(`${partition}/`)).length
    expect(places).toContain(`${partition}/${offsets - 1}`)
  }
}

describe('changes as files', () => {
  it('holds each change once over kill -9 at any moment', async () => {
    using folder = newFolder()
    folder.write('p.yaml', yaml('{ records: 300, open_ms: 300, idle_ms: 200 }'))
    for (const objects of [1, 8, 20]) {
      const running = folder.start(['up', 'p.yaml', '--port', '4791'])
      await until(() => namesIn(folder).length >= objects, `${objects} objects`)
      running.child.kill('SIGKILL')
      await running.ended
    }
    const last = await folder.run(['run', 'p.yaml', '--until-caught-up'])
    expect(last, last.stderr).toMatchObject({ code: 0 })
    expectAll(folder)
    // Nothing is left to be done, and nothing is done again.
    const before = namesIn(folder)
    expect((await folder.run(['run', 'p.yaml', '--until-caught-up'])).code).toBe(0)
    expect(namesIn(folder)).toEqual(before)
  }, 240_000)

  it('is not let go before it stands: a log at its limit waits for the sink, which flushes when it falls silent', async () => {
    using folder = newFolder()
    folder.write('p.yaml', `${yaml('{ idle_ms: 500 }')}limits: { log_bytes: 1MB }\n`)
    const hub = folder.start(['up', 'p.yaml', '--port', '4792'])
    const pipeline = async () => {
      const { stdout } = await folder.run(['status', '--json'])
      return (JSON.parse(stdout) as Status).pipelines[0]
    }
    await until(async () => (await pipeline())?.tasks[0]?.state === 'ended', 'the source has ended')
    await until(
      async () => (await pipeline())?.tasks.slice(1).every(one => one.lag_records === 0) === true,
      'no lag',
    )
    expectAll(folder)
    expect((await pipeline())?.log.bytes).toBeLessThan(1_300_000)
    hub.child.kill('SIGINT')
    expect((await hub.ended).stderr).not.toContain('"level":50')
  }, 240_000)
})
