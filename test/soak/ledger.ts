/**
 * The ledger: a workload whose every committed change SQL itself remembers. Triggers give each change of a row a rising `seq` and
 * write it to `soak.history` in the same transaction; the history is not captured, it is the expected side of the check.
 *
 *   soak.ledger   inserts, updates, deletes and re-inserts of the same key, key changes, big values that are not touched
 *   soak.extra    the same without big values, with TRUNCATE and rewrites (ALTER TYPE) in between
 *
 * Meanwhile commits are held back between decoding and visibility: `synchronous_standby_names` names nobody for a while.
 * Knows nothing of the program under test.
 */
import pg from 'pg'
import type { PostgresServer } from '../servers/postgres.ts'
import { type Random, randomOf } from '../sim/random.ts'

export const ROWS = 30_000
const WRITERS = 4

const SETUP = `
DROP SCHEMA IF EXISTS soak CASCADE;
CREATE SCHEMA soak;
CREATE SEQUENCE soak.seq CACHE 1;
CREATE TABLE soak.ledger (id bigint PRIMARY KEY, seq bigint NOT NULL DEFAULT 0, note text, big text, x int DEFAULT 7);
ALTER TABLE soak.ledger ALTER big SET STORAGE EXTERNAL;
CREATE TABLE soak.extra (id bigint PRIMARY KEY, seq bigint NOT NULL DEFAULT 0, v int);
-- op 't' is a TRUNCATE of the whole table, id 0; big is the md5 of the value
CREATE TABLE soak.history (n bigserial PRIMARY KEY, tbl text NOT NULL, id bigint NOT NULL, seq bigint NOT NULL, op text NOT NULL,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(), big text);
CREATE FUNCTION soak.hex() RETURNS text LANGUAGE sql VOLATILE AS
  $$ SELECT string_agg(md5(random()::text || g), '') FROM generate_series(1, 320) g $$;
CREATE FUNCTION soak.number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.seq := nextval('soak.seq'); RETURN NEW; END $$;
CREATE FUNCTION soak.remember() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE hash text; BEGIN
  IF TG_OP = 'DELETE' THEN INSERT INTO soak.history (tbl, id, seq, op) VALUES (TG_TABLE_NAME, OLD.id, nextval('soak.seq'), 'd'); RETURN NULL; END IF;
  hash := md5(to_jsonb(NEW) ->> 'big');
  IF TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
    INSERT INTO soak.history (tbl, id, seq, op, big) VALUES (TG_TABLE_NAME, OLD.id, NEW.seq, 'd', NULL), (TG_TABLE_NAME, NEW.id, NEW.seq, 'c', hash); RETURN NULL; END IF;
  INSERT INTO soak.history (tbl, id, seq, op, big) VALUES (TG_TABLE_NAME, NEW.id, NEW.seq, CASE TG_OP WHEN 'INSERT' THEN 'c' ELSE 'u' END, hash); RETURN NULL; END $$;
CREATE FUNCTION soak.emptied() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO soak.history (tbl, id, seq, op) VALUES (TG_TABLE_NAME, 0, nextval('soak.seq'), 't'); RETURN NULL; END $$;
INSERT INTO soak.ledger SELECT i, 0, 'row ' || i, CASE WHEN i <= 40 OR i % 50 = 0 THEN soak.hex() END FROM generate_series(1, ${ROWS}) i;
INSERT INTO soak.extra SELECT i, 0, i FROM generate_series(1, 6000) i;
CREATE TRIGGER number BEFORE INSERT OR UPDATE ON soak.ledger FOR EACH ROW EXECUTE FUNCTION soak.number();
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON soak.ledger FOR EACH ROW EXECUTE FUNCTION soak.remember();
CREATE TRIGGER number BEFORE INSERT OR UPDATE ON soak.extra FOR EACH ROW EXECUTE FUNCTION soak.number();
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON soak.extra FOR EACH ROW EXECUTE FUNCTION soak.remember();
CREATE TRIGGER emptied AFTER TRUNCATE ON soak.extra FOR EACH STATEMENT EXECUTE FUNCTION soak.emptied();`

export const prepareLedger = async (server: PostgresServer): Promise<void> => void (await server.sql(SETUP))

export interface Workload {
  /** Ends all writers; what hangs on a standby is let go. Afterwards nothing holds a commit back. */
  stop(): Promise<void>
  readonly transactions: () => number
  /** Holds commits back now, and not only when its time comes. */
  holdNow(): void
  /** Errors by SQLSTATE or message, to see that the writers write. */
  readonly errors: ReadonlyMap<string, number>
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

interface State {
  readonly url: string
  readonly random: Random
  readonly errors: Map<string, number>
  stopped: boolean
  transactions: number
  holdNow: () => void
}

type Loop = (client: pg.Client, state: State) => Promise<void>

export function startWorkload(server: PostgresServer, seed: number): Workload {
  const { url } = server
  const state: State = {
    url,
    random: randomOf(seed),
    errors: new Map(),
    stopped: false,
    transactions: 0,
    holdNow: () => {},
  }
  const loops = [
    ...Array.from({ length: WRITERS }, () => forever(state, writeOnce)),
    forever(state, leaveOpen),
    forever(state, disturb),
  ]
  const holding = forever(state, holdBack)
  return {
    transactions: () => state.transactions,
    errors: state.errors,
    holdNow: () => state.holdNow(),
    async stop() {
      state.stopped = true
      await holding
      await letGo(state) // before the others: they may be the ones that hang
      await Promise.all(loops)
    },
  }
}

/** Again and again on a connection of its own; the server may be killed under it. */
async function forever(state: State, once: Loop): Promise<void> {
  while (!state.stopped) {
    const client = new pg.Client({ connectionString: state.url, connectionTimeoutMillis: 5_000 })
    client.on('error', () => {})
    try {
      await client.connect()
      while (!state.stopped) await once(client, state)
    } catch (error) {
      const { code, message } = error as { code?: string; message: string }
      const name = code ?? message
      state.errors.set(name, (state.errors.get(name) ?? 0) + 1)
      await pause(50) // the server is away, or a deadlock: both are part of the plan
    } finally {
      await client.end().catch(() => {})
    }
  }
}

/** Nobody is waited for any more; asks again until the server's processes have taken it in. */
async function letGo({ url }: State): Promise<void> {
  for (;;) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
    client.on('error', () => {})
    try {
      await client.connect()
      const { rows } = await client.query<{ names: string }>(
        "SELECT current_setting('synchronous_standby_names') AS names",
      )
      if (rows[0]!.names === '') return
      await client.query('ALTER SYSTEM RESET synchronous_standby_names')
      await client.query('SELECT pg_reload_conf()')
    } catch {
      // the server is still coming up
    } finally {
      await client.end().catch(() => {})
    }
    await pause(50)
  }
}

/** Small keys, so that the same ones come again and again, beside any. */
const keyOf = ({ random }: State): number => (random.chance(0.5) ? random.int(1, 40) : random.int(1, ROWS))

const isNot = (table: string, id: string) => `NOT EXISTS (SELECT 1 FROM ${table} WHERE id = ${id})`

async function statement(client: pg.Client, state: State): Promise<void> {
  const { random } = state
  const id = keyOf(state)
  const table = random.chance(0.8) ? 'soak.ledger' : 'soak.extra'
  const isLedger = table === 'soak.ledger'
  const kind = random.int(1, 12)
  if (kind <= 4) await client.query(`UPDATE ${table} SET id = id WHERE id = $1`, [id])
  else if (kind <= 6) await client.query(`DELETE FROM ${table} WHERE id = $1`, [id])
  else if (kind <= 8)
    await client.query(
      `INSERT INTO ${table} (id${isLedger ? ', big' : ''}) VALUES ($1${isLedger && random.chance(0.6) ? ', soak.hex()' : isLedger ? ', NULL' : ''})
       ON CONFLICT (id) DO UPDATE SET id = excluded.id`,
      [id],
    )
  else if (kind === 9)
    await client.query(`UPDATE ${table} SET id = $2 WHERE id = $1 AND ${isNot(table, '$2')}`, [
      id,
      random.int(1, 60),
    ])
  else if (kind === 10)
    await client.query('UPDATE soak.ledger SET big = soak.hex(), note = $2 WHERE id = $1', [
      id,
      `big ${random.int(1, 9)}`,
    ])
  else if (kind === 11) await client.query(`UPDATE soak.ledger SET note = $2 WHERE id = $1`, [id, `n ${id}`])
  else {
    const size = random.chance(0.1) ? 2_000 : 100
    await client.query("UPDATE soak.ledger SET note = 'many' WHERE id BETWEEN $1 AND $1 + $2", [id, size])
  }
}

/** Deadlocks, double keys, and a table altered under a prepared or waiting statement. */
const EXPECTED = ['40P01', '23505', '40001', '55P03']

async function inTransaction(client: pg.Client, state: State, work: () => Promise<void>): Promise<void> {
  await client.query('BEGIN')
  try {
    await work()
    await client.query(state.random.chance(0.9) ? 'COMMIT' : 'ROLLBACK')
    state.transactions++
  } catch (error) {
    await client.query('ROLLBACK')
    if (!EXPECTED.includes((error as { code?: string }).code ?? '')) throw error
  }
}

const writeOnce: Loop = (client, state) =>
  inTransaction(client, state, async () => {
    for (let i = state.random.int(1, 4); i > 0; i--) await statement(client, state)
  })

/** A transaction that stays open over many chunks. */
const leaveOpen: Loop = (client, state) =>
  inTransaction(client, state, async () => {
    await statement(client, state)
    await pause(state.random.int(200, 2_000))
    await statement(client, state)
  })

/** What throws open chunks away, or makes a table's snapshot start again. */
const disturb: Loop = async (client, { random }) => {
  await pause(random.int(200, 1_200))
  await client.query("SET lock_timeout = '500ms'")
  const texts = [
    'TRUNCATE soak.extra',
    `ALTER TABLE soak.extra ALTER v TYPE ${random.pick(['int', 'bigint'])}`,
    'INSERT INTO soak.extra (id, v) SELECT i, i FROM generate_series(100, 1100) i ON CONFLICT DO NOTHING',
    'INSERT INTO soak.extra (id, v) SELECT i, i FROM generate_series(1000, 5000) i ON CONFLICT DO NOTHING',
    `ALTER TABLE soak.ledger ALTER note TYPE ${random.pick(['text', 'varchar'])}`,
    ...(random.chance(0.3) ? [`ALTER TABLE soak.ledger ALTER x TYPE ${random.pick(['int', 'bigint'])}`] : []),
  ]
  await client.query(random.pick(texts)).catch(error => {
    if (!EXPECTED.includes((error as { code?: string }).code ?? '')) throw error
  })
}

/** Commits are decoded and not visible for a while; one of them touches every part of the table, so that any chunk meets it. */
const holdBack: Loop = async (client, state) => {
  const { random } = state
  await client.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
  await client.query('SELECT pg_reload_conf()')
  const spread = touchAll(state)
  await pause(random.chance(0.3) ? random.int(600, 2_000) : random.int(100, 600))
  await letGo(state)
  await spread
  const called = new Promise<void>(resolve => {
    state.holdNow = resolve
  })
  await Promise.race([called, pause(random.int(200, 1_500))])
}

async function touchAll({ url, random }: State): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    await pause(50) // the reload reaches the others first
    await client.query("SET lock_timeout = '200ms'")
    await client.query("UPDATE soak.ledger SET note = 'held' WHERE id % 307 = $1", [random.int(0, 306)])
  } catch {
    // a row was locked for too long, or the server is away
  } finally {
    await client.end().catch(() => {})
  }
}
