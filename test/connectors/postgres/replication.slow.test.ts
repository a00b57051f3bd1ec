/** The stream of a real server: what comes, what is confirmed, how it ends. Values are values.slow.test.ts' business. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, quoteText } from '../../../connectors/postgres/connect.ts'
import { type ReplicationOptions, startReplication } from '../../../connectors/postgres/replication.ts'
import { createSlot } from '../../../connectors/postgres/slot.ts'
import {
  dropUpstream,
  emitMessage,
  ensurePublication,
  freeSlot,
  slotState,
} from '../../../connectors/postgres/upstream.ts'
import { testContext } from '../../conform/context.ts'
import { type PostgresServer, startPostgres } from '../../servers/postgres.ts'
import { followed } from './following.ts'

let server: PostgresServer
beforeAll(async () => {
  server = await startPostgres({ settings: { wal_sender_timeout: '1s' } })
})
afterAll(() => server[Symbol.asyncDispose]())

const sleep = (ms: number) => new Promise<void>(done => setTimeout(done, ms))
const app = (name: string) => ({ schema: 'public', name })
const confirmedOf = async (slot: string) =>
  (
    await server.sql<{ lsn: string }>(
      `SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = ${quoteText(slot)}`,
    )
  )[0]!.lsn

describe('replication', () => {
  it('brings every kind of change, in order, with keys, old keys and old rows', async () => {
    await server.sql(`CREATE TABLE plain (id int PRIMARY KEY, v text, w text); CREATE TABLE whole (id int PRIMARY KEY, v text, w text);
      ALTER TABLE whole REPLICA IDENTITY FULL; ALTER TABLE plain ALTER v SET STORAGE EXTERNAL; ALTER TABLE whole ALTER v SET STORAGE EXTERNAL;
      CREATE TABLE uniq (a int NOT NULL, b text NOT NULL, c text); CREATE UNIQUE INDEX uniq_key ON uniq (b, a); ALTER TABLE uniq REPLICA IDENTITY USING INDEX uniq_key`)
    await using follower = await followed(server, ['plain', 'whole', 'uniq'].map(app))
    await server.sql(`INSERT INTO plain VALUES (1, repeat('big', 5000), 'a'), (2, NULL, '')`)
    await server.sql(`UPDATE plain SET w = 'b' WHERE id = 1`)
    await server.sql(`UPDATE plain SET id = 3 WHERE id = 2`)
    await server.sql(`DELETE FROM plain WHERE id = 1`)
    await server.sql(`INSERT INTO whole VALUES (1, repeat('big', 5000), 'a')`)
    await server.sql(`UPDATE whole SET w = 'b'`)
    await server.sql(`DELETE FROM whole`)
    await server.sql(`INSERT INTO uniq VALUES (1, 'x', 'c')`)
    await server.sql(`UPDATE uniq SET b = 'y'`)
    await server.sql(`DELETE FROM uniq`)
    await server.sql(`TRUNCATE plain, whole RESTART IDENTITY`)
    const changes = await follower.until('end')
    const big = '"v":"'.concat('big'.repeat(5000), '"')
    expect(
      changes.map(({ op, key, oldKey, before, after, unchanged }) => [
        op,
        key,
        oldKey,
        before,
        after,
        unchanged,
      ]),
    ).toEqual([
      ['c', '{"id":1}', null, null, `{"id":1,${big},"w":"a"}`, null],
      ['c', '{"id":2}', null, null, '{"id":2,"v":null,"w":""}', null],
      ['u', '{"id":1}', null, null, '{"id":1,"w":"b"}', ['v']],
      ['u', '{"id":3}', '{"id":2}', null, '{"id":3,"v":null,"w":""}', null],
      ['d', '{"id":1}', null, null, null, null],
      ['c', '{"id":1}', null, null, `{"id":1,${big},"w":"a"}`, null],
      ['u', '{"id":1}', null, `{"id":1,${big},"w":"a"}`, `{"id":1,${big},"w":"b"}`, null],
      ['d', '{"id":1}', null, `{"id":1,${big},"w":"b"}`, null, null],
      ['c', '{"b":"x","a":1}', null, null, '{"a":1,"b":"x","c":"c"}', null],
      ['u', '{"b":"y","a":1}', '{"b":"x","a":1}', null, '{"a":1,"b":"y","c":"c"}', null],
      ['d', '{"b":"y","a":1}', null, null, null, null],
    ])
    expect(follower.events.filter(event => event.startsWith('truncate'))).toEqual([
      'truncate public.plain public.whole restart',
    ])
    expect(follower.events.at(-1)).toBe('commit')
  })

  it('partitions come under their root; a changed shape comes before its rows; columns are left out', async () => {
    await server.sql(`CREATE TABLE parted (id int, at date, note text, secret text, gen int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
      CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
      CREATE TABLE parted_2 (note text, at date NOT NULL, secret text, id int NOT NULL, gen int GENERATED ALWAYS AS (id * 2) STORED); ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')`)
    await using follower = await followed(server, [app('parted')], { 'public.parted': ['!secret'] })
    await server.sql(`INSERT INTO parted VALUES (1, '2026-01-05', 'a', 's'), (2, '2026-02-05', 'b', 's')`)
    await server.sql(
      `ALTER TABLE parted ADD more numeric; UPDATE parted SET more = 1.50 WHERE id = 1; ALTER TABLE parted DROP note`,
    )
    await server.sql(`UPDATE parted SET at = '2026-02-06' WHERE id = 1`)
    const changes = await follower.until('end')
    expect(changes.map(({ op, key, oldKey, after }) => [op, key, oldKey, after])).toEqual([
      ['c', '{"id":1,"at":"2026-01-05"}', null, '{"id":1,"at":"2026-01-05","note":"a"}'],
      ['c', '{"id":2,"at":"2026-02-05"}', null, '{"id":2,"at":"2026-02-05","note":"b"}'],
      // At this point of the log `note` is still there, though the catalog no longer knows it.
      ['u', '{"id":1,"at":"2026-01-05"}', null, '{"id":1,"at":"2026-01-05","note":"a","more":"1.50"}'],
      ['d', '{"id":1,"at":"2026-01-05"}', null, null],
      ['c', '{"id":1,"at":"2026-02-06"}', null, '{"id":1,"at":"2026-02-06","more":"1.50"}'],
    ])
    expect(new Set(changes.map(({ relation }) => relation.name))).toEqual(new Set(['parted']))
  })

  it('times, positions and xids are those of the server', async () => {
    await server.sql('CREATE TABLE facts (id int PRIMARY KEY)')
    await using follower = await followed(server, [app('facts')])
    const [row] = await server.sql<{ xid: string; now: string; lsn: string }>(
      `INSERT INTO facts VALUES (1) RETURNING pg_current_xact_id()::text AS xid, (extract(epoch FROM now()) * 1000000)::int8::text AS now, pg_current_wal_lsn()::text AS lsn`,
    )
    const seen: (typeof follower.confirmed)[] = []
    while (follower.changes.length === 0) await sleep(2)
    seen.push({ ...follower.confirmed })
    expect(BigInt(seen[0]!.xid)).toBe(BigInt(row!.xid) & 0xffffffffn)
    expect(Math.abs(seen[0]!.commitUs - Number(row!.now))).toBeLessThan(5_000_000)
    const [high, low] = row!.lsn.split('/')
    expect(seen[0]!.commitLsn).toBeGreaterThanOrEqual((BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`))
    expect(follower.changes[0]!.lsn).toBeLessThan(seen[0]!.commitLsn)
  })

  it('confirms what it is told, and only that; reading confirms nothing', async () => {
    await server.sql('CREATE TABLE confirmed (id int PRIMARY KEY)')
    await using follower = await followed(server, [app('confirmed')])
    const [slot] = await server.sql<{ name: string }>(
      `SELECT slot_name AS name FROM pg_replication_slots WHERE active`,
    )
    const before = await confirmedOf(slot!.name)
    await server.sql('INSERT INTO confirmed SELECT generate_series(1, 100)')
    await follower.until('read')
    await sleep(800) // two statuses by the timer
    expect(await confirmedOf(slot!.name)).toBe(before)
    const { endLsn } = follower.confirmed
    follower.replication.status(endLsn, { replyNow: true })
    follower.replication.status(1n, { replyNow: true }) // never back
    await sleep(200)
    const after = await confirmedOf(slot!.name)
    const [high, low] = after.split('/')
    expect((BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)).toBe(endLsn)
  })

  it("paused, it hands over nothing, and outlives the server's patience; resumed, nothing is missing", async () => {
    await server.sql('CREATE TABLE waiting (id int PRIMARY KEY, v text)')
    await using follower = await followed(server, [app('waiting')])
    await server.sql('INSERT INTO waiting VALUES (0)')
    await follower.until('begin')
    follower.replication.pause()
    await server.sql(`INSERT INTO waiting SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i`)
    await sleep(3_000) // three times wal_sender_timeout
    expect(follower.changes).toHaveLength(1)
    expect(follower.failure).toBeNull()
    follower.replication.resume()
    expect((await follower.until('end')).map(change => change.key)).toEqual(
      Array.from({ length: 20_001 }, (_, i) => `{"id":${i}}`),
    )
  })

  it('a value of 40 MB comes whole', async () => {
    await server.sql('CREATE TABLE huge (id int PRIMARY KEY, v text)')
    await using follower = await followed(server, [app('huge')])
    await server.sql(`INSERT INTO huge SELECT 1, repeat('€uro "x" ', 4000000)`)
    const [change] = await follower.until('end')
    expect(JSON.parse(change!.after!).v).toBe('€uro "x" '.repeat(4_000_000))
  })

  const none: Omit<ReplicationOptions, 'slot' | 'publication'> = {
    lsn: '0/0',
    nowUs: () => Date.now() * 1000,
    onData() {},
    onKeepalive() {},
    onClose() {},
  }

  it('names of any characters; a missing publication, slot, a slot in use, and one that was passed by', async () => {
    const admin = await connect(server)
    await server.sql('CREATE TABLE named (id int PRIMARY KEY)')
    const publication = `Odd "Pub", it's \\ one`
    expect(await ensurePublication(admin, publication, [{ ...app('named'), kind: 'r', columns: [] }])).toBe(
      'created',
    )
    expect(await ensurePublication(admin, publication, [{ ...app('named'), kind: 'r', columns: [] }])).toBe(
      'exists',
    )
    await createSlot(admin, 'named', testContext())
    let data = 0
    const one = await startReplication(server, { ...none, slot: 'named', publication, onData: () => data++ })
    await server.sql('INSERT INTO named VALUES (1)')
    for (let i = 0; data < 3 && i < 1000; i++) await sleep(5)
    expect(data).toBeGreaterThan(2)
    await expect(startReplication(server, { ...none, slot: 'named', publication })).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('is active for PID'),
    })
    await expect(startReplication(server, { ...none, slot: 'nobodys', publication })).rejects.toMatchObject({
      kind: 'offset_lost',
    })
    await one.close()
    await createSlot(admin, 'other', testContext())
    const closed = new Promise<Error>(done => {
      void startReplication(server, { ...none, slot: 'other', publication: 'nobodys', onClose: done }).then(
        async () => {
          await server.sql('INSERT INTO named VALUES (2)')
        },
      )
    })
    expect(await closed).toMatchObject({ kind: 'offset_lost', message: expect.stringContaining('nobodys') })
    await server.sql(`ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; `)
    await server.sql('SELECT pg_reload_conf()')
    for (let i = 0; i < 4; i++) {
      await server.sql(
        `SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)); SELECT pg_switch_wal()`,
      )
      await server.sql('CHECKPOINT')
    }
    expect((await slotState(admin, 'named'))!.lost).not.toBeNull()
    await expect(startReplication(server, { ...none, slot: 'named', publication })).rejects.toMatchObject({
      kind: 'offset_lost',
    })
    await server.sql('ALTER SYSTEM RESET max_slot_wal_keep_size')
    await server.sql('SELECT pg_reload_conf()')
    const waiting = { sleep }
    expect(await dropUpstream(admin, { slot: 'named', publication }, waiting)).toEqual([
      'replication slot named',
      `publication ${publication}`,
    ])
    expect(await dropUpstream(admin, { slot: 'named', publication }, waiting)).toEqual([])
    await dropUpstream(admin, { slot: 'other', publication }, waiting)
    await admin.end()
  })

  it('a newer reader ends the older one and has the slot at once', async () => {
    const admin = await connect(server)
    await server.sql('CREATE PUBLICATION takeover')
    await createSlot(admin, 'takeover', testContext())
    let ended: Error | null = null
    await startReplication(server, {
      ...none,
      ...{ slot: 'takeover', publication: 'takeover' },
      onClose: error => {
        ended = error
      },
    })
    const [pid] = await freeSlot(admin, 'takeover', { sleep })
    expect(pid).toBeGreaterThan(0)
    const next = await startReplication(server, { ...none, slot: 'takeover', publication: 'takeover' })
    await sleep(20)
    expect(ended).toMatchObject({ kind: 'unavailable' })
    expect(await freeSlot(admin, 'takeover', { sleep, timeoutMs: 2000 })).toHaveLength(1)
    await next.close()
    await dropUpstream(admin, { slot: 'takeover', publication: 'takeover' }, { sleep })
    await admin.end()
  })

  it('what a callback throws ends the stream; close leaves nothing behind', async () => {
    const admin = await connect(server)
    await server.sql('CREATE PUBLICATION tidy')
    await createSlot(admin, 'tidy', testContext())
    const closed = new Promise<Error>(done => {
      const onData = () => {
        throw new Error('no room')
      }
      void startReplication(server, { ...none, slot: 'tidy', publication: 'tidy', onData, onClose: done })
    })
    await sleep(50)
    await emitMessage(admin, true, 'test', 'x')
    expect((await closed).message).toContain('no room')
    await sleep(50)
    const handles = () =>
      process
        .getActiveResourcesInfo()
        .filter(name => /TCP|Timeout/.test(name))
        .sort()
    const before = handles()
    const one = await startReplication(server, { ...none, slot: 'tidy', publication: 'tidy' })
    await one.close()
    await one.close()
    const paused = await startReplication(server, { ...none, slot: 'tidy', publication: 'tidy' })
    paused.pause()
    await paused.close()
    await sleep(20)
    expect(handles()).toEqual(before)
    await dropUpstream(admin, { slot: 'tidy', publication: 'tidy' }, { sleep })
    await admin.end()
  })

  it('stop and crash of the server are `unavailable`; the slot is there when it is back', async () => {
    await server.sql('CREATE TABLE crash (id int PRIMARY KEY); CREATE PUBLICATION crash FOR TABLE crash')
    const admin = await connect(server)
    await createSlot(admin, 'crash', testContext())
    await admin.end()
    for (const end of [() => server.stop(), () => server.kill9()]) {
      const closed = new Promise<Error>(done => {
        void startReplication(server, { ...none, slot: 'crash', publication: 'crash', onClose: done })
      })
      await sleep(100)
      await end()
      expect(await closed).toMatchObject({ kind: 'unavailable' })
      await expect(connect(server)).rejects.toMatchObject({ kind: 'unavailable' })
      await server.start()
    }
    const again = await startReplication(server, { ...none, slot: 'crash', publication: 'crash' })
    await again.close()
  })
})
