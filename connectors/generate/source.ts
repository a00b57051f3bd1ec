/**
 * Made-up rows without a database: a snapshot of `rows` items, then `changes` changes of them. The same seed gives the same
 * records, whatever the cuts: record n is a pure function of (seed, n), so the offset is just n.
 */
import { z } from 'zod'
import { type Batch, type Context, defineSource, type Offset, type Reader } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'

const config = z.strictObject({
  rows: z
    .int()
    .min(0)
    .default(1_000)
    .meta({ title: 'Rows', description: 'Rows of the snapshot, keys 1 to `rows`.' }),
  changes: z
    .int()
    .min(0)
    .default(0)
    .meta({ title: 'Changes', description: 'Changes after the snapshot: updates, deletes, re-inserts.' }),
  rate: z
    .int()
    .min(0)
    .default(0)
    .meta({ title: 'Rate', description: 'Changes a second; 0: as fast as they are taken.' }),
  batch_rows: z
    .int()
    .min(1)
    .max(100_000)
    .default(1_000)
    .meta({ title: 'Batch', description: 'Records of a batch at most.' }),
  seed: z
    .int()
    .min(0)
    .default(1)
    .meta({ title: 'Seed', description: 'The same seed makes the same records.' }),
})
export type GenerateConfig = z.output<typeof config>

export const ITEMS: Table = {
  schema: 'generate',
  name: 'items',
  key: ['id'],
  columns: [
    { name: 'id', type: 'int8' },
    { name: 'name', type: 'text' },
    { name: 'price', type: 'numeric' },
    { name: 'note', type: 'text' },
  ],
}

const WORDS = [
  'amber',
  'birch',
  'cedar',
  'delta',
  'ember',
  'fjord',
  'grove',
  'heath',
  'islet',
  'jetty',
  'knoll',
  'larch',
  'marsh',
  'north',
  'ocean',
  'prairie',
]

/** A well-mixed 32-bit hash of two integers (finalizer of MurmurHash3). */
function mix(seed: number, n: number): number {
  let h = (Math.imul(seed + 1, 0x9e3779b1) ^ n) >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

const word = (h: number): string => WORDS[h % WORDS.length]!

function rowOf(seed: number, id: number, n: number): string {
  const h = mix(seed, n)
  const price = `${h % 1000}.${String(h % 97).padStart(2, '0')}`
  return `{"id":${id},"name":"${word(h)} ${word(h >>> 4)} ${id}","price":"${price}","note":"change ${n} of a made-up row, ${word(h >>> 8)} and ${word(h >>> 12)}"}`
}

/** Record n, from 0. */
export function recordAt({ rows, seed }: GenerateConfig, n: number, nowMs: number): ChangeRecord {
  const isSnapshot = n < rows
  const id = isSnapshot ? n + 1 : 1 + (mix(seed ^ 0x5bd1e995, n) % Math.max(rows, 1))
  const deletes = !isSnapshot && mix(seed, n) % 10 === 0
  return {
    op: isSnapshot ? 'r' : deletes ? 'd' : 'u',
    table: ITEMS,
    key: `{"id":${id}}`,
    before: null,
    after: deletes ? null : rowOf(seed, id, n),
    source: `{"connector":"generate","schema":"generate","table":"items","n":${n},"snapshot":${isSnapshot}}`,
    commitMs: nowMs,
    readMs: nowMs,
    below: null,
  }
}

const nextOf = (from: Offset | null): number => {
  const next = from === null ? 0 : (from as { next?: unknown }).next
  if (typeof next === 'number' && Number.isSafeInteger(next) && next >= 0) return next
  throw new ConnectorError('offset_lost', `generate cannot resume at ${JSON.stringify(from)}`)
}

async function* batches(
  options: GenerateConfig,
  from: number,
  context: Context,
): AsyncGenerator<Batch<ChangeRecord>> {
  const end = options.rows + options.changes
  let next = from
  if (next >= end) yield { records: [], offset: { next }, caughtUp: true }
  while (next < end && !context.signal.aborted) {
    const live = next >= options.rows && options.rate > 0
    const until = Math.min(
      next < options.rows ? options.rows : end,
      next + (live ? Math.max(1, Math.ceil(options.rate / 10)) : options.batch_rows),
    )
    const nowMs = Math.floor(context.clock.nowUs() / 1000)
    const records: ChangeRecord[] = []
    for (; next < until; next++) records.push(recordAt(options, next, nowMs))
    yield { records, offset: { next }, ...(next >= end ? { caughtUp: true as const } : {}) }
    if (live) await context.clock.sleep((records.length * 1000) / options.rate, context.signal)
  }
}

export const generate = defineSource({
  name: 'generate',
  summary: 'Makes up rows and changes, to try a pipeline without a database.',
  config,
  examples: [
    { title: 'A thousand rows', config: { rows: 1000 } },
    { title: 'Fifty changes a second after them', config: { rows: 1000, changes: 100_000, rate: 50 } },
  ],
  async check() {},
  async plan({ rows }) {
    return { tables: [{ table: ITEMS, rows }], upstream: [] }
  },
  async open(options: GenerateConfig, from, context): Promise<Reader<ChangeRecord>> {
    const next = nextOf(from)
    return {
      [Symbol.asyncIterator]: () => batches(options, next, context),
      async [Symbol.asyncDispose]() {},
    }
  },
})
