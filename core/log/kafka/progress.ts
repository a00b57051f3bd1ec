/**
 * Progress of a sink task on Kafka (K3): the offsets of the sink's own group, common to its tasks, each moving its partition. Memberless,
 * committed in a transaction of the task's transactional.id, and so fenced: opening it ends whoever had the task before. What lag
 * tools look at is the truth itself.
 *
 *   group     <hub>.<pipeline>.<sink>
 *   metadata  {"log":"…","epoch":3}        of the log the offsets are of, and of the owner who committed them
 */
import type { Context, Offset } from '../../connector.ts'
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

export function kafkaProgress(parts: KafkaProgressParts, context: Context): Progress {
  const { group, partition, id, open } = parts
  let transactions: Transactions | null = null
  let committed = new Map<string, number>()
  return {
    async load() {
      transactions = await open(context)
      committed = await offsetsOf(parts, context)
      if (committed.size === 0) return null
      return { log: id, next: Object.fromEntries(committed) } as unknown as Offset
    },
    async save(offset) {
      const next = new Map(Object.entries((offset as unknown as LogOffset).next))
      const moved = new Map([...next].filter(([topic, at]) => committed.get(topic) !== at))
      if (moved.size === 0) return
      const metadata = JSON.stringify({ log: id, epoch: context.epoch } satisfies Committed)
      await transactions!.run(transaction => transaction.sendOffsets(group, partition, moved, metadata))
      committed = next
    },
    async [Symbol.asyncDispose]() {
      await transactions?.[Symbol.asyncDispose]()
    },
  }
}

async function offsetsOf(
  { admins, catalog, id, group, partition }: KafkaProgressParts,
  { task, epoch }: Context,
): Promise<Map<string, number>> {
  await catalog.refresh()
  const next = new Map<string, number>()
  if (catalog.topics.size === 0) return next
  const offsets = await admins.use(`the offsets of group ${group}`, admin =>
    admin.fetchOffsets({ groupId: group, topics: [...catalog.topics] }),
  )
  for (const { topic, partitions } of offsets) {
    const found = partitions.find(one => one.partition === partition)
    if (!found || Number(found.offset) < 0) continue
    const { log, epoch: newest } = JSON.parse(found.metadata ?? '{}') as Partial<Committed>
    if (log !== id) throw lostPosition(`the offsets of group ${group} are of log ${log}, this one is ${id}`)
    refuseOlder(task, epoch, newest ?? 0)
    next.set(topic, Number(found.offset))
  }
  return next
}
