/** The MariaDB sink: rights and certificates that are missing, and a server that is full, frozen or killed under it. */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type ConnectorError, Fenced } from '../../../core/errors.ts'
import { testContext } from '../../conform/context.ts'
import { killThrice } from '../../conform/kills.ts'
import { batchOf, recordOf } from '../../conform/kit-table.ts'
import { refusalOf } from '../../conform/refusal.ts'
import { makeAuthority } from '../../servers/certificates.ts'
import { startMariadb } from '../../servers/mariadb.ts'
import { write } from '../writing.ts'
import type { Kept } from './kept.ts'
import { openOn, rows } from './reading.ts'

export function faultCases({ sink, server, open }: Kept): void {
  it('check names the right that is missing; a wrong password is told without it', async () => {
    await server().sql(
      "CREATE OR REPLACE USER 'writer'@'%' IDENTIFIED BY 'w'; GRANT SELECT ON kept.* TO 'writer'@'%'",
    )
    const check = (password: string) =>
      refusalOf(
        sink.check(
          sink.config.parse({ url: server().urlOf({ user: 'writer', password }) }) as never,
          testContext(),
        ),
      )
    const lacking = await check('w')
    expect(lacking).toMatchObject({
      kind: 'auth',
      message: expect.stringContaining('lacks INSERT, UPDATE, DELETE, CREATE, ALTER'),
    })
    await server().sql(lacking!.hint!)
    expect(await check('w')).toBeNull()
    const wrong = await check('wr0ng')
    expect(wrong?.kind).toBe('auth')
    expect(`${wrong?.message} ${wrong?.hint}`).not.toContain('wr0ng')
  })

  it('TLS: with its authority, for a user who must; without it each mistake is told', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-tls-'))
    try {
      const authority = makeAuthority(folder)
      const { cert, key } = authority.issue('mariadb')
      for (const path of [cert, key, folder]) chmodSync(path, 0o755)
      await using one = await startMariadb({
        settings: { 'ssl-ca': authority.ca, 'ssl-cert': cert, 'ssl-key': key },
      })
      await one.sql("CREATE USER 'safe'@'%' IDENTIFIED BY 'p' REQUIRE SSL; GRANT ALL ON kept.* TO 'safe'@'%'")
      const url = one.urlOf({ user: 'safe', password: 'p' })
      let epoch = 1
      const openWith = (over: object) => openOn(sink, url, over, testContext({ epoch: epoch++ }))
      await using writer = await openWith({ tls: { ca: authority.ca } })
      expect(await writer.write(batchOf([recordOf({ version: 1 })]))).toEqual([])
      expect((await rows(one)).size).toBe(1)
      await (await openWith({ tls: { verify: false } }))[Symbol.asyncDispose]()
      await expect(openWith({})).rejects.toMatchObject({ kind: 'auth' })
      await expect(openWith({ tls: {} })).rejects.toMatchObject({
        kind: 'auth',
        message: expect.stringContaining('certificate'),
      })
      await expect(openWith({ tls: { ca: join(folder, 'none.pem') } })).rejects.toMatchObject({
        kind: 'config',
      })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('its tables full: unavailable, with what to do; nothing of the batch is there, and what fits goes on', async () => {
    await using one = await startMariadb({
      settings: { 'innodb-file-per-table': '0', 'innodb-data-file-path': 'ibdata1:12M:autoextend:max:24M' },
    })
    const half = randomBytes(30_000).toString('hex')
    const large = (id: number) =>
      recordOf({ op: 'c', id, version: id, row: JSON.stringify({ id, name: `${id}${half}`, price: '1' }) })
    const batchFrom = (from: number, count: number) =>
      batchOf(Array.from({ length: count }, (_, i) => large(from + i)))
    const first = await openOn(sink, one.url, {}, testContext())
    expect(await first.write(batchFrom(1, 5))).toEqual([])
    const failure = await first.write(batchFrom(6, 400)).catch(error => error as ConnectorError)
    expect(failure).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('Make room') })
    await first[Symbol.asyncDispose]()
    expect((await rows(one)).size).toBe(5)
    await using second = await openOn(sink, one.url, {}, testContext({ epoch: 2 }))
    expect(await second.position!()).toMatchObject({ next: { 'kit.test.kit': 6 } })
    expect(await second.write(batchFrom(6, 5))).toEqual([])
    expect((await rows(one)).size).toBe(10)
  })

  it('killed under it, three times: whoever opens anew finds position and rows of the same moment', async () => {
    await using one = await startMariadb()
    await killThrice({
      server: one,
      open: context => openOn(sink, one.url, {}, context),
      held: async () => (await rows(one)).size,
      rows: 300,
      killMs: round => 200 + 150 * round,
    })
  })

  it('a frozen server is waited for; the older of two owners is fenced', async () => {
    const old = await open()
    await write(old, recordOf({ id: 1, version: 1 }))
    server().freeze()
    const opening = open({}, { epoch: 2 })
    await new Promise(resolve => setTimeout(resolve, 300))
    server().thaw()
    await write(await opening, recordOf({ id: 2, version: 2 }))
    await expect(old.write(batchOf([recordOf({ id: 3, version: 3 })]))).rejects.toThrow(Fenced)
    expect([...(await rows(server())).keys()]).toEqual(['1', '2'])
  })
}
