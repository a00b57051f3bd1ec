/** A record of a topic as a change of a row. */

import { jsonType, type Member, objectMembers, objectOf, tableShapes } from '../../core/format/json-row.ts'
import type { KafkaMessage } from '../../core/kafka/client.ts'
import type { ChangeRecord, Column } from '../../core/record.ts'
import { quote } from '../../core/row.ts'
import type { KafkaSourceConfig } from './config.ts'

export interface Place {
  readonly topic: string
  readonly partition: number
  readonly nowMs: number
}

export function messageReader({
  format,
  key: wanted,
}: KafkaSourceConfig): (message: KafkaMessage, place: Place) => ChangeRecord {
  const tableOf = tableShapes('kafka')
  return (message, place) => {
    const { topic, partition, nowMs } = place
    const value = message.value?.toString() ?? null
    const own = keyOf(message, place)
    let row: readonly Member[] | null
    let columns: readonly Column[]
    if (format === 'text') {
      row = textRow(message, place, own)
      columns = row.map(([name, raw]) => ({ name, type: TEXT_TYPES[name] ?? jsonType(raw) }))
    } else {
      const members = value === null ? null : objectMembers(value)
      row = members && [...own.filter(([name]) => !members.some(one => one[0] === name)), ...members]
      columns = (row ?? own).map(([name, raw]) => ({ name, type: jsonType(raw) }))
    }
    const found = wanted?.map((name): Member => [name, row?.find(one => one[0] === name)?.[1] ?? 'null'])
    // A tombstone of a row whose key is in its value tells only the record's own key.
    const key = found?.every(([, raw]) => raw !== 'null') ? found : own
    return {
      op: row === null ? 'd' : 'u',
      table: tableOf(
        topic,
        key.map(([name]) => name),
        columns,
      ),
      key: objectOf(key),
      before: null,
      after: row && objectOf(row),
      source: `{"connector":"kafka","schema":"kafka","table":${quote(topic)},"partition":${partition},"offset":${message.offset},"snapshot":false}`,
      commitMs: Number(message.timestamp),
      readMs: Math.floor(nowMs),
      below: null,
    }
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
