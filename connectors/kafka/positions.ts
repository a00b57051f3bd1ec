/**
 * Where tasks stand, in a compacted topic of the cluster that they write to: one partition, key = task, value = {"epoch":3,"position":…}.
 * A task's entry goes in the transaction of its records.
 */
import type { Clock, Context } from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'
import type { Admins } from '../../core/kafka/admins.ts'
import type { Kafka } from '../../core/kafka/client.ts'
import { type BatchCodec, batchOf, type RecordBatch } from '../../core/kafka/record-batch.ts'
import type { ClusterSettings } from '../../core/kafka/settings.ts'
import { openTail } from '../../core/kafka/tail.ts'
import { endsOfTopics, topicConfigs } from '../../core/kafka/topics.ts'
import type { Json } from '../../core/record.ts'

export interface Standing {
  readonly epoch: number
  readonly position: Json
}

export interface PositionParts {
  readonly kafka: Kafka
  readonly admins: Admins
  readonly settings: ClusterSettings
  readonly clock: Clock
  readonly topic: string
}

/** Of one task; null: it never wrote. Read behind the fence: what the owner before wrote is there, or will never be. */
export async function standingOf(parts: PositionParts, task: string): Promise<Standing | null> {
  const { kafka, admins, settings, clock, topic } = parts
  const [ends] = await endsOfTopics(admins, [topic])
  if (!ends || ends.end <= ends.start) return null
  await using tail = await openTail({
    kafka,
    settings,
    clock,
    partition: 0,
    from: new Map([[topic, ends.start]]),
  })
  const never = new AbortController().signal
  let found: Standing | null = null
  for (let next = ends.start; next < ends.end; ) {
    const fetched = await tail.take(never)
    if (!fetched) break
    next = fetched.next
    for (const { key, value } of fetched.messages)
      if (key?.toString() === task) found = value ? (JSON.parse(value.toString()) as Standing) : null
  }
  return found
}

/** Throws `config` where it would let go of positions: a task without one begins anew, and writes all of its log twice. */
export async function refuseForgetful(admins: Admins, topic: string): Promise<void> {
  const policy = (await topicConfigs(admins, [topic])).get(topic)?.of('cleanup.policy') ?? 'compact'
  if (policy === 'compact') return
  throw new ConnectorError(
    'config',
    `Kafka: the topic ${topic} of positions is not kept: its cleanup.policy is ${policy}`,
    {
      hint: `kafka-configs.sh --alter --topic ${topic} --add-config cleanup.policy=compact; or name another as \`position_topic\`.`,
    },
  )
}

/** null forgets. */
export const standingBatch = (
  topic: string,
  codec: BatchCodec,
  task: string,
  standing: Standing | null,
  nowMs: number,
): RecordBatch =>
  batchOf(topic, 0, codec, [
    { key: task, value: standing && JSON.stringify(standing), timestampMs: Math.floor(nowMs) },
  ])

export function refuseOlder({ task, epoch }: Context, standing: Standing | null): void {
  if (standing && standing.epoch >= epoch)
    throw new Fenced(`${task} has a newer owner, epoch ${standing.epoch}`, standing.epoch)
}
