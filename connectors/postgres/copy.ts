/**
 * Rows by COPY … TO STDOUT in text format, off the socket of a `pg` client, as the JSON text that the stream would make of
 * them. The driver has its connection back when the promise settles, however it settles; when it cannot have it back, the
 * connection is closed.
 *
 *   a row = one CopyData: values with tabs between and a newline at the end; \N is null; \b \f \n \r \t \v \\ and \<any>
 */
import { connect as connectSocket } from 'node:net'
import type pg from 'pg'
import { ConnectorError } from '../../core/errors.ts'
import { postgresError, quoteName, targetOf } from './connect.ts'
import { closeRow, keyText, NULL, Out, type RowPlan, Slots, writeValue } from './encode.ts'
import { errorOf, FRAME, framesOf, inside, takeOver } from './wire.ts'

export interface CopyOptions {
  /** Stops above either, unless there is only one row. */
  readonly maxRows?: number
  /** Of COPY's text. */
  readonly maxBytes?: number
  /** With it nothing is collected: called per `batchRows` rows, and the socket waits for its promise. */
  onRows?(rows: CopiedRows): Promise<void> | void
  readonly batchRows?: number
  /** Cancels the statement; copyRows throws `unavailable`. */
  readonly signal?: AbortSignal
}

export interface CopiedRows {
  readonly keys: string[]
  readonly rows: string[]
}

export interface Copied extends CopiedRows {
  readonly count: number
  readonly bytes: number
  /** More than the limits: it was cancelled, and `keys` and `rows` are empty. */
  readonly tooBig: boolean
}

/** SELECT of the columns the plan takes, in its order. Made for plans whose columns are all taken. */
export const selectOf = (plan: RowPlan): string =>
  plan.columns.map(column => quoteName(column!.name)).join(', ')

/** `sql`: the SELECT inside COPY (…), with exactly the plan's columns. In a transaction an error or a cancel aborts it, as usual. */
export function copyRows(
  client: pg.Client,
  sql: string,
  plan: RowPlan,
  options: CopyOptions = {},
): Promise<Copied> {
  return new Promise((resolve, reject) => {
    const copy = new Copy(client, sql, plan, options, resolve, reject)
    // The driver queues anything that has `submit`, and tells it of a lost connection.
    ;(client as unknown as { query(submittable: Copy): void }).query(copy)
  })
}

/** A query to the driver: `submit` when it is its turn, `handle…` afterwards. */
class Copy {
  private readonly out = new Out()
  private readonly slots: Slots
  private readonly scratch = new Out()
  private keys: string[] = []
  private rows: string[] = []
  private count = 0
  private bytes = 0
  private tooBig = false
  private failure: Error | null = null
  private isCancelled = false
  /** ReadyForQuery's: in a transaction or not. */
  private status: string | null = null
  private giveBack = () => {}
  /** Resolves when the server has taken the cancel. */
  private cancelled: Promise<void> = Promise.resolve()
  private cancelTimer: NodeJS.Timeout | undefined
  private readonly onAbort = () => this.stop(new ConnectorError('unavailable', 'the copy was stopped'))
  private readonly frames = framesOf((type, buffer, start, end) => this.frame(type, buffer, start, end))
  private readonly client: pg.Client
  private readonly sql: string
  private readonly plan: RowPlan
  private readonly options: CopyOptions
  private readonly resolve: (copied: Copied) => void
  private readonly reject: (error: Error) => void

  constructor(
    client: pg.Client,
    sql: string,
    plan: RowPlan,
    options: CopyOptions,
    resolve: (copied: Copied) => void,
    reject: (error: Error) => void,
  ) {
    this.client = client
    this.sql = sql
    this.plan = plan
    this.options = options
    this.resolve = resolve
    this.reject = reject
    this.slots = new Slots(plan.columns.length)
  }

  submit(): undefined {
    const { connection } = inside(this.client)
    this.giveBack = takeOver(connection.stream, data => this.push(data))
    this.options.signal?.addEventListener('abort', this.onAbort, { once: true })
    connection.query(`COPY (${this.sql}) TO STDOUT`)
    if (this.options.signal?.aborted) this.onAbort()
    return undefined
  }

  /** Of the driver: the connection was lost. */
  handleError(error: Error): void {
    this.finish(this.failure ?? error)
  }

  handleReadyForQuery(): void {
    this.finish(this.failure)
  }

  private push(data: Buffer): void {
    this.guard(() => this.frames.push(data))
  }

  private guard(work: () => void): void {
    try {
      work()
      // Only here: what lies behind the frame is known when the frames are done with what was read.
      if (this.status !== null) this.ready(this.status)
    } catch (error) {
      // The frames are out of step: the connection is of no further use.
      this.failure ??= error as Error
      inside(this.client).connection.stream.destroy()
    }
  }

  private frame(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === FRAME.copyData) {
      if (!this.isCancelled) this.row(buffer, start, end)
    } else if (type === FRAME.error) this.failure ??= errorOf(buffer, start, end)
    else if (type === FRAME.ready) {
      this.status = String.fromCharCode(buffer[start]!)
      this.frames.pause()
    }
  }

  /** ReadyForQuery came: the driver goes on from there. */
  private ready(status: string): void {
    const { connection } = inside(this.client)
    this.status = null
    this.giveBack()
    this.giveBack = () => {}
    const done = () => {
      connection.emit('readyForQuery', { name: 'readyForQuery', status })
      const rest = this.frames.rest() // a notice, at most
      if (rest.length > 0) connection.stream.emit('data', rest)
    }
    // A cancel that is still on its way would hit the next statement.
    const isLastHanded = !this.options.onRows || this.isCancelled || this.failure
    ;(isLastHanded ? this.cancelled : this.hand())
      .catch(error => {
        this.failure = error as Error
      })
      .then(done)
  }

  private row(buffer: Buffer, start: number, end: number): void {
    const { maxRows = Number.POSITIVE_INFINITY, maxBytes = Number.POSITIVE_INFINITY } = this.options
    this.count++
    this.bytes += end - start
    if (this.count > 1 && (this.count > maxRows || this.bytes > maxBytes)) {
      this.tooBig = true
      this.stop(null)
      return
    }
    try {
      this.rows.push(rowText(this.out, this.scratch, this.plan, this.slots, buffer, start, end - 1))
      this.keys.push(keyText(this.out, this.plan, this.slots))
    } catch (error) {
      this.stop(error as Error)
      return
    }
    if (this.options.onRows && this.rows.length >= (this.options.batchRows ?? 1000)) this.handPaused()
  }

  /** To the caller, while the socket waits. */
  private handPaused(): void {
    const socket = inside(this.client).connection.stream
    this.frames.pause()
    socket.pause()
    const go = () => {
      socket.resume()
      this.guard(() => this.frames.resume())
    }
    this.hand().then(go, error => {
      this.stop(error as Error)
      go()
    })
  }

  private async hand(): Promise<void> {
    const { keys, rows } = this
    this.keys = []
    this.rows = []
    if (rows.length > 0) await this.options.onRows?.({ keys, rows })
  }

  /** Cancels the statement; what still arrives is passed over. */
  private stop(failure: Error | null): void {
    if (this.isCancelled) return
    this.isCancelled = true
    this.failure ??= failure
    this.keys = []
    this.rows = []
    const socket = inside(this.client).connection.stream
    this.cancelTimer = setTimeout(() => socket.destroy(), 5_000)
    this.cancelled = cancel(this.client)
  }

  private finish(error: Error | null): void {
    this.giveBack()
    clearTimeout(this.cancelTimer)
    this.options.signal?.removeEventListener('abort', this.onAbort)
    const { keys, rows, count, bytes, tooBig } = this
    const isOurCancel = tooBig && (error === null || ('code' in error && error.code === '57014'))
    if (error && !isOurCancel)
      this.reject(postgresError(error, targetOf(this.client), 'could not be copied from'))
    else this.resolve({ keys, rows, count, bytes, tooBig })
  }
}

/** CancelRequest, on a connection of its own; PostgreSQL takes it without TLS and without login, and answers by closing. */
function cancel(client: pg.Client): Promise<void> {
  const { connection, processID, secretKey } = inside(client)
  const { remoteAddress, remotePort } = connection.stream
  const request = Buffer.alloc(16)
  request.writeInt32BE(16, 0)
  request.writeInt32BE(80_877_102, 4)
  request.writeInt32BE(processID ?? 0, 8)
  request.writeInt32BE(secretKey ?? 0, 12)
  if (remoteAddress === undefined || remotePort === undefined) {
    connection.stream.destroy()
    return Promise.resolve()
  }
  const socket = connectSocket(remotePort, remoteAddress)
  socket.on('error', () => connection.stream.destroy())
  socket.setTimeout(4_000, () => socket.destroy())
  socket.resume()
  socket.write(request)
  return new Promise(done => socket.on('close', () => done()))
}

const TAB = 9
const BACKSLASH = 92
const CAPITAL_N = 78

/** What stands for a backslash and this letter. */
const UNESCAPED = new Uint8Array(256).map((_, i) => i)
for (const [letter, byte] of Object.entries({ b: 8, f: 12, n: 10, r: 13, t: 9, v: 11 }))
  UNESCAPED[letter.charCodeAt(0)] = byte

/** One line without its newline. Throws `bug` when it has not the plan's number of values. */
export function rowText(
  out: Out,
  scratch: Out,
  plan: RowPlan,
  slots: Slots,
  buffer: Buffer,
  start: number,
  end: number,
): string {
  const { columns } = plan
  out.at = 0
  out.bits = 0
  let at = start
  for (let i = 0; i < columns.length; i++) {
    if (at > end)
      throw new ConnectorError('bug', `a copied row has ${i} values, and ${columns.length} are expected`)
    const column = columns[i]!
    let hasEscape = false
    let to = at
    for (; to < end; to++) {
      const c = buffer[to]!
      if (c === TAB) break
      if (c === BACKSLASH) hasEscape = true
    }
    out.copy(column.prefix, 0, column.prefix.length)
    slots.from[i] = out.at
    if (!hasEscape) writeValue(out, column.type, buffer, at, to)
    else if (to - at === 2 && buffer[at + 1] === CAPITAL_N) out.copy(NULL, 0, 4)
    else {
      unescapeInto(scratch, buffer, at, to)
      writeValue(out, column.type, scratch.bytes, 0, scratch.at)
    }
    slots.to[i] = out.at
    at = to + 1
  }
  if (at !== end + 1) throw new ConnectorError('bug', `a copied row has more than ${columns.length} values`)
  closeRow(out, 0)
  return out.text(0)
}

function unescapeInto(scratch: Out, from: Buffer, start: number, end: number): void {
  scratch.at = 0
  scratch.room(end - start)
  const { bytes } = scratch
  let at = 0
  for (let i = start; i < end; i++) {
    const c = from[i]!
    bytes[at++] = c === BACKSLASH && i + 1 < end ? UNESCAPED[from[++i]!]! : c
  }
  scratch.at = at
}
