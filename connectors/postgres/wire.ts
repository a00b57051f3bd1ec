/**
 * PostgreSQL's frames off a socket whose login was `pg`'s work: for the two uses whose volume the driver's parser is too slow
 * for, replication and COPY. A frame is handed over in place; bytes are copied only where a frame lies across two reads.
 *
 *   frame = type:1 length:4 (itself and what follows) payload
 */
import type { Socket } from 'node:net'
import type pg from 'pg'
import { ConnectorError } from '../../core/errors.ts'

/** What `pg` does not say of its client in types; the same in every 8.x. */
interface Inside {
  readonly connection: {
    readonly stream: Socket
    query(text: string): void
    emit(event: string, ...values: unknown[]): boolean
  }
  readonly processID: number | null
  readonly secretKey: number | null
}
export const inside = (client: pg.ClientBase): Inside => client as unknown as Inside

export const FRAME = {
  copyData: 0x64,
  copyDone: 0x63,
  copyOut: 0x48,
  copyBoth: 0x57,
  commandComplete: 0x43,
  error: 0x45,
  notice: 0x4e,
  parameter: 0x53,
  ready: 0x5a,
} as const

/** The payload is `buffer` from `start` to `end`, valid during the call. */
export type OnFrame = (type: number, buffer: Buffer, start: number, end: number) => void

/** Frames of PostgreSQL are at most 1 GB; more is another protocol. */
const LARGEST = 0x7fff_0000

export interface Frames {
  /** Called with what was read. Throws what `onFrame` throws. */
  push(data: Buffer): void
  /** Hands over no further frame, also not of what was read already, until `resume`. */
  pause(): void
  resume(): void
  /** What was read and not handed over. */
  rest(): Buffer
}

export function framesOf(onFrame: OnFrame): Frames {
  /** Reads that together hold less than the frame that begins in them. */
  let held: Buffer[] = []
  let heldBytes = 0
  /** So many bytes make the frame whole; 5 while its head is not known. */
  let wanted = 5
  let isPaused = false

  const run = (data: Buffer): void => {
    let at = 0
    held = []
    heldBytes = 0
    wanted = 5
    while (!isPaused && at + 5 <= data.length) {
      const length = data.readUInt32BE(at + 1)
      if (length < 4 || length > LARGEST)
        throw new ConnectorError('bug', `a frame of PostgreSQL has the impossible length ${length}`)
      const end = at + 1 + length
      if (end > data.length) {
        wanted = 1 + length
        break
      }
      onFrame(data[at]!, data, at + 5, end)
      at = end
    }
    held = at < data.length ? [at === 0 ? data : data.subarray(at)] : []
    heldBytes = data.length - at
  }
  const drain = (): void => {
    if (isPaused || heldBytes < wanted) return
    const data = held.length === 1 ? held[0]! : Buffer.concat(held, heldBytes)
    run(data)
  }
  return {
    push(data) {
      if (heldBytes === 0 && !isPaused) return run(data)
      held.push(data)
      heldBytes += data.length
      drain()
    },
    pause() {
      isPaused = true
    },
    resume() {
      isPaused = false
      wanted = Math.min(wanted, 5)
      drain()
    },
    rest: () => Buffer.concat(held, heldBytes),
  }
}

/** An ErrorResponse as an error like the driver's: `code` is the SQLSTATE. */
export function errorOf(
  buffer: Buffer,
  start: number,
  end: number,
): Error & { code: string; detail: string } {
  const fields: Record<string, string> = {}
  let at = start
  while (at < end && buffer[at] !== 0) {
    const zero = buffer.indexOf(0, at + 1)
    if (zero < 0 || zero >= end) break
    fields[String.fromCharCode(buffer[at]!)] = buffer.utf8Slice(at + 1, zero)
    at = zero + 1
  }
  const error = new Error(fields.M ?? 'an error without a message')
  return Object.assign(error, { code: fields.C ?? '', detail: fields.D ?? '' })
}

/** Takes the socket's bytes from the driver; the function gives them back. */
export function takeOver(stream: Socket, onData: (data: Buffer) => void): () => void {
  const driver = stream.listeners('data') as ((data: Buffer) => void)[]
  for (const listener of driver) stream.off('data', listener)
  stream.on('data', onData)
  return () => {
    stream.off('data', onData)
    for (const listener of driver) stream.on('data', listener)
  }
}
