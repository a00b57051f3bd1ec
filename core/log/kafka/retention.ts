/**
 * Brokers delete by time and size, whatever a sink has read. So a topic's retention is raised while a live sink has used half of it, and set
 * back when all are well within what was declared (K5). Where sinks stand is told by the offsets of their groups (K3); one that told
 * nothing yet stands at the log's start. One whose position is not of this log, or has gone already, can never go on, and is not waited for.
 *
 *   look   [nothing to do: the end]  ─▶ fence whoever does the same ─▶ look again ─▶ note what was declared ─▶ alter
 *
 * What was declared stands in the catalog before anything is altered, so that another process sets it back. A setting that is not as we left
 * it was changed by somebody else, and is what is declared now. A broker may tell of a setting as it was a moment ago: so the note stays for a
 * minute, and a raised value is never taken for one that was declared. The client can only replace all of a topic's own settings: all are sent.
 */
import type { Clock, Log } from '../../connector.ts'
import { ConnectorError, Fenced } from '../../errors.ts'
import type { Admins } from '../../kafka/admins.ts'
import type { Kafka } from '../../kafka/client.ts'
import { type BatchCodec, batchOf } from '../../kafka/record-batch.ts'
import { openTail } from '../../kafka/tail.ts'
import { alterTopics, endsOfTopics, firstSince, type TopicConfig, topicConfigs } from '../../kafka/topics.ts'
import type { Transactions } from '../../kafka/transactions.ts'
import type { Retention, TopicEnds } from '../log.ts'
import type { Catalog, Raised } from './catalog.ts'
import { groupOffsets } from './progress.ts'
import { groupOf, type KafkaSettings } from './settings.ts'

export interface KafkaRetentionParts {
  readonly kafka: Kafka
  readonly admins: Admins
  readonly settings: KafkaSettings
  readonly clock: Clock
  readonly log: Log
  readonly catalog: Catalog
  readonly codec: BatchCodec
  /** Of the log. */
  readonly id: string
  /** The pipeline's name. */
  readonly name: string
  readonly retention: Retention
  /** Fences who opened it before. */
  open(): Promise<Transactions>
}

const SETTINGS = ['retention.ms', 'retention.bytes'] as const
type Setting = (typeof SETTINGS)[number]

/** First records of a topic that a sink's task has not read. */
interface Unread {
  readonly consumer: string
  readonly partition: number
  readonly next: number
  readonly end: number
}

interface Change {
  readonly topic: string
  readonly setting: Setting
  readonly from: number
  readonly to: number
  /** As it is written; null: the topic's own is taken away. */
  readonly own: string | null
  /** For whom it is raised; null: it is set back. */
  readonly consumer: string | null
  /** What the catalog is to remember; null: nothing. */
  readonly note: Raised | null
}

interface State extends KafkaRetentionParts {
  /** Topic → bytes of a record, and when that was found out. */
  readonly averages: Map<string, { readonly bytes: number; readonly atMs: number }>
  /** On the monotonic clock: so long it is not tried again. */
  refusedUntilMs: number
  hasWarned: boolean
}

/** A part of what is declared: while all unread records are within it, what was raised is set back. */
const BACK_AT = 1 / 4
const AVERAGE_MS = 3_600_000
const SAMPLE_MS = 15_000
const REFUSED_MS = 3_600_000
/** Far longer than a broker takes to hear of a setting from the controller. */
const HEARD_MS = 60_000
/** Around each record in a batch, as the writer reckons. */
const RECORD_OVERHEAD = 80

export function kafkaRetention(parts: KafkaRetentionParts): () => Promise<void> {
  const state: State = { ...parts, averages: new Map(), refusedUntilMs: 0, hasWarned: false }
  return () => retain(state)
}

async function retain(state: State): Promise<void> {
  const { clock, log, name } = state
  if (state.refusedUntilMs > clock.monotonicMs()) return
  try {
    if ((await look(state)).changes.length > 0) await change(state)
  } catch (error) {
    if (error instanceof Fenced) log.debug({ pipeline: name }, `another hub keeps the retention of ${name}`)
    else if (error instanceof ConnectorError && error.kind === 'auth') refused(state, error)
    else throw error
  }
}

/** Without the right nothing is worse than before: said once, and tried again now and then. */
function refused(state: State, { message }: ConnectorError): void {
  const { log, clock, settings, name } = state
  state.refusedUntilMs = clock.monotonicMs() + REFUSED_MS
  const { brokers, sasl, topicPrefix } = settings
  const user = sasl ? sasl.username : 'NAME'
  const hint = `kafka-acls --bootstrap-server ${brokers[0]} --add --allow-principal User:${user} --operation AlterConfigs --operation DescribeConfigs --topic ${topicPrefix}${name}. --resource-pattern-type prefixed`
  const text = `the retention of the topics of ${name} cannot follow its sinks, and brokers may delete what these have not read: ${message}`
  if (state.hasWarned) log.debug({ pipeline: name, hint }, text)
  else log.warn({ pipeline: name, hint }, text)
  state.hasWarned = true
}

async function change(state: State): Promise<void> {
  const { catalog, admins, log, name } = state
  await using transactions = await state.open()
  await catalog.refresh() // behind the fence: what another hub has noted is there
  const { changes, configs } = await look(state)
  await noteAll(
    state,
    transactions,
    changes.filter(one => one.note !== null),
  )
  for (const topic of new Set(changes.filter(one => one.from !== one.to).map(one => one.topic))) {
    const own = new Map(configs.get(topic)!.own)
    for (const { setting, own: value } of changes.filter(one => one.topic === topic))
      if (value === null) own.delete(setting)
      else own.set(setting, value)
    await alterTopics(admins, topic, own)
  }
  await noteAll(
    state,
    transactions,
    changes.filter(one => one.note === null),
  )
  for (const { topic, setting, from, to, consumer } of changes) {
    const fields = { pipeline: name, topic, setting, from, to }
    if (consumer !== null)
      log.warn(
        { ...fields, sink: consumer },
        `${setting} of ${topic} is raised from ${from} to ${to}: ${consumer} has not read what came before half of it`,
      )
    else if (from !== to) log.info(fields, `${setting} of ${topic} is set back from ${from} to ${to}`)
  }
}

async function noteAll(
  { catalog, clock, codec }: State,
  transactions: Transactions,
  changes: readonly Change[],
): Promise<void> {
  if (changes.length === 0) return
  const byTopic = new Map<string, { [setting: string]: Raised }>()
  for (const { topic, setting, note } of changes) {
    const noted = byTopic.get(topic) ?? { ...catalog.raised.get(topic) }
    byTopic.set(topic, noted)
    if (note) noted[setting] = note
    else delete noted[setting]
  }
  const timestampMs = Math.floor(clock.nowUs() / 1000)
  const records = [...byTopic].map(([topic, noted]) => ({
    key: `retention:${topic}`,
    value: JSON.stringify(noted),
    timestampMs,
  }))
  const batch = batchOf(catalog.topic, 0, codec, records)
  await transactions.run(async transaction => void (await transaction.send([batch])))
  await catalog.refresh()
}

async function look(state: State): Promise<{
  readonly changes: readonly Change[]
  readonly configs: ReadonlyMap<string, TopicConfig>
}> {
  const { catalog, admins, retention } = state
  // One that was deleted halts its sinks; it must not keep the others from being looked at.
  const ends = retention.consumers.length > 0 ? await endsOfTopics(admins, [...catalog.topics]) : []
  const configs = await topicConfigs(admins, [...new Set(ends.map(one => one.topic))])
  const unread = configs.size > 0 ? await unreadOf(state, ends) : new Map<string, readonly Unread[]>()
  const changes: Change[] = []
  for (const [topic, config] of configs) {
    if (!config.of('cleanup.policy')?.includes('delete')) continue
    for (const setting of SETTINGS) {
      const value = Number(config.of(setting) ?? -1)
      const found = await changeOf(state, topic, setting, value, config, unread.get(topic) ?? [])
      if (found) changes.push(found)
    }
  }
  return { changes, configs }
}

async function changeOf(
  state: State,
  topic: string,
  setting: Setting,
  value: number,
  config: TopicConfig,
  unread: readonly Unread[],
): Promise<Change | null> {
  const noted = state.catalog.raised.get(topic)?.[setting]
  const raised = noted?.raised === value ? noted : null
  const holderOf = setting === 'retention.ms' ? olderThan : largerThan
  const [declared, own] = raised ? [raised.declared, raised.own] : [value, config.own.get(setting) ?? null]
  let to = value
  let consumer: string | null = null
  // -1: it has none.
  while (to > 0 && to < Number.MAX_SAFE_INTEGER) {
    const holder = await holderOf(state, topic, unread, to / 2)
    if (!holder) break
    consumer ??= holder
    to = Math.min(to * 2, Number.MAX_SAFE_INTEGER)
  }
  const shared = { topic, setting, from: value }
  const atMs = Math.floor(state.clock.nowUs() / 1000)
  if (consumer) return { ...shared, to, consumer, own: String(to), note: { own, declared, raised: to, atMs } }
  if (raised && (await holderOf(state, topic, unread, declared * BACK_AT))) return null
  if (raised) return { ...shared, to: declared, consumer: null, own, note: { ...raised, atMs } }
  const isHeard = noted && Math.abs(atMs - (noted.atMs ?? 0)) > HEARD_MS
  return isHeard ? { ...shared, to: value, consumer: null, own, note: null } : null
}

/** Whose first unread record was written before so many milliseconds. */
async function olderThan(
  { admins, clock }: State,
  topic: string,
  unread: readonly Unread[],
  ms: number,
): Promise<string | null> {
  const since = Math.floor(clock.nowUs() / 1000 - ms)
  if (unread.length === 0 || since <= 0) return null
  const first = await firstSince(admins, topic, since)
  return unread.find(one => one.next < (first.get(one.partition) ?? 0))?.consumer ?? null
}

/** Who has not read more than so many bytes of a partition; as they are before they are packed. */
async function largerThan(
  state: State,
  topic: string,
  unread: readonly Unread[],
  bytes: number,
): Promise<string | null> {
  for (const one of unread)
    if ((one.end - one.next) * (await averageOf(state, topic, one)) > bytes) return one.consumer
  return null
}

/** The client cannot ask for sizes: some records are read. */
async function averageOf(state: State, topic: string, { partition, next }: Unread): Promise<number> {
  const { kafka, settings, clock, averages } = state
  const known = averages.get(topic)
  if (known && clock.monotonicMs() - known.atMs < AVERAGE_MS) return known.bytes
  await using tail = await openTail({ kafka, settings, clock, partition, from: new Map([[topic, next]]) })
  const enough = new AbortController()
  void clock.sleep(SAMPLE_MS, enough.signal).then(() => enough.abort())
  let fetched = await tail.take(enough.signal)
  while (fetched?.messages.length === 0) fetched = await tail.take(enough.signal) // markers of transactions
  enough.abort()
  if (!fetched) return 0
  const bytes = fetched.bytes / fetched.messages.length + RECORD_OVERHEAD
  averages.set(topic, { bytes, atMs: clock.monotonicMs() })
  return bytes
}

/** By topic. */
async function unreadOf(
  state: State,
  ends: readonly TopicEnds[],
): Promise<ReadonlyMap<string, readonly Unread[]>> {
  const unread = new Map<string, Unread[]>()
  for (const [consumer, next] of await positionsOf(state)) {
    const partition = Number(consumer.split('/')[2])
    const own = ends.filter(one => one.partition === partition)
    if (own.some(({ topic, start }) => (next.get(topic) ?? start) < start)) continue
    for (const { topic, start, end } of own) {
      const at = next.get(topic) ?? start
      if (at >= end) continue
      const list = unread.get(topic) ?? []
      unread.set(topic, list)
      list.push({ consumer, partition, next: at, end })
    }
  }
  return unread
}

/** Of each live task of a sink the next offset by topic. */
async function positionsOf(state: State): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>> {
  const { admins, settings, catalog, id, name, retention } = state
  const live = retention.consumers.filter(consumer => !retention.isDetached(consumer))
  const positions = new Map(live.map(consumer => [consumer, new Map<string, number>()]))
  for (const sink of new Set(live.map(consumer => consumer.split('/')[1]!)))
    for (const found of await groupOffsets(admins, groupOf(settings, name, sink), [...catalog.topics])) {
      const consumer = `${name}/${sink}/${found.partition}`
      if (found.by.log === id) positions.get(consumer)?.set(found.topic, found.next)
      else positions.delete(consumer)
    }
  return positions
}
