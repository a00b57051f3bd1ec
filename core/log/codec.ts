/**
 * How a block is packed, by the number that stands with it in its frame (journal.ts). A number keeps its meaning for ever; whoever
 * reads format 2 refuses a number it does not know by name. All are synchronous: offsets and numbers of a block are those of its place in the queue, and nothing
 * may come between.
 *
 *   0 none    as it is; also what the others would only make bigger
 *   1 lz4     a block of LZ4
 *   2 gzip    raw deflate: gzip's own header and checksum would say again what the frame says of the block. Level 3, since one
 *             thread reads the source and packs: Node's 6 takes three times as long for an eighth less
 *   3 zstd    a frame of Zstandard, level 1; Node's own, which has it from 22.15 on
 *   4 snappy  a block of Snappy, without frames
 */
import * as zlib from 'node:zlib'
import { compressSync, uncompressSync } from 'lz4-napi'
import snappy from 'snappy'
import { ConnectorError } from '../errors.ts'
import { missingZstd, zstd } from '../zstd.ts'

export const COMPRESSIONS = ['lz4', 'gzip', 'zstd', 'snappy', 'none'] as const
export type Compression = (typeof COMPRESSIONS)[number]

interface Codec {
  readonly compression: Compression
  /** null: not on this Node.js. */
  readonly pack: ((raw: Buffer) => Buffer) | null
  readonly open: ((packed: Buffer) => Buffer) | null
}

const CODECS: readonly Codec[] = [
  { compression: 'none', pack: raw => raw, open: stored => stored },
  {
    compression: 'lz4',
    pack: raw => compressSync(raw) as Buffer,
    open: packed => uncompressSync(packed) as Buffer,
  },
  { compression: 'gzip', pack: raw => zlib.deflateRawSync(raw, { level: 3 }), open: zlib.inflateRawSync },
  {
    compression: 'zstd',
    pack: zstd?.pack ?? null,
    open: zstd?.open ?? null,
  },
  {
    compression: 'snappy',
    pack: raw => snappy.compressSync(raw),
    open: packed => snappy.uncompressSync(packed, { asBuffer: true }) as Buffer,
  },
]

/** Why this Node.js cannot have a compression; null: it can. */
export const missingCompression = (compression: Compression): string | null =>
  compression === 'zstd' ? missingZstd : null

export interface Packed {
  readonly bytes: Buffer
  readonly codec: number
}

/** As it is when packing makes it no smaller. */
export function packed(raw: Buffer, compression: Compression): Packed {
  const codec = CODECS.findIndex(one => one.compression === compression)
  const pack = CODECS[codec]?.pack
  if (!pack)
    throw new ConnectorError('config', `log.compression ${compression} ${missingCompression(compression)}`)
  const bytes = pack(raw)
  return bytes.length < raw.length ? { bytes, codec } : { bytes: Buffer.from(raw), codec: 0 }
}

/** What opens a block of `path`. Throws `config` when this program cannot: the block is well, and is not skipped. */
export function opening(codec: number, path: string): (packed: Buffer) => Buffer {
  const known = CODECS[codec]
  if (!known)
    throw new ConnectorError(
      'config',
      `${path} was written by a newer Millrace: it holds blocks of codec ${codec}, this one knows 0 to ${CODECS.length - 1}`,
      { hint: 'Start the newer Millrace, or another --data-dir.' },
    )
  if (known.open) return known.open
  throw new ConnectorError(
    'config',
    `${path} holds blocks of ${known.compression}, and reading them ${missingCompression(known.compression)}`,
    { hint: 'Start Millrace with a newer Node.js. Nothing was skipped.' },
  )
}
