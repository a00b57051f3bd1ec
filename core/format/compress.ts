/**
 * Whole files compressed as they are written: gzip, and zstd where this Node.js has it (22.15 and newer). Opened as they are read: both,
 * zstd on an older Node.js by fzstd.
 */
import { pipeline, Readable, Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import { Decompress } from 'fzstd'
import { missingZstd as missing } from '../zstd.ts'

export type FileCompression = 'none' | 'gzip' | 'zstd'

/** What the types of Node.js 20 do not know. */
const { createZstdCompress, createZstdDecompress, zstdCompressSync } = zlib as {
  readonly createZstdCompress?: () => Transform
  readonly createZstdDecompress?: () => Transform
  readonly zstdCompressSync?: (raw: Uint8Array) => Buffer
}

export const zstdOnce: ((raw: Uint8Array) => Buffer) | null = zstdCompressSync ?? null

/** Why this Node.js cannot have it; null: it can. */
export const missingZstd = (): string | null => (missing === null ? null : `zstd ${missing}`)

export const SUFFIX: Readonly<Record<FileCompression, string>> = { none: '', gzip: '.gz', zstd: '.zst' }

export function compressed(
  chunks: AsyncIterable<Buffer>,
  compression: FileCompression,
): AsyncIterable<Buffer> {
  if (compression === 'none') return chunks
  const packer = compression === 'gzip' ? zlib.createGzip({ level: 5 }) : createZstdCompress!()
  // What fails in front of it is thrown where it is read.
  pipeline(Readable.from(chunks), packer, () => {})
  return packer
}

/** The reverse. Throws, where it is read, what `chunks` throws and what is no whole file of that kind. */
export function decompressed(
  chunks: AsyncIterable<Buffer>,
  compression: FileCompression,
): AsyncIterable<Buffer> {
  if (compression === 'none') return chunks
  const opener = compression === 'gzip' ? zlib.createGunzip() : (createZstdDecompress ?? unzstd)()
  pipeline(Readable.from(chunks), opener, () => {}) // an error destroys `opener`, and is thrown where that is read
  return opener
}

function unzstd(): Transform {
  const opener = new Decompress(data => {
    // What it hands out is its window, which it goes on writing to.
    if (data.length > 0) transform.push(Buffer.from(data))
  })
  const feed = (chunk: Uint8Array, isLast: boolean, done: (error?: Error) => void) => {
    try {
      opener.push(chunk, isLast)
      done()
    } catch (error) {
      done(error as Error)
    }
  }
  const transform = new Transform({
    transform: (chunk: Buffer, _, done) => feed(chunk, false, done),
    flush: done => feed(new Uint8Array(0), true, done),
  })
  return transform
}
