/**
 * Makes the replication slot, and does not hand it over before the server can decode everything behind it.
 *
 * While a slot is made the server collects which transactions have changed its catalog, in three stages that each wait for the
 * transactions then running. What a transaction changed in the catalog during the first stage is not noted (14 to 18), and the view
 * of the catalog that the second stage makes is kept until the next change of the catalog: changes of a table that was rewritten
 * meanwhile then fail with "could not map filenumber … to relation OID", at every start anew, and a column that was added is
 * missing without a word. A view made later is right, and a reader that starts at a later point of the log makes one:
 *
 *   make ──▶ stood the server still?  yes: the first stage was the last one ──▶ done
 *                     │ no
 *                     ▼
 *            have the running transactions logged ──▶ advance ──▶ starts behind the making? ──yes──▶ done
 *                     ▲                                                     │ no: one of then still runs
 *                     └─────────────────────────────────────────────────────┘
 */
import type pg from 'pg'
import type { Context } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { query, quoteText } from './connect.ts'
import { codeOf } from './error.ts'
import { lsnOf } from './position.ts'
import { type SlotState, slotState } from './upstream.ts'

/**
 * Between the place where the making began and where it ended stands, in a server that stood still, one record that says that nothing
 * runs, of 56 bytes. Else there are at least two that name a transaction (64 bytes each), and that transaction's end.
 */
const STOOD_STILL_BYTES = 112n

/** Waits for the transactions that run at the moment. Answers the position from which changes can be read. */
export async function createSlot(
  client: pg.ClientBase,
  slot: string,
  { clock, signal }: Pick<Context, 'clock' | 'signal'>,
): Promise<{ lsn: string }> {
  // Who was killed while it waits must not hold the slot until the last of those transactions ends: the next start would be
  // told that somebody reads it. A server on Windows cannot look, and says so.
  await query(client, `SELECT set_config('client_connection_check_interval', '200', false)`).catch(() => {})
  const [made] = await query<{ lsn: string }>(
    client,
    `SELECT lsn::text FROM pg_create_logical_replication_slot($1, 'pgoutput')`,
    [slot],
  )
  const madeAt = lsnOf(made!.lsn)
  let state = (await slotState(client, slot))!
  if (madeAt - startOf(state) <= STOOD_STILL_BYTES) return made!
  for (let waitMs = 5; startOf(state) < madeAt; waitMs = Math.min(waitMs * 2, 500)) {
    await logRunning(client, slot)
    await query(client, 'SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())', [slot])
    state = (await slotState(client, slot))!
    if (startOf(state) < madeAt) await clock.sleep(waitMs, signal)
    if (signal.aborted) throw new ConnectorError('unavailable', `the making of slot "${slot}" was stopped`)
  }
  return { lsn: state.confirmedLsn! }
}

const startOf = ({ restartLsn }: SlotState): bigint => lsnOf(restartLsn!)

const REFUSED = ['42501', '42883', '53400'] // not permitted, no such function, no slot free

/**
 * Has the server log which transactions run, which is where a reader can start. It does so by itself every 15 s; making a slot
 * does it at once, and asking for it may who is allowed to (since 16).
 */
async function logRunning(client: pg.ClientBase, slot: string): Promise<void> {
  const passing = quoteText(`${slot.slice(0, 55)}_passing`)
  for (const sql of [
    'SELECT pg_log_standby_snapshot()',
    `SELECT pg_create_logical_replication_slot(${passing}, 'pgoutput', true); SELECT pg_drop_replication_slot(${passing})`,
  ])
    try {
      await client.query(sql)
      return
    } catch (error) {
      if (!REFUSED.includes(codeOf(error) ?? '')) throw error
    }
}

const WAITING_MS = 5_000

interface Running {
  readonly pid: number
  readonly user: string | null
  readonly application: string | null
  readonly seconds: number
}

/**
 * Says, every few seconds until `work` is done, which transaction it most likely waits for: one that was forgotten open keeps a slot
 * from being made for as long as it stays so.
 */
export async function tellingWaits<T>(
  connectAnew: () => Promise<pg.Client>,
  { clock, signal, log, pipeline }: Context,
  work: Promise<T>,
): Promise<T> {
  const over = new AbortController()
  const stop = () => over.abort()
  signal.addEventListener('abort', stop, { once: true })
  const telling = (async () => {
    for (;;) {
      await clock.sleep(WAITING_MS, over.signal)
      if (over.signal.aborted) return
      const [oldest] = await oldestTransaction(connectAnew)
      if (!oldest || over.signal.aborted) continue
      const { pid, user, application, seconds } = oldest
      log.warn(
        { pipeline, pid, user, application, seconds },
        `${pipeline} waits for transactions that began before it: the oldest is of process ${pid} (${user}, ${application || 'no application name'}), open for ${seconds} s. To end it: SELECT pg_terminate_backend(${pid});`,
      )
    }
  })().catch(() => {}) // it is said for people, and must not end what it is about
  try {
    return await work
  } finally {
    over.abort()
    signal.removeEventListener('abort', stop)
    await telling
  }
}

async function oldestTransaction(connectAnew: () => Promise<pg.Client>): Promise<Running[]> {
  const client = await connectAnew()
  try {
    return await query<Running & pg.QueryResultRow>(
      client,
      `SELECT pid, usename AS user, application_name AS application, extract(epoch FROM now() - xact_start)::int AS seconds
       FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1`,
    )
  } finally {
    await client.end()
  }
}
