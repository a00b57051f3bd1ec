/**
 * Logical replication on the socket of a `pg` client that is connected as a walsender. Reads and confirms; knows nothing of
 * what the messages mean. A confirmed position is only ever the caller's: nothing is confirmed for having been received.
 *
 *   connect ─▶ START_REPLICATION ─▶ CopyBoth ─┬─ w XLogData      start:8 walEnd:8 clock:8 message…
 *                                             ├─ k keepalive     walEnd:8 clock:8 reply:1
 *                                             └◀ r status        written:8 flushed:8 applied:8 clock:8 reply:1
 *
 * The status goes out by a timer, reading or not: else `wal_sender_timeout` would end a stream that waits for its writer.
 */
import type pg from 'pg'
import { ConnectorError, type ErrorKind } from '../../core/errors.ts'
import { connect, postgresError, query, quoteName, quoteText, targetOf } from './connect.ts'
import { errorOf, FRAME, type Frames, framesOf, inside, takeOver } from './wire.ts'

export interface ReplicationOptions {
  readonly slot: string
  readonly publication: string
  /** "0/0": from what the slot has confirmed. Never earlier than that. */
  readonly lsn: string
  /** Microseconds since 1970. */
  nowUs(): number
  /** One message of pgoutput: `buffer` from `start` to `end`, valid during the call. `walEnd`: how far the server has written. */
  onData(buffer: Buffer, start: number, end: number, lsn: bigint, walEnd: bigint): void
  /** The server sent everything before `walEnd` that there was to send. */
  onKeepalive(walEnd: bigint): void
  /** Once, unless `close` was called before: lost, refused, or what a callback threw. */
  onClose(error: Error): void
}

export interface Replication {
  /** Everything before it is durable with us. Sent at once with `replyNow` (and answered by a keepalive), else with the next status. Never goes back. */
  status(confirmed: bigint, options?: { readonly replyNow?: boolean }): void
  /** No further callback, also not from what was read already. */
  pause(): void
  resume(): void
  readonly isPaused: boolean
  /** Resolves when the socket is closed. Sends the last status. Repeatable. */
  close(): Promise<void>
}

const STATUS_MS = 10_000
/** Statuses without a byte from the server, each asking for an answer, after which the connection is taken for dead. */
const SILENT_STATUSES = 3

/** Resolves when the server streams. `auth`, `unavailable`, `offset_lost` as the server says. */
export async function startReplication(
  config: { readonly url: string },
  options: ReplicationOptions,
): Promise<Replication> {
  const client = await connect(config, { replication: true, applicationName: `millrace ${options.slot}` })
  try {
    const statusMs = await statusEvery(client)
    return await stream(client, statusMs, options)
  } catch (error) {
    inside(client).connection.stream.destroy()
    throw replicationError(error, client, options)
  }
}

/** Often enough for the server's patience. */
async function statusEvery(client: pg.Client): Promise<number> {
  const [row] = await query<{ wal_sender_timeout: string }>(client, 'SHOW wal_sender_timeout')
  const [, amount, unit] = row?.wal_sender_timeout.match(/^(\d+)(ms|s|min|h|d)?$/) ?? []
  const ms =
    Number(amount ?? 0) * ({ ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }[unit ?? 'ms'] ?? 1)
  return ms === 0 ? STATUS_MS : Math.max(50, Math.min(STATUS_MS, Math.floor(ms / 3)))
}

const command = ({ slot, publication, lsn }: ReplicationOptions): string => {
  if (!/^[0-9A-F]+\/[0-9A-F]+$/i.test(lsn)) throw new ConnectorError('bug', `not a position: ${lsn}`)
  const options = { proto_version: '1', publication_names: quoteName(publication), messages: 'true' }
  // The grammar of replication commands knows no E'…': a backslash is one.
  const list = Object.entries(options).map(([name, value]) => `${name} '${value.replaceAll("'", "''")}'`)
  return `START_REPLICATION SLOT ${quoteName(slot)} LOGICAL ${lsn} (${list.join(', ')})`
}

interface Live {
  readonly client: pg.Client
  readonly options: ReplicationOptions
  readonly frames: Frames
  confirmed: bigint
  silent: number
  isPaused: boolean
  isOver: boolean
  /** What a callback throws ends the stream, and not who called us. */
  guard(work: () => void): void
}

function stream(client: pg.Client, statusMs: number, options: ReplicationOptions): Promise<Replication> {
  const { connection } = inside(client)
  const socket = connection.stream
  return new Promise((started, refused) => {
    let isStarted = false
    const fail = (error: unknown) => {
      if (live.isOver) return
      live.isOver = true
      clearInterval(timer)
      socket.destroy()
      if (isStarted) options.onClose(replicationError(error, client, options))
      else refused(error)
    }
    const live: Live = {
      client,
      options,
      frames: framesOf((type, buffer, start, end) => {
        if (live.isOver) return
        if (type === FRAME.copyData) copyData(live, buffer, start, end)
        else if (type === FRAME.error) fail(errorOf(buffer, start, end))
        else if (type === FRAME.notice) notice(errorOf(buffer, start, end), options, fail)
        else if (type === FRAME.copyBoth) {
          isStarted = true
          started(replicationOf(live, timer))
        } else if (type === FRAME.copyDone || type === FRAME.commandComplete)
          fail(new ConnectorError('unavailable', 'PostgreSQL ended the replication: it is shutting down'))
      }),
      confirmed: 0n,
      silent: 0,
      isPaused: false,
      isOver: false,
      guard(work) {
        try {
          work()
        } catch (error) {
          fail(error)
        }
      },
    }
    const timer = setInterval(() => live.guard(() => tick(live, fail)), statusMs)
    takeOver(socket, data => {
      live.silent = 0
      live.guard(() => live.frames.push(data))
    })
    socket.on('error', fail)
    socket.on('close', () =>
      fail(new ConnectorError('unavailable', `PostgreSQL ${targetOf(client).text} closed the connection`)),
    )
    connection.query(command(options))
  })
}

/**
 * Since 18 a publication that is missing at that point of the log is a warning (55000) where it was an error before; going on
 * would pass over changes without a word.
 */
function notice(
  warning: Error & { code: string },
  { publication }: ReplicationOptions,
  fail: (error: unknown) => void,
): void {
  if (warning.code === '55000' && warning.message.includes(`"${publication}"`))
    fail(Object.assign(new Error(`${warning.message} (publication)`), { code: '42704' }))
}

function tick(live: Live, fail: (error: unknown) => void): void {
  if (!live.isPaused && ++live.silent > SILENT_STATUSES)
    fail(new ConnectorError('unavailable', `PostgreSQL ${targetOf(live.client).text} answers no longer`))
  else sendStatus(live, true)
}

function copyData(live: Live, buffer: Buffer, start: number, end: number): void {
  const kind = buffer[start]
  if (kind === 0x77 && end - start >= 25)
    live.options.onData(
      buffer,
      start + 25,
      end,
      buffer.readBigUInt64BE(start + 1),
      buffer.readBigUInt64BE(start + 9),
    )
  else if (kind === 0x6b && end - start >= 18) {
    live.options.onKeepalive(buffer.readBigUInt64BE(start + 1))
    if (buffer[start + 17] === 1) sendStatus(live, false)
  } else
    throw new ConnectorError(
      'bug',
      `a replication message cannot be read: type ${kind}, ${end - start} bytes`,
    )
}

/** PostgreSQL's clock begins in 2000. */
const EPOCH_US = 946_684_800_000_000

function sendStatus(live: Live, isReplyWanted: boolean): void {
  const socket = inside(live.client).connection.stream
  if (!socket.writable) return
  const frame = Buffer.allocUnsafe(39)
  frame[0] = FRAME.copyData
  frame.writeUInt32BE(38, 1)
  frame[5] = 0x72
  for (const at of [6, 14, 22]) frame.writeBigUInt64BE(live.confirmed, at)
  frame.writeBigInt64BE(BigInt(live.options.nowUs() - EPOCH_US), 30)
  frame[38] = isReplyWanted ? 1 : 0
  socket.write(frame)
}

function replicationOf(live: Live, timer: NodeJS.Timeout): Replication {
  const socket = inside(live.client).connection.stream
  return {
    status(confirmed, { replyNow = false } = {}) {
      if (confirmed > live.confirmed) live.confirmed = confirmed
      if (replyNow && !live.isOver) sendStatus(live, true)
    },
    pause() {
      live.isPaused = true
      live.frames.pause()
      socket.pause()
    },
    resume() {
      if (!live.isPaused) return
      live.isPaused = false
      live.silent = 0
      live.guard(() => live.frames.resume())
      // A callback may have paused again.
      if (!live.isPaused) socket.resume()
    },
    get isPaused() {
      return live.isPaused
    },
    close: () => close(live, timer),
  }
}

async function close(live: Live, timer: NodeJS.Timeout): Promise<void> {
  const socket = inside(live.client).connection.stream
  if (!live.isOver) {
    live.isOver = true
    clearInterval(timer)
    sendStatus(live, false)
    // CopyDone, then the end of our side: the server answers and closes; it is not waited for long.
    socket.resume()
    socket.end(Buffer.from([FRAME.copyDone, 0, 0, 0, 4]))
  }
  if (socket.closed) return
  await new Promise<void>(done => {
    const forced = setTimeout(() => socket.destroy(), 500)
    socket.once('close', () => {
      clearTimeout(forced)
      done()
    })
  })
}

/** A slot that is gone or was passed by is a position lost; one in use is waited for. */
function replicationError(error: unknown, client: pg.Client, { slot }: ReplicationOptions): Error {
  if (!(error instanceof Error) || !('code' in error))
    return postgresError(error, targetOf(client), 'replication ended')
  const { code, message } = error
  const told = `replication slot "${slot}" of ${targetOf(client).text}: ${message}`
  const as = (kind: ErrorKind, hint: string) => new ConnectorError(kind, told, { cause: error, hint })
  if (code === '55006')
    return as(
      'unavailable',
      `Another reader holds it. Who: SELECT active_pid FROM pg_replication_slots WHERE slot_name = ${quoteText(slot)};`,
    )
  // Its own snapshot of the catalog lacks a table that its log names: no later attempt will read past this place.
  if (/could not map filenumber/.test(message))
    return as(
      'offset_lost',
      'PostgreSQL cannot decode its log from here on. A new snapshot is needed: millrace delete NAME --yes, then start again.',
    )
  if (code === '58P01' || /has already been removed|can no longer|invalidated/.test(message))
    return as(
      'offset_lost',
      'The database has dropped the changes that come next (max_slot_wal_keep_size). A new snapshot is needed.',
    )
  if (code === '42704' && /replication slot/.test(message))
    return as(
      'offset_lost',
      'Somebody dropped the slot, or this is another server. A new snapshot is needed.',
    )
  if (code === '42704' && /publication/.test(message))
    return as(
      'offset_lost',
      'Somebody dropped the publication; changes before it is made again cannot be decoded. A new snapshot is needed.',
    )
  return postgresError(error, targetOf(client), `replication from slot "${slot}" ended`)
}
