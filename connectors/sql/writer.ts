/**
 * Batches into tables, exactly once. One write is one transaction:
 *
 *   begin
 *     compare-and-set of the task's position on the previous one and the epoch (P2) → Fenced; from here on its row is locked
 *     the steps of the batch (steps.ts)
 *   commit
 *
 * Tables are made and widened before it, in transactions of their own: what a new shape needs harms nobody who still has the old one.
 * A value that the database refuses rolls all back; halves of the batch are then tried, and rolled back, until the bad records are
 * alone (P1). After a lost connection nobody knows whether the commit was done: the task opens anew and reads the position.
 */
import {
  assertLease,
  type Batch,
  type Context,
  type Offset,
  type Rejected,
  type Writer,
} from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'
import { fillTable } from '../../core/format/template.ts'
import type { LogRecord, Table } from '../../core/record.ts'
import type { SqlOptions } from './config.ts'
import type { Session } from './session.ts'
import { appendSteps, type Placed, type Step, upsertSteps } from './steps.ts'

interface State<T> {
  readonly session: Session<T>
  readonly options: SqlOptions
  readonly context: Context
  /** By identity of the shape: the quick way for each record. */
  placed: WeakMap<Table, Placed<T> & { readonly topic: string }>
  /** By name and content: the log hands out a shape anew with each of its segments. */
  readonly prepared: Map<string, Placed<T>>
  /** Text of the position this writer last read or wrote; null: none. */
  previous: string | null
}

/** Shapes are few; of a source that makes them up as it goes, only the last are kept. */
const MAX_PREPARED = 1_000

export async function openSqlWriter<T>(
  session: Session<T>,
  options: SqlOptions,
  context: Context,
): Promise<Writer> {
  const state: State<T> = {
    ...{ session, options, context, previous: null },
    placed: new WeakMap(),
    prepared: new Map(),
  }
  try {
    assertLease(context)
    const { isOurs, position, epoch } = await session.claim(context.task, context.epoch)
    if (!isOurs) throw new Fenced(`${context.task} has a newer owner, epoch ${epoch}`, epoch)
    state.previous = position
  } catch (error) {
    await session[Symbol.asyncDispose]()
    throw session.errorOf(error)
  }
  const writer: Writer = {
    write: batch => write(state, batch),
    position: async () => (state.previous === null ? null : (JSON.parse(state.previous) as Offset)),
    [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
  }
  if (options.mode === 'upsert')
    writer.highest = () => toldBy(session, () => session.highest(context.pipeline))
  return writer
}

async function toldBy<T, R>(session: Session<T>, work: () => Promise<R>): Promise<R> {
  try {
    return await work()
  } catch (error) {
    throw session.errorOf(error)
  }
}

async function write<T>(state: State<T>, batch: Batch): Promise<readonly Rejected[]> {
  const { session, context } = state
  assertLease(context)
  await toldBy(session, () => prepareAll(state, batch.records))
  const next = JSON.stringify(batch.offset)
  try {
    const move = { task: context.task, epoch: context.epoch, previous: state.previous, next }
    if (!(await session.begin(move)))
      throw new Fenced(`the position of ${context.task} was moved by another writer`)
    await apply(state, batch.records)
    assertLease(context)
    await session.commit()
  } catch (error) {
    const told = session.errorOf(error)
    await session.rollback().catch(() => undefined) // the connection may be gone, and the transaction with it
    if (!(told instanceof ConnectorError) || told.kind !== 'data') throw told
    const rejected = await toldBy(session, () => findBad(state, batch.records))
    if (rejected.length === 0) throw told
    return rejected
  }
  state.previous = next
  return []
}

async function prepareAll<T>(state: State<T>, records: readonly LogRecord[]): Promise<void> {
  for (const { table, topic } of records) {
    if (state.placed.get(table)?.topic === topic) continue
    const name = fillTable(state.options.table, table, topic)
    const content = JSON.stringify([name, table])
    let placed = state.prepared.get(content)
    if (!placed) {
      if (state.prepared.size >= MAX_PREPARED) state.prepared.clear()
      placed = { target: await state.session.prepare(table, name), named: name }
      state.prepared.set(content, placed)
    }
    state.placed.set(table, { ...placed, topic })
  }
}

async function apply<T>(state: State<T>, records: readonly LogRecord[]): Promise<void> {
  const { session, options, placed } = state
  const placeOf = ({ table }: LogRecord) => placed.get(table)!
  const steps = (options.mode === 'append' ? appendSteps : upsertSteps)(records, placeOf)
  for (const step of steps) await act(session, step)
}

const act = <T>(session: Session<T>, step: Step<T>): Promise<void> => {
  const { target } = step
  if (step.kind === 'sweep') return session.sweep(target, step.origin, step.below)
  if (step.kind === 'upsert') return session.upsert(target, step.records, step.isFresh)
  return step.kind === 'remove' ? session.remove(target, step.records) : session.append(target, step.records)
}

async function findBad<T>(state: State<T>, records: readonly LogRecord[]): Promise<readonly Rejected[]> {
  const rejected: Rejected[] = []
  const parts: (readonly LogRecord[])[] = [records]
  for (let part = parts.pop(); part; part = parts.pop()) {
    const error = await refusalOf(state, part)
    if (error === null) continue
    const half = Math.ceil(part.length / 2)
    if (part.length > 1) parts.push(part.slice(half), part.slice(0, half))
    else rejected.push({ record: part[0]!, stage: state.session.name, error: ofRecord(error, part[0]!) })
  }
  return rejected
}

/** Tries records in a transaction that is always rolled back. Throws what is not of their values. */
async function refusalOf<T>(state: State<T>, records: readonly LogRecord[]): Promise<ConnectorError | null> {
  const { session } = state
  await session.begin(null)
  try {
    await apply(state, records)
    return null
  } catch (error) {
    const told = session.errorOf(error)
    if (told instanceof ConnectorError && told.kind === 'data') return told
    throw told
  } finally {
    await session.rollback().catch(() => undefined)
  }
}

const ofRecord = (error: ConnectorError, { topic, partition, offset, key }: LogRecord): ConnectorError =>
  new ConnectorError('data', `${topic}/${partition} offset ${offset}, key ${key}: ${error.message}`, {
    cause: error,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  })
