/** An entry of a stream as a change: its fields, or the members of a JSON object in one of them, are the columns. */
import { ConnectorError } from '../../core/errors.ts'
import { jsonType, objectMembers, objectOf, tableShapes } from '../../core/format/json-row.ts'
import type { ChangeRecord, Column } from '../../core/record.ts'
import { quote } from '../../core/row.ts'

export interface Entry {
  readonly stream: string
  /** <ms>-<sequence> */
  readonly id: string
  /** Names and values in turn. */
  readonly fields: readonly string[]
  readonly group: string
  readonly nowMs: number
}

export interface EntryOptions {
  readonly key?: readonly string[] | undefined
  readonly payload?: string | undefined
}

/** Throws `data` for an entry without the payload or the key that the options ask for. */
export function rowReader({ key, payload }: EntryOptions): (entry: Entry) => ChangeRecord {
  const tableOf = tableShapes('redis')
  return entry => {
    const { stream, id, nowMs } = entry
    const columns: Column[] = [{ name: 'id', type: 'text' }]
    const values = new Map([['id', quote(id)]])
    for (const [name, raw] of payload === undefined ? fieldsOf(entry) : membersOf(entry, payload)) {
      if (name === 'id' && key === undefined) continue // the entry's own
      if (!values.has(name)) columns.push({ name, type: payload === undefined ? 'text' : jsonType(raw) })
      values.set(name, raw)
    }
    const names = key ?? ['id']
    const missing = names.find(name => (values.get(name) ?? 'null') === 'null')
    if (missing !== undefined)
      throw bad(
        entry,
        `has no ${missing}, which is a part of the key`,
        'See `key` and `payload` of the source.',
      )
    const commitMs = Number(id.slice(0, id.indexOf('-')))
    return {
      op: key === undefined ? 'c' : 'u',
      table: tableOf(stream, key ?? ['id'], columns),
      key: objectOf(names.map(name => [name, values.get(name)!])),
      before: null,
      after: objectOf([...values]),
      source: `{"connector":"redis","schema":"redis","table":${quote(stream)},"id":${quote(id)},"snapshot":false}`,
      commitMs,
      readMs: Math.floor(nowMs),
      below: null,
    }
  }
}

const bad = ({ stream, id }: Entry, what: string, hint: string): ConnectorError =>
  new ConnectorError('config', `the entry ${id} of the stream ${stream} ${what}`, { hint })

function* fieldsOf({ fields }: Entry): Generator<[string, string]> {
  for (let i = 0; i < fields.length; i += 2) yield [fields[i]!, quote(fields[i + 1]!)]
}

function membersOf(entry: Entry, payload: string): [string, string][] {
  const at = entry.fields.findIndex((name, i) => i % 2 === 0 && name === payload)
  const text = at < 0 ? null : entry.fields[at + 1]!
  const hint = '`payload` of the source names a field that holds a JSON object in each entry.'
  if (text === null) throw bad(entry, `has no field ${payload}`, hint)
  const members = objectMembers(text)
  if (!members) throw bad(entry, `holds in ${payload} what is no JSON object: ${text.slice(0, 60)}`, hint)
  return members
}
