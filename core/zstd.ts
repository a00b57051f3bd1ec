/** Zstandard as Node.js itself has it, from 22.15 on: the packages that bring it to Node.js 20 are asynchronous. Contract file. */
import * as zlib from 'node:zlib'

/** What the types of Node.js 20 do not know. */
const { zstdCompressSync, zstdDecompressSync } = zlib as {
  readonly zstdCompressSync?: (raw: Buffer, options: { params: Record<number, number> }) => Buffer
  readonly zstdDecompressSync?: (packed: Buffer) => Buffer
}
/** ZSTD_c_compressionLevel */
const ZSTD_LEVEL = 100
/** Frames, level 1. null: not on this Node.js. */
export const zstd =
  zstdCompressSync && zstdDecompressSync
    ? {
        pack: (raw: Buffer): Buffer => zstdCompressSync(raw, { params: { [ZSTD_LEVEL]: 1 } }),
        open: (packed: Buffer): Buffer => zstdDecompressSync(packed),
      }
    : null

/** Why this Node.js cannot have it; null: it can. */
export const missingZstd: string | null = zstd
  ? null
  : `needs Node.js 22.15 or newer, and this is ${process.version}`
