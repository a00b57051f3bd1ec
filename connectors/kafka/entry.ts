/** A record of a topic as a change of a row. */

import { ConnectorError } from '../../core/errors.ts'
import { jsonType, type Member, objectMembers, objectOf, tableShapes } from '../../core/format/json-row.ts'
import { type RegisteredReader, registeredReader } from '../../core/format/registered.ts'
import { registryOf, registrySchema } from '../../core/format/registry.ts'
import type { KafkaMessage } from '../../core/kafka/client.ts'
import type { ChangeRecord, Column } from '../../core/record.ts'
import { quote } from '../../core/row.ts'
import type { KafkaSourceConfig } from './config.ts'

export interface Place {
  readonly topic: string
  readonly partition: number
  readonly nowMs: number
}

export interface MessageReader {
  /** To be called before `record`: what has to be asked for. */
  prepare(messages: readonly KafkaMessage[]): Promise<void>
  /** Throws `config` for what is not of the format: the source halts there. */
  record(message: KafkaMessage, place: Place): ChangeRecord
}

/** A key or a row, with the types of its columns. */
interface Part {
  readonly members: readonly Member[]
  readonly columns: readonly Column[]
}

export function messageReader(config: KafkaSourceConfig): MessageReader {
  const { key: wanted, format, registry } = config
  const tableOf = tableShapes('kafka')
  const client = registry && registryOf(registrySchema.parse(registry))
  const keys = client && registeredReader(client, 'key')
  const values = client && registeredReader(client, 'value')
  const partsOf = PARTS[format](keys, values)
  return {
    async prepare(messages) {
      await keys?.prepare(messages.map(one => one.key))
      await values?.prepare(messages.map(one => one.value))
    },
    record(message, place) {
      const { topic, partition, nowMs } = place
      const { own, row } = named(message, place, () => partsOf(message, place))
      const { columns } = row ?? own
      const found = wanted?.map(
        (name): Member => [name, row?.members.find(one => one[0] === name)?.[1] ?? 'null'],
      )
      // A tombstone of a row whose key is in its value tells only the record's own key.
      const key = found?.every(([, raw]) => raw !== 'null') ? found : own.members
      return {
        op: row === null ? 'd' : 'u',
        table: tableOf(
          topic,
          key.map(([name]) => name),
          columns,
        ),
        key: objectOf(key),
        before: null,
        after: row && objectOf(row.members),
        source: `{"connector":"kafka","schema":"kafka","table":${quote(topic)},"partition":${partition},"offset":${message.offset},"snapshot":false}`,
        commitMs: Number(message.timestamp),
        readMs: Math.floor(nowMs),
        below: null,
      }
    },
  }
}

/** It stops the source: a record that were passed over would be lost. */
function named<T>({ offset }: KafkaMessage, { topic, partition }: Place, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof ConnectorError)) throw error
    throw new ConnectorError('config', `${topic}/${partition} offset ${offset}: ${error.message}`, {
      hint:
        error.hint ??
        'Mend the producer, and read on in another pipeline behind it, or read the topic as text.',
    })
  }
}

type PartsOf = (message: KafkaMessage, place: Place) => { readonly own: Part; readonly row: Part | null }
type Registered = RegisteredReader | undefined

const registered =
  (keys: Registered, values: Registered): PartsOf =>
  (message, place) => {
    const own = (message.key && keys!.row(message.key)) ?? typedBy(keyOf(message, place))
    if (message.value === null) return { own, row: null }
    const row = values!.row(message.value)
    if (row) return { own, row: withKey(own, row) }
    throw new ConnectorError('data', 'the value does not begin with 0 and the id of a schema', {
      hint: 'See `format`: json and text are without a schema registry.',
    })
  }

const PARTS: Readonly<
  Record<KafkaSourceConfig['format'], (keys: Registered, values: Registered) => PartsOf>
> = {
  text: () => (message, place) => {
    const own = typedBy(keyOf(message, place))
    const members = textRow(message, place, own.members)
    const columns = members.map(([name, raw]) => ({ name, type: TEXT_TYPES[name] ?? jsonType(raw) }))
    return { own, row: { members, columns } }
  },
  json: () => (message, place) => {
    const own = typedBy(keyOf(message, place))
    if (message.value === null) return { own, row: null }
    const members = objectMembers(message.value.toString())
    if (members) return { own, row: withKey(own, typedBy(members)) }
    throw new ConnectorError('data', 'the value is no JSON object', {
      hint: 'Mend the producer, and read on in another pipeline behind it, or read the topic as text (`format: text`).',
    })
  },
  avro: registered,
  protobuf: registered,
}

const typedBy = (members: readonly Member[]): Part => ({
  members,
  columns: members.map(([name, raw]) => ({ name, type: jsonType(raw) })),
})

/** What the key has and the row has not stands in front. */
function withKey(own: Part, row: Part): Part {
  const isOwn = (name: string) => !row.columns.some(one => one.name === name)
  if (!own.columns.some(({ name }) => isOwn(name))) return row
  return {
    members: [...own.members.filter(([name]) => isOwn(name)), ...row.members],
    columns: [...own.columns.filter(({ name }) => isOwn(name)), ...row.columns],
  }
}

/** The members of a key that is an object; else the key as text, or the place where there is none. */
function keyOf({ key, offset }: KafkaMessage, { partition }: Place): readonly Member[] {
  if (key === null)
    return [
      ['partition', String(partition)],
      ['offset', offset],
    ]
  const text = key.toString()
  return objectMembers(text) ?? [['key', quote(text)]]
}

const TEXT_TYPES: Readonly<Record<string, string>> = {
  key: 'text',
  value: 'text',
  headers: 'jsonb',
  partition: 'int4',
  offset: 'int8',
}

function textRow(message: KafkaMessage, { partition }: Place, own: readonly Member[]): Member[] {
  const { key, value, headers, offset } = message
  const named = Object.entries(headers ?? {}).map(
    ([name, of]): Member => [name, quote(String(Array.isArray(of) ? of.at(-1) : of))],
  )
  const row: Member[] = [
    ['key', key === null ? 'null' : quote(key.toString())],
    ['value', value === null ? 'null' : quote(value.toString())],
    ['headers', objectOf(named)],
    ['partition', String(partition)],
    ['offset', offset],
  ]
  // The members of a key are the key's columns, and stand in the row as well.
  return [...row, ...own.filter(([name]) => !row.some(one => one[0] === name))]
}
