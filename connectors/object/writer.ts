/**
 * Batches into objects, exactly once. `write` gathers; objects are made when `rotate` says so, by the steps that manifests.ts draws.
 *
 *   record ─▶ row, path, line (or a dead letter: then nothing of the batch is gathered, P1) ─▶ part of its topic's group
 *   flush of groups: ANNOUNCE ─▶ PUT each part ─▶ COMMIT ─▶ durable
 *
 * What is gathered is dropped when the writer closes: it stands in the log, and comes again. Flushing there would make a small object at
 * each restart, write when the lease may be over, and could not say that it failed.
 */
import {
  assertLease,
  type Batch,
  type Context,
  type Offset,
  type Rejected,
  type Writer,
} from '../../core/connector.ts'
import { asConnectorError, ConnectorError } from '../../core/errors.ts'
import { checkFileOptions, extensionOf, type FileOptions, fileOf, lineOf } from '../../core/format/file.ts'
import type { LogOffset } from '../../core/log/log.ts'
import type { LogRecord } from '../../core/record.ts'
import { fileOptions, type ObjectConfig } from './config.ts'
import { type Envelope, envelopeOf } from './envelope.ts'
import {
  addTo,
  announcedOf,
  dropGroup,
  type Group,
  groupOf,
  linesOf,
  type Part,
  type Placed,
  settle,
  spillAbove,
} from './gather.ts'
import { objectName, type PathOf, pathOf } from './layout.ts'
import { type Announced, claim, type Manifests } from './manifests.ts'
import type { ObjectStore } from './store.ts'

interface State {
  readonly store: ObjectStore
  readonly stage: string
  readonly config: ObjectConfig
  readonly file: FileOptions
  readonly extension: string
  readonly context: Context
  readonly envelope: Envelope
  readonly pathOf: PathOf
  readonly manifests: Manifests
  readonly groups: Map<string, Group>
  /** Of the log that is read; '' before the first batch. */
  log: string
  /** Of the last batch that was taken whole. */
  whole: LogOffset | null
  /** By topic, the offset behind the last record that was taken. */
  readonly next: Map<string, number>
  committed: LogOffset | null
  /** Of the owner before: to be made before anything else is flushed. */
  announced: Announced | null
  durable: Offset | null
  /** When the last record was taken, and the last manifest made. */
  takenMs: number
  committedMs: number
  /** A flush was cut short: only who opens anew knows what stands. */
  isBroken: boolean
}

/** Takes the store over: it is closed with the writer. */
export async function openObjectWriter(
  store: ObjectStore,
  stage: string,
  config: ObjectConfig,
  context: Context,
): Promise<Writer> {
  const file = fileOptions(config)
  checkFileOptions(file)
  const manifests = await claim(store, context)
  const { position, announced } = manifests.found
  const nowMs = context.clock.monotonicMs()
  const state: State = {
    store,
    stage,
    config,
    file,
    extension: extensionOf(file),
    context,
    envelope: envelopeOf(config),
    pathOf: pathOf(config),
    manifests,
    groups: new Map(),
    log: position?.log ?? '',
    whole: null,
    next: new Map(Object.entries(position?.next ?? {})),
    committed: position,
    announced,
    durable: null,
    takenMs: nowMs,
    committedMs: nowMs,
    isBroken: false,
  }
  return {
    write: batch => guarded(state, batch),
    position: async () => state.committed as unknown as Offset | null,
    durable: () => state.durable,
    async [Symbol.asyncDispose]() {
      for (const group of state.groups.values()) await dropGroup(group)
      await store[Symbol.asyncDispose]()
    },
  }
}

async function guarded(state: State, batch: Batch): Promise<readonly Rejected[]> {
  assertLease(state.context)
  if (state.isBroken)
    throw new ConnectorError('bug', `${state.context.task} was written again after a write that failed`)
  const { placed, rejected } = place(state, batch.records)
  if (rejected.length > 0) return rejected
  state.isBroken = true
  await write(state, placed, batch.offset as unknown as LogOffset)
  state.isBroken = false
  return []
}

/** `line` null: left out. */
type Taken = { readonly record: LogRecord; readonly placed: Placed | null }

function place(state: State, records: readonly LogRecord[]) {
  const { envelope, file, stage } = state
  const placed: Taken[] = []
  const rejected: Rejected[] = []
  const pathOf = fittingPathOf(state)
  for (const record of records) {
    try {
      const row = envelope.row(record)
      if (row === null) {
        placed.push({ record, placed: null })
        continue
      }
      const columns = envelope.columns(record.table)
      placed.push({
        record,
        placed: { record, path: pathOf(record), columns, line: lineOf(row, columns, file) },
      })
    } catch (thrown) {
      const error = asConnectorError(thrown)
      if (error.kind !== 'data' && !(thrown instanceof SyntaxError)) throw thrown
      const told = error.kind === 'data' ? error : new ConnectorError('data', error.message, { cause: error })
      rejected.push({ record, stage, error: told })
    }
  }
  return { placed, rejected }
}

/** Throws `data` where the store would have no object of that name. */
function fittingPathOf({ store, pathOf, extension }: State): PathOf {
  let fits = ''
  return record => {
    const path = pathOf(record)
    if (path === fits) return path
    const why = store.unfit(objectName(path, record, extension))
    if (why !== null) throw new ConnectorError('data', `no object of ${store.name} can be called so: ${why}`)
    fits = path
    return path
  }
}

async function write(state: State, placed: readonly Taken[], offset: LogOffset): Promise<void> {
  const { groups, next, config, extension, context } = state
  const { rotate } = config
  state.log = offset.log
  state.whole = null
  const nowMs = context.clock.monotonicMs()
  for (const { record, placed: one } of placed) {
    const { topic } = record
    if (record.offset < (next.get(topic) ?? 0)) continue // it came before
    if (record.offset >= (state.announced?.ends[topic] ?? Number.POSITIVE_INFINITY)) await redo(state, topic)
    const before = groups.get(topic)
    if (before && rotate.span_ms !== undefined && record.commitMs - before.firstMs >= rotate.span_ms)
      await flush(state, [topic])
    next.set(topic, record.offset + 1)
    if (!one) continue
    state.takenMs = nowMs
    const group = groups.get(topic) ?? groupOf(record, nowMs)
    groups.set(topic, group)
    const part = addTo(group, one, extension)
    if (part.records >= rotate.records || part.size >= rotate.bytes) await flush(state, [topic])
  }
  for (const [topic, end] of Object.entries(offset.next)) next.set(topic, Math.max(end, next.get(topic) ?? 0))
  state.whole = offset
  for (const [topic, end] of Object.entries(state.announced?.ends ?? {}))
    if ((next.get(topic) ?? 0) >= end) await redo(state, topic)
  for (const group of groups.values()) settle(group)
  await spillAbove(config.memory_bytes, groups.values(), config.spill)
  await look(state, nowMs)
}

/** At the clock. */
async function look(state: State, nowMs: number): Promise<void> {
  const { groups, config, takenMs } = state
  const { idle_ms, open_ms } = config.rotate
  const isIdle = nowMs - takenMs >= idle_ms
  const late = [...groups.values()].filter(({ openedMs }) => isIdle || nowMs - openedMs >= open_ms)
  if (late.length > 0)
    await flush(
      state,
      late.map(({ topic }) => topic),
    )
  // Records of others have passed, or such as are left out: the log waits for us to say so, but it may take its time.
  else if (!state.announced && nowMs - Math.max(takenMs, state.committedMs) >= idle_ms && hasMoved(state))
    await commit(state)
}

const hasMoved = (state: State): boolean =>
  JSON.stringify(positionOf(state)) !== JSON.stringify(state.committed)

/** All before it is in objects, or in none. In the midst of a batch it names the topics that came. */
function positionOf({ groups, next, log, whole }: State): LogOffset {
  const topics = whole ? Object.keys(whole.next) : [...next.keys()]
  return {
    log,
    next: Object.fromEntries(topics.map(topic => [topic, groups.get(topic)?.from ?? next.get(topic)!])),
  }
}

async function commit(state: State): Promise<void> {
  const position = positionOf(state)
  await state.manifests.next({ position, announced: null })
  state.committed = position
  state.durable = position as unknown as Offset
  state.committedMs = state.context.clock.monotonicMs()
}

/** Nothing while what the owner before has announced is not made: these wait a little. */
async function flush(state: State, topics: readonly string[]): Promise<void> {
  if (state.announced) return
  const complete = topics.map(topic => state.groups.get(topic)!)
  const objects = complete.flatMap(({ parts }) => parts.map(announcedOf))
  const ends = Object.fromEntries(topics.map(topic => [topic, state.next.get(topic)!]))
  await state.manifests.next({ position: state.committed, announced: { ends, objects } })
  for (const group of complete) await putGroup(state, group)
  await commit(state)
}

/** What was announced of this topic, made of the records that came again. */
async function redo(state: State, topic: string): Promise<void> {
  const { ends, objects } = state.announced!
  const group = state.groups.get(topic)
  const due = objects.filter(one => one.topic === topic)
  const made = group?.parts.map(announcedOf) ?? []
  if (JSON.stringify(made) !== JSON.stringify(due))
    throw new ConnectorError(
      'config',
      `${state.store.name} has announced ${namesOf(due)}, and the records now make ${namesOf(made)}`,
      {
        hint: 'The options of the sink or its transforms were changed while objects were written. Run it once with those of before.',
      },
    )
  if (group) await putGroup(state, group)
  const { [topic]: _, ...left } = ends
  state.announced = Object.keys(left).length > 0 ? { ends: left, objects } : null
  if (!state.announced) await commit(state)
}

const namesOf = (objects: Announced['objects']): string =>
  objects.length === 0
    ? 'none'
    : objects
        .slice(0, 3)
        .map(({ name, last, records }) => `${name} (${records} records to ${last})`)
        .join(', ') + (objects.length > 3 ? ` and ${objects.length - 3} more` : '')

async function putGroup(state: State, group: Group): Promise<void> {
  settle(group)
  const left = [...group.parts]
  const errors: unknown[] = []
  const worker = async () => {
    for (let part = left.shift(); part && errors.length === 0; part = left.shift())
      await putPart(state, group, part).catch(error => errors.push(error))
  }
  await Promise.all(Array.from({ length: Math.min(state.store.parallel, left.length) }, worker))
  if (errors.length > 0) throw errors[0]
  state.groups.delete(group.topic)
  await dropGroup(group)
}

async function putPart(state: State, group: Group, part: Part): Promise<void> {
  const { store, context, file, log } = state
  const { name, topic, partition, first, last, records } = part
  const body = () => fileOf(part.table, part.columns, linesOf(group, part), file)
  const mark = { log, topic, partition, first, last, records }
  for (let attempt = 1; ; attempt++) {
    assertLease(context)
    if ((await store.put(name, body, mark)) === 'made') {
      context.metrics.add('objects', 1)
      return
    }
    const isSame = await store.isSame(name, body, mark)
    if (isSame) return // ours, or that of an owner before
    if (isSame === false || attempt === 3)
      throw new ConnectorError(
        'config',
        `${name} in ${store.name} is there already, and holds something else`,
        {
          hint: 'Another pipeline wrote it, or this one before it was made anew. Use another prefix, or take away what is there.',
        },
      )
  }
}
