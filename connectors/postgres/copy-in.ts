/**
 * Rows by COPY … FROM STDIN on a connection of `pg`, as chunks of text that the caller makes while the server is at work. The driver has
 * its connection back when the promise settles.
 */
import type pg from 'pg'
import { inside } from './wire.ts'

/** The part of the driver's connection that a COPY writes to. */
interface Connection {
  query(text: string): void
  sendCopyFromChunk(chunk: Buffer): void
  endCopyFrom(): void
  sendCopyFail(message: string): void
}

/** What `chunks` throws ends the COPY, and is thrown on. */
export function copyIn(client: pg.Client, sql: string, chunks: Iterable<Buffer>): Promise<void> {
  return new Promise((resolve, reject) => {
    const copy = new CopyIn(client, sql, chunks, resolve, reject)
    // The driver queues anything that has `submit`, and tells it of a lost connection.
    ;(client as unknown as { query(submittable: CopyIn): void }).query(copy)
  })
}

/** A query to the driver: `submit` when it is its turn, `handle…` afterwards. */
class CopyIn {
  private failure: Error | null = null
  private isOver = false
  private readonly client: pg.Client
  private readonly sql: string
  private readonly chunks: Iterator<Buffer>
  private readonly resolve: () => void
  private readonly reject: (error: Error) => void

  constructor(
    client: pg.Client,
    sql: string,
    chunks: Iterable<Buffer>,
    resolve: () => void,
    reject: (error: Error) => void,
  ) {
    this.client = client
    this.sql = sql
    this.chunks = chunks[Symbol.iterator]()
    this.resolve = resolve
    this.reject = reject
  }

  submit(connection: Connection): undefined {
    connection.query(this.sql)
    return undefined
  }

  handleCopyInResponse(connection: Connection): void {
    const { stream } = inside(this.client).connection
    const send = () => {
      while (!this.isOver) {
        let next: IteratorResult<Buffer>
        try {
          next = this.chunks.next()
        } catch (error) {
          this.failure = error as Error
          connection.sendCopyFail('a row cannot be written')
          return
        }
        if (next.done) {
          connection.endCopyFrom()
          return
        }
        connection.sendCopyFromChunk(next.value)
        if (stream.writableNeedDrain) {
          stream.once('drain', send)
          return
        }
      }
    }
    send()
  }

  handleCommandComplete(): void {}

  /** Of the server, or of the driver when the connection is lost. */
  handleError(error: Error): void {
    this.isOver = true
    this.reject(this.failure ?? error)
  }

  handleReadyForQuery(): void {
    this.isOver = true
    this.resolve()
  }
}
