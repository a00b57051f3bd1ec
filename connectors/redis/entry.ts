/** An entry of a stream as a change: its fields, or the members of a JSON object in one of them, are the columns. */
import { ConnectorError } from '../../core/errors.ts'
import type { ChangeRecord, Column, Table } from '../../core/record.ts'
import { plain, quote, splitRow } from '../../core/row.ts'

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
  const tables = new Map<string, Table>()
  const tableOf = (stream: string, columns: readonly Column[]): Table => {
    const shape = `${stream}\n${columns.map(({ name, type }) => `${name} ${type}`).join('\n')}`
    const known = tables.get(shape)
    if (known) return known
    const table: Table = { schema: 'redis', name: stream, key: key ?? ['id'], columns }
    tables.set(shape, table)
    return table
  }
  return entry => {
    const { stream, id, nowMs } = entry
    const columns: Column[] = [{ name: 'id', type: 'text' }]
    const values = new Map([['id', quote(id)]])
    for (const [name, raw] of payload === undefined ? fieldsOf(entry) : membersOf(entry, payload)) {
      if (name === 'id' && key === undefined) continue // the entry's own
      if (!values.has(name)) columns.push({ name, type: payload === undefined ? 'text' : typeOf(raw) })
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
      table: tableOf(stream, columns),
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

const objectOf = (members: readonly (readonly [string, string])[]): string =>
  `{${members.map(([name, raw]) => `${quote(name)}:${raw}`).join(',')}}`

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
  let compact: string
  try {
    const value = JSON.parse(text) as unknown
    if (value === null || typeof value !== 'object' || Array.isArray(value))
      throw new SyntaxError('no object')
    compact = compactOf(text)
  } catch (error) {
    throw bad(
      entry,
      `holds in ${payload} what is no JSON object: ${text.slice(0, 60)} (${(error as Error).message})`,
      hint,
    )
  }
  const { names, values } = splitRow(compact)
  return names.map((name, i) => [name, values[i]!])
}

/** Without the spaces between members, each digit as it stood: rows are JSON text. */
function compactOf(text: string): string {
  let compact = ''
  for (let at = 0; at < text.length; ) {
    const c = text[at]!
    if (c === '"') {
      let end = at + 1
      while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1
      compact += text.slice(at, end + 1)
      at = end + 1
    } else {
      if (!/\s/.test(c)) compact += c
      at++
    }
  }
  return compact
}

const typeOf = (raw: string): string => {
  if (raw === 'null') return 'text'
  if (raw.startsWith('"')) return 'text'
  if (raw === 'true' || raw === 'false') return 'bool'
  if (raw.startsWith('{') || raw.startsWith('[')) return 'jsonb'
  return /^-?\d{1,15}$/.test(plain(raw)) ? 'int8' : 'float8'
}
