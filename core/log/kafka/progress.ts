/**
 * Progress of a sink task on Kafka (K3): the offsets of the sink's own group, common to its tasks, each moving its partition. Memberless,
 * committed in a transaction of the task's transactional.id, and so fenced: opening it ends whoever had the task before. What lag
 * tools look at is the truth itself. Of a sink that keeps its position with its data it is a report only (../../worker/reporting.ts).
 *
 *   group     <hub>.<pipeline>.<sink>
 *   metadata  {"log":"…","epoch":3}        of the log the offsets are of, and of the owner who committed them
 */
import { assertLease, type Context, type Offset } from '../../connector.ts'
import { Fenced } from '../../errors.ts'
import type { Admins } from '../../kafka/admins.ts'
import type { Transactions } from '../../kafka/transactions.ts'
import type { Progress } from '../../pump.ts'
import type { LogOffset } from '../log.ts'
import { lostPosition } from '../log.ts'
import { refuseOlder } from '../numbering.ts'
import type { Catalog } from './catalog.ts'

export interface KafkaProgressParts {
  readonly admins: Admins
  readonly catalog: Catalog
  readonly id: string
  readonly group: string
  readonly partition: number
  open(context: Context): Promise<Transactions>
}

interface Committed {
  readonly log: string
  readonly epoch: number
}

/** Brokers forget the offsets of a group that nobody moves: after a week (`offsets.retention.minutes`), or whatever they are told. */
const RENEW_MS = 3_600_000

interface State {
  readonly stop: AbortController
  transactions: Transactions | null
  committed: Map<string, number>
  /** One transaction at a time. */
  turn: Promise<unknown>
  fenced: Fenced | null
  renewing: Promise<void>
}

export function kafkaProgress(parts: KafkaProgressParts, context: Context): Progress {
  const state: State = {
    stop: new AbortController(),
    transactions: null,
    committed: new Map(),
    turn: Promise.resolve(),
    fenced: null,
    renewing: Promise.resolve(),
  }
  return {
    async load() {
      state.transactions = await parts.open(context)
      state.renewing = renewNowAndThen(parts, context, state)
      const committed = await offsetsOf(parts, context)
      state.committed = committed
      if (committed.size === 0) return null
      return { log: parts.id, next: Object.fromEntries(committed) } as unknown as Offset
    },
    async save(offset) {
      if (state.fenced) throw state.fenced
      const next = new Map(Object.entries((offset as unknown as LogOffset).next))
      await inTurn(state, async () => {
        const moved = new Map([...next].filter(([topic, at]) => state.committed.get(topic) !== at))
        if (moved.size > 0) await commit(parts, context, state, moved)
        state.committed = next
      })
    },
    async [Symbol.asyncDispose]() {
      state.stop.abort()
      await state.renewing
      await state.transactions?.[Symbol.asyncDispose]()
    },
  }
}

function inTurn(state: State, work: () => Promise<void>): Promise<void> {
  const done = state.turn.then(work)
  state.turn = done.catch(() => {}) // told to who asked for it
  return done
}

async function commit(
  { group, partition, id, open }: KafkaProgressParts,
  context: Context,
  state: State,
  offsets: ReadonlyMap<string, number>,
): Promise<void> {
  if (!state.transactions) {
    assertLease(context) // opening it would fence who has the task now
    state.transactions = await open(context)
  }
  const metadata = JSON.stringify({ log: id, epoch: context.epoch } satisfies Committed)
  await state.transactions.run(transaction => transaction.sendOffsets(group, partition, offsets, metadata))
}

/** Nothing is lost when it fails: it was there already. The producer is of no use then, and another is opened when it is needed. */
async function renewNowAndThen(parts: KafkaProgressParts, context: Context, state: State): Promise<void> {
  const { clock, log, task } = context
  const { stop } = state
  while (!stop.signal.aborted && !state.fenced) {
    await clock.sleep(RENEW_MS, stop.signal)
    if (stop.signal.aborted) return
    await inTurn(state, async () => {
      if (state.committed.size > 0) await commit(parts, context, state, state.committed)
    }).catch(async error => {
      if (error instanceof Fenced) state.fenced = error
      log.debug({ task }, `the offsets of ${task} were not renewed: ${(error as Error).message}`)
      const failed = state.transactions
      state.transactions = null
      await failed?.[Symbol.asyncDispose]()
    })
  }
}

async function offsetsOf(
  { admins, catalog, id, group, partition }: KafkaProgressParts,
  { task, epoch }: Context,
): Promise<Map<string, number>> {
  await catalog.refresh()
  const next = new Map<string, number>()
  for (const found of await groupOffsets(admins, group, [...catalog.topics])) {
    if (found.partition !== partition) continue
    const { log, epoch: newest } = found.by
    if (log !== id) throw lostPosition(`the offsets of group ${group} are of log ${log}, this one is ${id}`)
    refuseOlder(task, epoch, newest ?? 0)
    next.set(found.topic, found.next)
  }
  return next
}

export interface GroupOffset {
  readonly topic: string
  readonly partition: number
  readonly next: number
  /** Who committed it, as far as he says so. */
  readonly by: Partial<Committed>
}

export async function groupOffsets(
  admins: Admins,
  group: string,
  topics: readonly string[],
): Promise<readonly GroupOffset[]> {
  if (topics.length === 0) return []
  const found = await admins.use(`the offsets of group ${group}`, admin =>
    admin.fetchOffsets({ groupId: group, topics: [...topics] }),
  )
  return found.flatMap(({ topic, partitions }) =>
    partitions
      .filter(one => Number(one.offset) >= 0)
      .map(({ partition, offset, metadata }) => ({
        topic,
        partition,
        next: Number(offset),
        by: committedBy(metadata),
      })),
  )
}

/** Of offsets that a tool has set: nobody. */
function committedBy(metadata: string | null): Partial<Committed> {
  try {
    return JSON.parse(metadata || '{}') as Partial<Committed>
  } catch {
    return {}
  }
}
