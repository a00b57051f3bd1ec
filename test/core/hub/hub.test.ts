/** A hub of one process, whose pipeline cannot start: it is tried again, until somebody removes it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Source } from '../../../core/connector.ts'
import { ConnectorError } from '../../../core/errors.ts'
import { type DataDirectory, openDirectory } from '../../../core/hub/directory.ts'
import { openHub } from '../../../core/hub/hub.ts'
import { embeddedLogs } from '../../../core/hub/logs.ts'
import type { ParsedPipeline } from '../../../core/pipeline/schema.ts'
import { least, pipelineOf } from '../pipeline/stubs.ts'
import { handClock, settled } from './clock.ts'

const log = { debug() {}, info() {}, warn() {}, error() {} }

describe('a hub of one process', () => {
  let path: string
  let directory: DataDirectory
  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'millrace-hub-'))
    directory = openDirectory(path)
  })
  afterEach(() => {
    directory[Symbol.dispose]()
    rmSync(path, { recursive: true, force: true })
  })

  const withCheck = (check: Source['check']): ParsedPipeline => {
    const definition = pipelineOf(`${least}sinks: [{ type: printer }]\n`)
    const plan = async () => ({ tables: [], upstream: [] })
    const connector = { ...(definition.source.connector as Source), check, plan }
    return { ...definition, source: { ...definition.source, connector } }
  }
  const hubOn = (clock: ReturnType<typeof handClock>) =>
    openHub({
      directory,
      clock,
      random: () => 0.5,
      log,
      redact: text => text,
      logs: embeddedLogs({ directory, clock, log, lingerMs: 0, batchBytes: 1_000 }),
    })

  it('a pipeline that is removed while it fails is tried no more, and shown no more', async () => {
    const clock = handClock()
    await using hub = hubOn(clock)
    let checks = 0
    hub.keepStarting(
      withCheck(async () => {
        checks++
        throw new ConnectorError('unavailable', 'the database is away')
      }),
    )
    await clock.pass(600_000)
    expect(checks).toBeGreaterThan(2)
    expect((await hub.status()).pipelines).toMatchObject([{ name: 'a', state: 'failing' }])
    await hub.remove('a')
    const before = checks
    await clock.pass(600_000)
    expect(checks).toBe(before)
    expect((await hub.status()).pipelines).toEqual([])
  })

  it('a removal that fails can be said again', async () => {
    const clock = handClock()
    await using hub = hubOn(clock)
    const definition = withCheck(async () => {
      throw new ConnectorError('unavailable', 'the database is away')
    })
    let isAway = true
    const connector: Source = {
      ...(definition.source.connector as Source),
      async drop() {
        if (isAway) throw new ConnectorError('unavailable', 'the database is away')
        return ['the slot']
      },
    }
    hub.keepStarting({ ...definition, source: { ...definition.source, connector } })
    await settled()
    await expect(hub.remove('a')).rejects.toThrow('away')
    isAway = false
    expect(await hub.remove('a')).toContain('the slot')
    await expect(hub.remove('a')).rejects.toThrow('there is no pipeline "a"')
  })

  it('one that is removed while it is being checked does not start afterwards', async () => {
    const clock = handClock()
    await using hub = hubOn(clock)
    let checked = () => {}
    hub.keepStarting(withCheck(() => new Promise<void>(resolve => (checked = resolve))))
    await settled()
    const removing = hub.remove('a')
    await settled()
    checked()
    await removing
    await clock.pass(60_000)
    expect(hub.running('a')).toBeNull()
    expect((await hub.status()).pipelines).toEqual([])
    expect(directory.state.prepare('SELECT name FROM pipelines').all()).toEqual([])
  })
})
