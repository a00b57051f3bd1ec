/** Whole files compressed as they are written: gzip, and zstd where this Node.js has it (22.15 and newer). */
import { pipeline, Readable, type Transform } from 'node:stream'
import * as zlib from 'node:zlib'

export type FileCompression = 'none' | 'gzip' | 'zstd'

/** What the types of Node.js 20 do not know. */
const { createZstdCompress, zstdCompressSync } = zlib as {
  readonly createZstdCompress?: () => Transform
  readonly zstdCompressSync?: (raw: Uint8Array) => Buffer
}

export const zstdOnce: ((raw: Uint8Array) => Buffer) | null = zstdCompressSync ?? null

/** Why this Node.js cannot have it; null: it can. */
export const missingZstd = (): string | null =>
  zstdOnce ? null : `zstd needs Node.js 22.15 or newer, and this is ${process.version}`

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
