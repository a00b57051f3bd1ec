/**
 * A file read forwards: one read of the disk serves many small looks, so that a log of small frames is not a read each. Keeps one
 * buffer; does not know what the bytes mean.
 */
import type { DiskFile } from './disk.ts'

export interface Window {
  /** Up to `length` bytes at `position`, fewer at the file's end, and none at or behind `end`. Valid until the next look. */
  look(position: number, length: number, end: number): Promise<Buffer>
}

const WINDOW_BYTES = 64 * 1024

export function windowOf(file: DiskFile, windowBytes = WINDOW_BYTES): Window {
  let bytes = Buffer.alloc(0)
  let from = 0
  let held = 0
  return {
    async look(position, length, end) {
      const wanted = Math.max(0, Math.min(length, end - position))
      if (position < from || position + wanted > from + held) {
        // Not behind `end`: what stands there may be cut and written anew, and must not be taken from here then.
        const asked = Math.min(Math.max(wanted, windowBytes), end - position)
        held = 0
        if (bytes.length < asked) bytes = Buffer.allocUnsafe(Math.max(asked, windowBytes))
        held = await file.read(bytes, asked, position)
        from = position
      }
      return bytes.subarray(position - from, Math.min(position - from + wanted, held))
    },
  }
}
