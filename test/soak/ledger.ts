/**
 * The ledger: a workload whose every committed change SQL itself remembers. Triggers give each change of a row a rising `seq` and
 * write it to `soak.history` in the same transaction; the history is not captured, it is the expected side of the check.
 *
 *   soak.ledger   inserts, updates, deletes and re-inserts of the same key, key changes, big values that are not touched
 *   soak.extra    the same, with TRUNCATE and rewrites (ALTER TYPE) in between
 *
 * Meanwhile commits are held back between decoding and visibility: `synchronous_standby_names` names nobody for a while.
 */
import pg from 'pg'
import type { PostgresServer } from '../servers/postgres.ts'
import { type Random, randomOf } from '../sim/random.ts'

export const ROWS = 20_000

const SETUP = `
DROP SCHEMA IF EXISTS soak CASCADE;
CREATE SCHEMA soak;
CREATE SEQUENCE soak.seq CACHE 1;
CREATE TABLE soak.ledger (id bigint PRIMARY KEY, seq bigint NOT NULL DEFAULT 0, note text, big text);
ALTER TABLE soak.ledger ALTER big SET STORAGE EXTERNAL;
CREATE TABLE soak.extra (id bigint PRIMARY KEY, seq bigint NOT NULL DEFAULT 0, v int);
CREATE TABLE soak.history (n bigserial PRIMARY KEY, tbl text NOT NULL, id bigint NOT NULL, seq bigint NOT NULL, op text NOT NULL);
CREATE FUNCTION soak.number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.seq := nextval('soak.seq'); RETURN NEW; END $$;
CREATE FUNCTION soak.remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'DELETE' THEN INSERT INTO soak.history (tbl, id, seq, op) VALUES (TG_TABLE_NAME, OLD.id, nextval('soak.seq'), 'd'); RETURN NULL; END IF;
  IF TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
    INSERT INTO soak.history (tbl, id, seq, op) VALUES (TG_TABLE_NAME, OLD.id, NEW.seq, 'd'), (TG_TABLE_NAME, NEW.id, NEW.seq, 'c'); RETURN NULL; END IF;
  INSERT INTO soak.history (tbl, id, seq, op) VALUES (TG_TABLE_NAME, NEW.id, NEW.seq, CASE TG_OP WHEN 'INSERT' THEN 'c' ELSE 'u' END); RETURN NULL; END $$;
INSERT INTO soak.ledger SELECT i, 0, 'row ' || i, CASE WHEN i % 50 = 0 THEN repeat(md5(i::text), 300) END FROM generate_series(1, ${ROWS}) i;
INSERT INTO soak.extra SELECT i, 0, i FROM generate_series(1, 3000) i;
CREATE TRIGGER number BEFORE INSERT OR UPDATE ON soak.ledger FOR EACH ROW EXECUTE FUNCTION soak.number();
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON soak.ledger FOR EACH ROW EXECUTE FUNCTION soak.remember();
CREATE TRIGGER number BEFORE INSERT OR UPDATE ON soak.extra FOR EACH ROW EXECUTE FUNCTION soak.number();
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON soak.extra FOR EACH ROW EXECUTE FUNCTION soak.remember();`

export const prepareLedger = async (server: PostgresServer): Promise<void> => void (await server.sql(SETUP))

export interface Workload {
  /** Ends all writers; what hangs on a standby is let go first. */
  stop(): Promise<void>
  readonly transactions: () => number
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

interface State {
  readonly url: string
  readonly random: Random
  stopped: boolean
  transactions: number
}

export function startWorkload(server: PostgresServer, seed: number): Workload {
  const state: State = { url: server.url, random: randomOf(seed), stopped: false, transactions: 0 }
  const loops = [
    ...Array.from({ length: 3 }, () => forever(state, writeOnce)),
    forever(state, leaveOpen),
    forever(state, disturb),
    forever(state, holdBack),
  ]
  return {
    transactions: () => state.transactions,
    async stop() {
      state.stopped = true
      const ended = Promise.all(loops).then(() => true)
      // Whoever should have let the commits go may have lost its connection: writers would hang for ever.
      while (!(await Promise.race([ended, letGo(state)]))) await pause(100)
      await letGo(state)
    },
  }
}

/** Always false: said again and again until all writers have ended. */
async function letGo({ url }: State): Promise<false> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('ALTER SYSTEM RESET synchronous_standby_names')
    await client.query('SELECT pg_reload_conf()')
  } catch {
    await pause(100) // the server is away
  } finally {
    await client.end().catch(() => {})
  }
  return false
}

/** Again and again on a connection of its own; the server may be killed under it. */
async function forever(
  state: State,
  once: (client: pg.Client, state: State) => Promise<void>,
): Promise<void> {
  while (!state.stopped) {
    const client = new pg.Client({ connectionString: state.url })
    client.on('error', () => {})
    try {
      await client.connect()
      while (!state.stopped) await once(client, state)
      await once(client, state) // whoever holds something lets it go
    } catch {
      await pause(50) // the server is away, or a deadlock: both are part of the plan
    } finally {
      await client.end().catch(() => {})
    }
  }
}

/** Small keys, so that the same ones come again and again, beside any. */
const keyOf = ({ random }: State): number => (random.chance(0.5) ? random.int(1, 40) : random.int(1, ROWS))

async function statement(client: pg.Client, state: State): Promise<void> {
  const { random } = state
  const id = keyOf(state)
  const table = random.chance(0.8) ? 'soak.ledger' : 'soak.extra'
  const kind = random.int(1, 10)
  if (kind <= 4) await client.query(`UPDATE ${table} SET id = id WHERE id = $1`, [id])
  else if (kind <= 6) await client.query(`DELETE FROM ${table} WHERE id = $1`, [id])
  else if (kind <= 8)
    await client.query(
      `INSERT INTO ${table} (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = excluded.id`,
      [id],
    )
  else if (kind === 9)
    await client.query(
      `UPDATE ${table} SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM ${table} WHERE id = $2)`,
      [id, random.int(1, 60)],
    )
  else await client.query("UPDATE soak.ledger SET note = 'many' WHERE id BETWEEN $1 AND $1 + 200", [id])
}

async function inTransaction(client: pg.Client, state: State, work: () => Promise<void>): Promise<void> {
  await client.query('BEGIN')
  try {
    await work()
    await client.query(state.random.chance(0.9) ? 'COMMIT' : 'ROLLBACK')
    state.transactions++
  } catch (error) {
    await client.query('ROLLBACK')
    if (!['40P01', '23505', '40001'].includes((error as { code?: string }).code ?? '')) throw error
  }
}

const writeOnce = (client: pg.Client, state: State): Promise<void> =>
  inTransaction(client, state, async () => {
    for (let i = state.random.int(1, 4); i > 0; i--) await statement(client, state)
  })

/** A transaction that stays open over many chunks. */
const leaveOpen = (client: pg.Client, state: State): Promise<void> =>
  inTransaction(client, state, async () => {
    await statement(client, state)
    await pause(state.random.int(100, 1_500))
    await statement(client, state)
  })

async function disturb(client: pg.Client, { random, stopped }: State): Promise<void> {
  if (stopped) return
  await pause(random.int(200, 1_200))
  await client.query("SET lock_timeout = '500ms'")
  const kind = random.int(1, 3)
  const quiet = (text: string) =>
    client.query(text).catch(error => {
      if ((error as { code?: string }).code !== '55P03') throw error // a lock was not to be had in time
    })
  if (kind === 1) await quiet('TRUNCATE soak.extra')
  else if (kind === 2) await quiet(`ALTER TABLE soak.extra ALTER v TYPE ${random.pick(['int', 'bigint'])}`)
  else
    await quiet(
      'INSERT INTO soak.extra (id, v) SELECT i, i FROM generate_series(100, 1100) i ON CONFLICT DO NOTHING',
    )
}

/** Commits are decoded and not visible for a while. */
async function holdBack(client: pg.Client, { random, stopped }: State): Promise<void> {
  const reset = async () => {
    await client.query('ALTER SYSTEM RESET synchronous_standby_names')
    await client.query('SELECT pg_reload_conf()')
  }
  if (stopped) return reset()
  await client.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
  await client.query('SELECT pg_reload_conf()')
  await pause(random.int(50, 900))
  await reset()
  await pause(random.int(50, 600))
}
