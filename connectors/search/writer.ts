/**
 * Batches into indexes. Keeps no position of its own: progress stands beside the log, and a batch that comes again is refused
 * document by document by its versions (idempotent).
 *
 *   batch ─▶ runs between two sweeps (a sweep is a barrier, S3) ─▶ the last record of each id wins ─▶ send
 */
import { assertLease, type Batch, type Context, type Rejected, type Writer } from '../../core/connector.ts'
import { asConnectorError, ConnectorError } from '../../core/errors.ts'
import { isMissingColumns, type LogRecord, originOf } from '../../core/record.ts'
import type { SearchClient } from './client.ts'
import type { SearchConfig } from './config.ts'
import { highest } from './highest.ts'
import { type Index, type Indexes, indexesOf } from './indexes.ts'
import { documentId, type Operations, operationOf, packerOf } from './operations.ts'
import { type Pace, paceOf } from './pace.ts'
import { send } from './send.ts'
import { sweep } from './sweep.ts'

interface State {
  readonly client: SearchClient
  readonly config: SearchConfig
  readonly context: Context
  readonly indexes: Indexes
  readonly pace: Pace
  readonly refusals: Refusals
}

/** Takes the client over: it is closed with the writer. */
export function openSearchWriter(client: SearchClient, config: SearchConfig, context: Context): Writer {
  const { clock } = context
  const state: State = {
    client,
    config,
    context,
    indexes: indexesOf(client, config, context),
    pace: paceOf({
      parallel: config.bulk.parallel,
      clock,
      random: () => (clock.nowUs() % 997) / 997, // spreads the tasks of many processes, and needs no more than that
    }),
    refusals: refusalsOf(context),
  }
  return {
    write: batch => write(state, batch),
    highest: () => highest(client, config, context),
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  }
}

async function write(state: State, { records }: Batch): Promise<readonly Rejected[]> {
  const rejected: Rejected[] = []
  let run: LogRecord[] = []
  for (const record of records) {
    if (record.op === 'sweep') {
      rejected.push(...(await writeRun(state, run)))
      run = []
      const { name } = await state.indexes.of(record)
      await sweep(state.client, name, originOf(record), record.below!, state.context)
    } else if (!isMissingColumns(record)) run.push(record)
  }
  rejected.push(...(await writeRun(state, run)))
  state.refusals.written()
  return rejected
}

async function writeRun(state: State, records: readonly LogRecord[]): Promise<readonly Rejected[]> {
  if (records.length === 0) return []
  const { client, config, context, pace, refusals } = state
  assertLease(context) // an index is made before the first request
  const rejected: Rejected[] = []
  const run: Run = { records: [], ids: [], indexes: [], places: new Map() }
  for (const record of records) {
    const index = state.indexes.known(record) ?? (await state.indexes.of(record))
    settingAside(state, record, rejected, () => place(run, record, documentId(record, config), index))
  }
  if (run.ids.length === 0) return rejected
  const index = run.indexes[0]!.target
  const parts = { client, config, context, pace, index, lost: state.indexes.lost }
  const sent = await send(parts, requestsOf(state, run, rejected))
  refusals.count(run.ids.length, sent.refused)
  return [...rejected, ...sent.rejected]
}

/** What is to be written, side by side: of each id the last record. */
interface Run {
  readonly records: LogRecord[]
  readonly ids: string[]
  readonly indexes: Index[]
  /** By index, of each id the place in the lists. */
  readonly places: Map<string, Map<string, number>>
}

function place({ records, ids, indexes, places }: Run, record: LogRecord, id: string, index: Index): void {
  const known = places.get(index.name) ?? new Map<string, number>()
  if (known.size === 0) places.set(index.name, known)
  const place = known.get(id) ?? ids.length
  known.set(id, place)
  records[place] = record
  ids[place] = id
  indexes[place] = index
}

/** One request's operations after another, each made when it is asked for. What cannot be a document is set aside. */
function* requestsOf(state: State, run: Run, rejected: Rejected[]): Generator<Operations, void> {
  const { config } = state
  const packer = packerOf(config.bulk.actions, config.bulk.bytes)
  const standard = run.indexes[0]!.target
  for (const [place, record] of run.records.entries()) {
    let text = ''
    settingAside(state, record, rejected, () => {
      text = operationOf(record, run.ids[place]!, run.indexes[place]!, standard, config)
    })
    if (text === '' || packer.add(record, text)) continue
    yield packer.take()
    packer.add(record, text)
  }
  const last = packer.take()
  if (last.ends.length > 0) yield last
}

function settingAside({ client }: State, record: LogRecord, rejected: Rejected[], make: () => void): void {
  try {
    make()
  } catch (error) {
    const told = asConnectorError(error)
    if (told.kind !== 'data' && !(error instanceof SyntaxError)) throw error
    rejected.push({ record, stage: client.product, error: asData(told) })
  }
}

const asData = (error: ConnectorError): ConnectorError =>
  error.kind === 'data' ? error : new ConnectorError('data', error.message, { cause: error })

interface Refusals {
  count(operations: number, refused: number): void
  written(): void
}

/** A share of refused documents above this is a fault and not a success (V4). */
const MOST_REFUSED = 0.01
const LOOK_AT = 10_000

/** The first batch after the start may come a second time, and is not counted. */
function refusalsOf({ log, metrics, task }: Context): Refusals {
  let isReplay = true
  let operations = 0
  let refused = 0
  return {
    count(of, some) {
      metrics.add('refused', some)
      if (isReplay) return
      operations += of
      refused += some
      if (operations < LOOK_AT) return
      if (refused > operations * MOST_REFUSED)
        log.warn(
          { task, operations, refused },
          `${refused} of the last ${operations} documents of ${task} were refused as older than what stands in the index: does something else write to it?`,
        )
      operations = 0
      refused = 0
    },
    written() {
      isReplay = false
    },
  }
}
