/** Rows that people bring to a topic: which topics there are, and a request's body as records for the topic's one writer. */
import type { Clock, Source, WrittenTopic } from '../connector.ts'
import { ConnectorError } from '../errors.ts'
import { topicOf } from '../log/log.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import type { ChangeRecord } from '../record.ts'
import type { Logs, PipelineLogs } from './logs.ts'
import { BadRecord, openProducer, type Producer, type ProducerParts } from './producer.ts'

export interface ProduceRequest {
  readonly body: Buffer
  /** Media type, without parameters. */
  readonly type: string
  /** Of whoever may send it again: it is written once. */
  readonly key: string | null
}

const known = new WeakMap<ParsedPipeline, ReadonlyMap<string, WrittenTopic>>()

/** By name; empty where rows come from a source. */
export function writtenTopics(definition: ParsedPipeline): ReadonlyMap<string, WrittenTopic> {
  const { name, source } = definition
  const found = known.get(definition)
  if (found) return found
  const topics = (source.connector as Source).topics?.(source.config as never) ?? []
  const byName = new Map(topics.map(topic => [topicOf(name, topic.table), topic]))
  known.set(definition, byName)
  return byName
}

/** It is nobody's, or no one's to write. */
export class UnknownTopic extends ConnectorError {
  constructor(topic: string, topics: readonly string[]) {
    super(
      'config',
      `there is no topic "${topic}" to write${topics.length === 0 ? '' : `; there is ${topics.join(', ')}`}`,
      {
        hint: 'Topics are written in pipelines whose source is of type produce: <pipeline>.<schema>.<table>.',
      },
    )
  }
}

/** The format of the body is none that the topic takes. */
export class UnknownType extends ConnectorError {}

export interface Target {
  readonly definition: ParsedPipeline
  readonly topic: WrittenTopic
}

export function targetOf(definitions: readonly ParsedPipeline[], topic: string): Target {
  for (const definition of definitions) {
    const found = writtenTopics(definition).get(topic)
    if (found) return { definition, topic: found }
  }
  throw new UnknownTopic(
    topic,
    definitions.flatMap(definition => [...writtenTopics(definition).keys()]),
  )
}

/** `null`: the pipeline has not started. Answers with how many records are durable now. */
export async function produceInto(
  { definition, topic }: Target,
  producer: Producer | null,
  { body, type, key }: ProduceRequest,
  clock: Clock,
): Promise<number> {
  if (!topic.takes.includes(type))
    throw new UnknownType('data', `rows do not come as ${type || 'nothing that is named'}`, {
      hint: `Set content-type: ${topic.takes.join(', ')}.`,
    })
  if (!producer)
    throw new ConnectorError('unavailable', `${definition.name} has not started`, {
      hint: 'See what keeps it: millrace status.',
    })
  const records = await recordsOf(topic, body, type, clock)
  if (records.length > 0) await producer.write(records, body.length, key)
  return records.length
}

const TURN_RECORDS = 2_000

/** A large body is taken apart bit by bit: tasks of this process must not wait for all of it. */
async function recordsOf(
  topic: WrittenTopic,
  body: Buffer,
  type: string,
  clock: Clock,
): Promise<readonly ChangeRecord[]> {
  const records: ChangeRecord[] = []
  try {
    for (const record of topic.records(body, type, clock.nowUs() / 1000)) {
      records.push(record)
      if (records.length % TURN_RECORDS === 0) await new Promise<void>(resolve => setImmediate(resolve))
    }
  } catch (error) {
    if (error instanceof ConnectorError && error.kind === 'data') throw new BadRecord(records.length, error)
    throw error
  }
  return records
}

/** On logs of its own, opened at the first request: where the pipeline's tasks run elsewhere, or nowhere. */
export function ownProducer(
  parts: Omit<ProducerParts, 'logs' | 'failed'> & { readonly logs: Logs },
): Producer {
  let opening: Promise<PipelineLogs> | null = null
  const close = async () => {
    const before = opening
    opening = null
    await (await before?.catch(() => null))?.[Symbol.asyncDispose]()
  }
  const logs = () => {
    opening ??= parts.logs.open(parts.definition)
    return opening
  }
  const producer = openProducer({ ...parts, logs, failed: close })
  return {
    ...producer,
    async [Symbol.asyncDispose]() {
      await producer[Symbol.asyncDispose]()
      await close()
    },
  }
}
