/**
 * The source's offset: where the stream stands, and what of the snapshot is left (rules H1, H5, H10, H11).
 *
 *   { "format": 1, "state": "creating" }            intent: the slot is about to be made; one found later is ours to drop
 *   { "format": 1, "state": "following",
 *     "system": "7384…", "timeline": 1,             whose log this is
 *     "lsn": "0/1A2B3C8",                           end of the last finished commit; only this is confirmed to the server
 *     "open": { "commit": "0/1A2B4F0", "done": 17 } the transaction we stand in: its commit, and how many of its changes are in
 *     "unseen": ["754", …],                         transactions (64 bit) delivered, or committed before the slot, that no snapshot has seen yet
 *     "fill": { "shop.products": { "nodes": {"16390": 16390}, "shape": "…", "left": [[16390, 0, 819200]] } } }
 *
 * `left` are ranges of row addresses (ctid) not yet in the log: [relation, from, to). An address is block * 4096 + line, which
 * orders as PostgreSQL orders ctids and fits a double for the largest table there can be. The plan's end is the table's size
 * when it was made: rows in later blocks came after the slot, and so are in the stream.
 */
import type { Offset } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'

export const FORMAT = 1
const LINES_PER_BLOCK = 4096

export type TidRange = readonly [relation: number, from: number, to: number]

export interface Fill {
  /** Relation → file node, of the table or of each of its leaf partitions: a rewrite moves rows without a word in the stream (H2). */
  readonly nodes: { readonly [relation: string]: number }
  /** Names and types of the columns the chunks are read with. */
  readonly shape: string
  readonly left: readonly TidRange[]
}

export interface OpenTransaction {
  readonly commit: string
  readonly done: number
}

export interface Following {
  readonly format: typeof FORMAT
  readonly state: 'following'
  readonly system: string
  readonly timeline: number
  readonly lsn: string
  readonly open: OpenTransaction | null
  readonly unseen: readonly string[]
  readonly fill: { readonly [table: string]: Fill }
}

export type Position = Following | { readonly format: typeof FORMAT; readonly state: 'creating' }

/**
 * Where a new pipeline begins: at `lsn`, which the slot was made at. `running`: transactions that ran when it stood. One of them may
 * have committed in front of `lsn` and be visible to nobody yet: the stream does not bring it, and so every chunk must see it.
 */
export const firstPosition = (
  place: Pick<Following, 'system' | 'timeline' | 'lsn' | 'fill'>,
  running: readonly bigint[],
): Following => ({
  format: FORMAT,
  state: 'following',
  ...place,
  open: null,
  unseen: running.map(String),
})

export const CREATING: Position = { format: FORMAT, state: 'creating' }

/** Throws `config` on a format that is newer than this program, `offset_lost` on anything that is no position. */
export function positionOf(offset: Offset): Position {
  const position = offset as Partial<Position> | null
  if (typeof position?.format === 'number' && position.format > FORMAT)
    throw new ConnectorError(
      'config',
      `the position was written by a newer Millrace: format ${position.format}, this one knows ${FORMAT}`,
    )
  if (position?.format === FORMAT && (position.state === 'creating' || position.state === 'following'))
    return position as Position
  throw new ConnectorError('offset_lost', `not a position of a PostgreSQL source: ${JSON.stringify(offset)}`)
}

/** "16/B374D848" ↔ 64 bits. */
export const lsnOf = (text: string): bigint => {
  const [high, low] = text.split('/')
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}
export const lsnText = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`

export const tidText = (address: number): string =>
  `(${Math.floor(address / LINES_PER_BLOCK)},${address % LINES_PER_BLOCK})`
export const blockStart = (block: number): number => block * LINES_PER_BLOCK
export const blocksOf = ([, from, to]: TidRange): number => Math.ceil((to - from) / LINES_PER_BLOCK)
