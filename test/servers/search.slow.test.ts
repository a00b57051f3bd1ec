/** The search servers of the tests: they answer what test/golden/ says, and keep what they were told over kill -9. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { missingFor, SEARCH_SERVERS, type SearchServer, startSearch } from './search.ts'
import { converse, DIALOGUE_SETTINGS } from './search-dialogue.ts'
import { lines } from './search-dialogue-writes.ts'
import { ask, makeHome } from './search-process.ts'

// The first start brings the server: a minute, and more on a busy machine.
const FIRST_START_MS = 600_000
/** Set to record what the servers answer anew: read the difference before it is kept. */
const isRecording = Boolean(process.env.RECORD_SEARCH)
const GOLDEN = fileURLToPath(new URL('../golden/search/', import.meta.url))

for (const kind of SEARCH_SERVERS) {
  const missing = missingFor(kind)
  describe.skipIf(missing !== null)(missing ?? kind, () => {
    let server: SearchServer
    beforeAll(async () => {
      server = await startSearch(kind, { settings: DIALOGUE_SETTINGS })
    }, FIRST_START_MS)
    afterAll(() => server?.[Symbol.asyncDispose]())

    it('answers as recorded', async () => {
      const exchanges = await converse(server)
      const file = join(GOLDEN, `${kind}.json`)
      if (isRecording) {
        mkdirSync(GOLDEN, { recursive: true })
        writeFileSync(file, `[\n${exchanges.map(one => JSON.stringify(one)).join(',\n')}\n]\n`)
      }
      expect(exchanges).toEqual(JSON.parse(readFileSync(file, 'utf8')))
    })

    it('keeps ten documents over kill -9, and is silent while frozen', async () => {
      await server.request('PUT', '/ten', { settings: { number_of_replicas: 0 } })
      const ten = Array.from({ length: 10 }, (_, i) => [{ index: { _index: 'ten', _id: String(i) } }, { i }])
      expect((await server.request('POST', '/_bulk', lines(...ten.flat()))).body.errors).toBe(false)
      const { pid } = server
      await server.kill9()
      expect(() => process.kill(pid, 0)).toThrow('ESRCH')
      await expect(server.request('GET', '/')).rejects.toThrow('ECONNREFUSED')
      await server.start()
      await server.request('POST', '/ten/_refresh')
      expect((await server.request('GET', '/ten/_count')).body.count).toBe(10)

      server.freeze()
      const asked = server.request('GET', '/ten/_count')
      expect(await Promise.race([asked, sleep(1_000, 'silence')])).toBe('silence')
      server.thaw()
      expect((await asked).body.count).toBe(10)
    })

    it('stops, even when frozen, and starts again', async () => {
      server.freeze()
      await server.stop()
      await server.stop()
      await server.start()
      expect((await server.request('GET', '/ten/_count')).body.count).toBe(10)
    })
  })
}

const missing = missingFor('opensearch-2', { security: true })
describe.skipIf(missing !== null)(missing ?? 'opensearch-2 with security', () => {
  it('wants TLS of its own authority, and a password', { timeout: FIRST_START_MS }, async () => {
    await using server = await startSearch('opensearch-2', { security: true })
    expect(server.url).toMatch(/^https:/)
    const { status, body } = await server.request('GET', '/')
    expect([status, body.version.distribution]).toEqual([200, 'opensearch'])
    const ca = readFileSync(server.ca!, 'utf8')
    expect(await ask({ url: server.url, ca }, 'GET', '/')).toEqual({ status: 401, body: 'Unauthorized' })
    const wrong = { url: server.url, ca, username: server.username, password: 'wrong' }
    expect((await ask(wrong, 'POST', '/_bulk', lines({}))).status).toBe(401)
    await expect(ask({ url: server.url }, 'GET', '/')).rejects.toMatchObject({
      code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    })
  })
})

it('removes what killed tests left, and ends a process only if it is their server', async () => {
  const dead = spawnSync('true').pid
  const leave = () => {
    const home = mkdtempSync(join(tmpdir(), 'millrace-test-search-'))
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)', home], { stdio: 'ignore' })
    writeFileSync(join(home, 'server'), String(child.pid))
    writeFileSync(join(home, 'owner'), String(dead))
    return { home, child, ended: once(child, 'exit') }
  }
  const [server, other] = [leave(), leave()]
  // As if the number had gone to somebody else.
  writeFileSync(join(other.home, 'server'), String(process.pid))
  rmSync(makeHome(), { recursive: true })
  expect(await server.ended).toEqual([null, 'SIGKILL'])
  expect([server, other].filter(one => existsSync(one.home))).toEqual([])
  expect(other.child.signalCode).toBe(null)
  other.child.kill('SIGKILL')
})
