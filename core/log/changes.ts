/**
 * The one writer of a log of changes (V1): numbers records in log order, chooses topic and partition, and appends batch, offset
 * and last number as one frame. The newest writer of a task fences the ones before it (P2).
 */
import { assertLease, type Batch, type Context, type Rejected, type Writer } from '../connector.ts'
import { Fenced } from '../errors.ts'
import type { ChangeRecord, Json, Table } from '../record.ts'
import { encodeValue } from '../row.ts'
import type { Compression } from './codec.ts'
import { type BlockBuilder, blockBuilder, putRecord, storedBlock } from './journal.ts'
import { numbered, refuseFuture, refuseOlder, topicsOf } from './numbering.ts'
import type { Build, Segments } from './segments.ts'

export interface ChangesOptions {
  readonly segments: Segments
  readonly name: string
  readonly partitions: number
  readonly compression: Compression
  /** Task → the epoch of its newest writer. */
  readonly owners: Map<string, number>
}

/** A reader opens a block at a time: this bounds its memory. */
const BLOCK_BYTES = 256 * 1024
const SPARE_BUILDERS = 8

export async function openChanges(
  options: ChangesOptions,
  context: Context,
  floor: number,
): Promise<Writer<ChangeRecord>> {
  const { segments, owners } = options
  assertLease(context)
  const state: State = {
    options,
    context,
    last: floor,
    offset: null,
    topicOf: topicsOf(options.name),
    spare: [],
  }
  // The claim goes through the queue: a write of the owner before is either wholly in front of it or fenced (L1, P2).
  await segments.append(0, () => claim(state))
  return {
    async write(batch): Promise<readonly Rejected<ChangeRecord>[]> {
      let last = state.last
      await segments.append(batch.records.length * 300, () => {
        assertLease(context) // here and not before: it may have waited for its turn
        refuseFenced(owners, context)
        const built = build(state, batch)
        last = built.task!.last
        return built
      })
      state.last = last
      return []
    },
    position: async () => state.offset,
    async [Symbol.asyncDispose]() {},
  }
}

function refuseFenced(owners: ReadonlyMap<string, number>, { task, epoch }: Context): void {
  const newest = owners.get(task) ?? 0
  if (newest > epoch) throw new Fenced(`${task} has a newer owner, epoch ${newest}`, newest)
}

/** Stores our epoch beside the position as it is, and takes both up. */
function claim(state: State): Build {
  const { segments, owners } = state.options
  const { task, epoch, clock } = state.context
  const stored = segments.tasks.get(task)
  const newest = Math.max(owners.get(task) ?? 0, stored?.epoch ?? 0)
  refuseOlder(task, epoch, newest)
  state.last = Math.max(stored?.last ?? 0, state.last)
  state.offset = stored?.offset ?? null
  refuseFuture(task, state.last, clock.nowUs())
  owners.set(task, epoch)
  return { task: { task, epoch, offset: state.offset, last: state.last }, blocks: [] }
}

interface State {
  readonly options: ChangesOptions
  readonly context: Context
  last: number
  /** The position that was found. */
  offset: Json
  readonly topicOf: (table: Table) => string
  readonly spare: BlockBuilder[]
}

interface OpenBlock {
  readonly table: Table
  readonly topic: string
  readonly partition: number
  readonly schema: number
  readonly builder: BlockBuilder
}

function build(state: State, batch: Batch<ChangeRecord>): Build {
  const { options, context } = state
  const blocks: Build['blocks'][number][] = []
  const open = new Map<string, (OpenBlock | undefined)[]>()
  const put = (record: ChangeRecord, partition: number, version: number, below: number) => {
    const topic = state.topicOf(record.table)
    let ofTopic = open.get(topic)
    if (!ofTopic) {
      ofTopic = []
      open.set(topic, ofTopic)
    }
    let block = ofTopic[partition]
    // Blocks of a topic-partition follow each other as its records do: another shape closes the one before.
    if (
      block &&
      block.table !== record.table &&
      block.schema !== options.segments.schemas.idOf(record.table)
    ) {
      blocks.push(seal(state, block))
      block = undefined
    }
    if (!block) {
      block = begin(state, record.table, topic, partition)
      ofTopic[partition] = block
    }
    putRecord(block.builder, version, record.commitMs, record.key, encodeValue(record, below))
    if (block.builder.used < BLOCK_BYTES) return
    blocks.push(seal(state, block))
    ofTopic[partition] = undefined
  }
  const last = numbered(batch.records, state.last, context.clock.nowUs(), options.partitions, put)
  for (const ofTopic of open.values()) for (const block of ofTopic) if (block) blocks.push(seal(state, block))
  return { task: { task: context.task, epoch: context.epoch, offset: batch.offset as Json, last }, blocks }
}

function begin({ options, spare }: State, table: Table, topic: string, partition: number): OpenBlock {
  const builder = spare.pop() ?? blockBuilder()
  return { table, topic, partition, schema: options.segments.schemas.idOf(table), builder }
}

function seal(
  { options, spare }: State,
  { topic, partition, schema, builder }: OpenBlock,
): Build['blocks'][number] {
  const { bytes, codec, crc } = storedBlock(builder, options.compression)
  const first = options.segments.allocate(topic, partition, builder.count)
  const meta = [
    topic,
    partition,
    schema,
    first,
    builder.count,
    builder.used,
    bytes.length,
    codec,
    crc,
  ] as const
  // What is stored is a copy: the buffer serves again. Made anew for each block, they would be the most of what a snapshot throws away.
  if (spare.length < SPARE_BUILDERS && builder.bytes.length <= 2 * BLOCK_BYTES)
    spare.push(Object.assign(builder, { used: 0, count: 0 }))
  return { meta, bytes }
}
