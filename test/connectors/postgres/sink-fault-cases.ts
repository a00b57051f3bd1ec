/** The PostgreSQL sink: rights that are missing, and a server that is altered, full, slow or killed under it. */
import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { findBinaries } from '../../../connectors/postgres/embedded-binaries.ts'
import { postgresSink } from '../../../connectors/postgres/sink.ts'
import { type ConnectorError, Fenced } from '../../../core/errors.ts'
import { testContext } from '../../conform/context.ts'
import { killThrice } from '../../conform/kills.ts'
import { batchOf, KIT_TABLE, recordOf } from '../../conform/kit-table.ts'
import { refusalOf } from '../../conform/refusal.ts'
import { startPostgres } from '../../servers/postgres.ts'
import { missingForSmallDisk, mountSmallDisk } from '../../servers/small-disk.ts'
import { write } from '../writing.ts'
import { type Kept, openOn } from './kept.ts'

export function faultCases({ server, open, rows }: Kept): void {
  it('check and plan name the right that is missing and the statement that gives it', async () => {
    await server().sql(
      "DROP ROLE IF EXISTS writer; CREATE ROLE writer LOGIN PASSWORD 'secret'; CREATE SCHEMA kept",
    )
    const url = server().urlOf({ user: 'writer', password: 'secret' })
    const check = (schema: string) =>
      refusalOf(postgresSink.check(postgresSink.config.parse({ url, schema }) as never, testContext()))
    const missing = await check('elsewhere')
    expect(missing).toMatchObject({
      kind: 'auth',
      hint: expect.stringContaining('CREATE SCHEMA "elsewhere" AUTHORIZATION "writer"'),
    })
    const usage = await check('kept')
    expect(usage?.hint).toBe('GRANT USAGE, CREATE ON SCHEMA "kept" TO "writer";')
    await server().sql(usage!.hint!)
    expect(await check('kept')).toBeNull()
    await write(await open(), recordOf({ id: 1, version: 1 })) // as the superuser
    const moves = await check('kept')
    await server().sql(moves!.hint!)
    expect(await check('kept')).toBeNull()
    const planned = await refusalOf(
      postgresSink.plan!(
        postgresSink.config.parse({ url, schema: 'kept' }) as never,
        [{ table: KIT_TABLE, topic: 'kit.test.kit' }],
        testContext(),
      ),
    )
    await server().sql(planned!.hint!)
    const writer = await openOn(url, {}, { task: 'test/sink/1' })
    await write(writer, recordOf({ id: 2, version: 2, partition: 1 }))
    await writer[Symbol.asyncDispose]()
    const wrong = server().urlOf({ user: 'writer', password: 'wr0ng' })
    const error = await refusalOf(openOn(wrong))
    expect(error?.kind).toBe('auth')
    expect(`${error?.message} ${error?.hint}`).not.toContain('wr0ng')
    await server().sql('DROP OWNED BY writer; DROP ROLE writer')
  })

  it('a server that became read only is waited for', async () => {
    await server().sql(
      "CREATE SCHEMA kept; DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN SUPERUSER PASSWORD 'r'; ALTER ROLE reader SET default_transaction_read_only = on",
    )
    const error = await openOn(server().urlOf({ user: 'reader', password: 'r' })).catch(
      one => one as ConnectorError,
    )
    expect(error).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('name the primary') })
    await server().sql('DROP ROLE reader')
  })

  it('a table dropped or altered under it: unavailable, and whoever opens anew goes on', async () => {
    const writer = await open()
    await write(writer, recordOf({ id: 1, version: 1 }))
    await server().sql('DROP TABLE kept.kit')
    await expect(writer.write(batchOf([recordOf({ id: 2, version: 2 })]))).rejects.toMatchObject({
      kind: 'unavailable',
    })
    const next = await open({}, { epoch: 2 })
    await write(next, recordOf({ id: 2, version: 2 }))
    expect([...(await rows()).keys()]).toEqual(['2'])
  })

  it('an owner frozen inside its transaction is ended by the server, and its late write changes nothing', async () => {
    const old = await open()
    await write(old, recordOf({ id: 1, version: 1 }))
    // What a frozen process leaves: its backend stands in a transaction that holds the position.
    const frozen = await server().client()
    await frozen.query(
      "SET idle_in_transaction_session_timeout = '2s'; BEGIN; UPDATE kept.millrace_progress SET position = position",
    )
    const young = await open({}, { epoch: 2 })
    await write(young, recordOf({ id: 2, version: 2 }))
    await expect(old.write(batchOf([recordOf({ id: 3, version: 3 })]))).rejects.toThrow(Fenced)
    expect([...(await rows()).keys()]).toEqual(['1', '2'])
  })

  it.skipIf(missingForSmallDisk() !== null)(
    `its disk full: unavailable, nothing of the batch is there, and it goes on with room${missingForSmallDisk() ?? ''}`,
    async () => {
      using disk = mountSmallDisk(32, Number((findBinaries().runAs as { uid?: number }).uid ?? 0))
      await using one = await startPostgres()
      await one.sql(`CREATE TABLESPACE small LOCATION '${disk.path}'`)
      await one.sql('ALTER ROLE CURRENT_USER SET default_tablespace = small')
      const large = (id: number) =>
        recordOf({
          op: 'c',
          id,
          version: id,
          row: JSON.stringify({ id, name: randomBytes(60_000).toString('hex') }),
        })
      const first = await openOn(one.url)
      await write(first, large(1))
      disk.fill()
      const batch = batchOf([2, 3, 4, 5].map(large))
      const failure = await first.write(batch).catch(error => error as ConnectorError)
      expect(failure).toMatchObject({ kind: 'unavailable', hint: expect.stringContaining('Make room') })
      await first[Symbol.asyncDispose]()
      expect(await one.sql('SELECT id::int FROM kept.kit ORDER BY id')).toEqual([{ id: 1 }])
      disk.makeRoom()
      await using second = await openOn(one.url, {}, { epoch: 2 })
      expect(await second.position!()).toMatchObject({ next: { 'kit.test.kit': 2 } })
      expect(await second.write(batch)).toEqual([])
      expect(await one.sql('SELECT count(*)::int AS n FROM kept.kit')).toEqual([{ n: 5 }])
    },
  )

  it('killed under it, three times: whoever opens anew finds position and rows of the same moment', async () => {
    await using one = await startPostgres({ settings: { fsync: 'on' } })
    await killThrice({
      server: one,
      open: context => openOn(one.url, {}, context),
      async held() {
        const [is] = await one.sql("SELECT to_regclass('kept.kit') IS NOT NULL AS is")
        if (!is!.is) return 0
        const [held] = await one.sql<{ n: number }>('SELECT count(*)::int AS n FROM kept.kit')
        return held!.n
      },
      rows: 300,
      killMs: round => 150 + 130 * round,
    })
  })
}
