/**
 * A record's key and value as bytes for a topic outside of the log.
 *
 *   view     change   the log's own value: {op, before, after, source, ts_ms}        row   the row alone; a delete has no value
 *   format   json     text           avro, protobuf   Confluent's wire format: 0, the schema's id as i32, [of Protobuf: 0, the first message], bytes
 *
 * Schemas are made of the table, named by the table, and registered when a shape is met first.
 */
import { z } from 'zod'
import { ConnectorError } from '../errors.ts'
import type { Column, LogRecord, Table } from '../record.ts'
import { encodeValue } from '../row.ts'
import { avroRecord } from './avro-record.ts'
import { type TypedColumn, type TypedValue, typedColumns, valuesOf } from './columns.ts'
import { documentOf, idOf } from './document.ts'
import { AS_TEXT, protobufMessage } from './protobuf.ts'
import { type Registry, type RegistryConfig, registryOf, registrySchema } from './registry.ts'

export const serializeOptions = {
  view: z.enum(['change', 'row']).default('change').meta({
    title: 'View',
    description:
      'change: operation, row before and after, and where it came from. row: the row alone; a delete is a record without a value.',
  }),
  format: z.enum(['json', 'avro', 'protobuf']).default('json').meta({
    title: 'Format',
    description: 'Of keys and values; avro and protobuf need `registry`.',
  }),
  key: z.enum(['json', 'id']).default('json').meta({
    title: 'Key',
    description: 'Of json: the key columns as a JSON object, or the id as text.',
  }),
  numbers: z.enum(['literals', 'strings']).default('strings').meta({
    title: 'Numbers',
    description: '`numeric` columns of a row as JSON: strings as in the log, or numbers with all digits.',
  }),
  registry: registrySchema
    .optional()
    .meta({ title: 'Schema registry', description: 'For avro and protobuf, and needed there.' }),
} as const
const optionsSchema = z.strictObject(serializeOptions)
export type SerializeConfig = z.output<typeof optionsSchema>

export interface Serialized {
  readonly key: string | Buffer
  /** null: a tombstone. */
  readonly value: string | Buffer | null
}

export interface Serializer {
  /** Before the first record of a shape in a topic. */
  prepare(table: Table, topic: string): Promise<void>
  /** Throws `data` for a value that the format cannot hold. */
  serialize(record: LogRecord, topic: string): Serialized
}

export function serializer(config: SerializeConfig): Serializer {
  const { format, view, key, numbers, registry } = config
  if (format === 'json')
    return {
      prepare: async () => {},
      serialize: record => ({
        key: key === 'id' && record.op !== 'sweep' ? idOf(record) : record.key,
        value:
          view === 'change'
            ? encodeValue(record, record.version)
            : rowOf(record) === null
              ? null
              : documentOf(rowOf(record)!, record.table, numbers),
      }),
    }
  if (!registry)
    throw new ConnectorError('config', `format ${format} needs a schema registry`, {
      hint: 'Set registry.url.',
    })
  return registered(config, registry, registryOf(registry))
}

const rowOf = ({ op, after }: LogRecord): string | null => (op === 'd' ? null : after)

const CHANGE: readonly Column[] = [
  ...(['op', 'before', 'after', 'source'] as const).map(name => ({
    name,
    type: name === 'op' ? 'text' : 'json',
  })),
  { name: 'ts_ms', type: 'int8' },
  { name: 'below', type: 'int8' },
]

type Encode = (row: string) => Buffer
interface Shape {
  readonly key: Encode
  readonly value: Encode
}

function registered(config: SerializeConfig, { subject }: RegistryConfig, registry: Registry): Serializer {
  const shapes = new Map<string, WeakMap<Table, Shape>>()
  const subjectOf = (topic: string, name: string, part: 'key' | 'value') =>
    subject === 'topic' ? `${topic}-${part}` : subject === 'record' ? name : `${topic}-${name}`
  const encoder = async (topic: string, name: string, part: 'key' | 'value', columns: readonly Column[]) => {
    const typed = typedColumns(columns, 'string')
    const of = subjectOf(topic, name, part)
    return config.format === 'avro'
      ? avroEncoder(registry, of, name, typed)
      : protobufEncoder(registry, of, name, typed)
  }
  return {
    async prepare(table, topic) {
      const byTable = shapes.get(topic) ?? new WeakMap<Table, Shape>()
      shapes.set(topic, byTable)
      if (byTable.has(table)) return
      const { schema, name, key, columns } = table
      const full = `${schema}_${name}`
      const keyColumns = key.map(
        one => columns.find(column => column.name === one) ?? { name: one, type: 'text' },
      )
      byTable.set(table, {
        key: await encoder(topic, `${full}_key`, 'key', keyColumns),
        value: await encoder(
          topic,
          config.view === 'change' ? `${full}_change` : full,
          'value',
          config.view === 'change' ? CHANGE : columns,
        ),
      })
    },
    serialize(record, topic) {
      const shape = shapes.get(topic)!.get(record.table)!
      const key = record.op === 'sweep' ? Buffer.from(record.key) : shape.key(record.key)
      const row = config.view === 'change' ? encodeValue(record, record.version) : rowOf(record)
      return { key, value: row === null ? null : shape.value(row) }
    },
  }
}

function headOf(id: number, more: readonly number[] = []): Buffer {
  const head = Buffer.alloc(5 + more.length)
  head.writeInt32BE(id, 1)
  for (const [i, byte] of more.entries()) head[5 + i] = byte
  return head
}

async function avroEncoder(
  registry: Registry,
  subject: string,
  name: string,
  columns: readonly TypedColumn[],
): Promise<Encode> {
  const record = avroRecord(name, columns)
  const head = headOf(await registry.register(subject, record.schema, 'AVRO'))
  return row => record.encode(valuesOf(row, columns), head)
}

/** Texts where Protobuf has no type: the columns' own reading of them, left out. */
async function protobufEncoder(
  registry: Registry,
  subject: string,
  name: string,
  typed: readonly TypedColumn[],
): Promise<Encode> {
  const columns = typed.map(
    (column): TypedColumn =>
      AS_TEXT.has(column.kind) && column.kind !== 'json' ? { ...column, kind: 'string', of: textOf } : column,
  )
  const before = await registry.latest(subject)
  const message = protobufMessage(name, columns, before?.type === 'PROTOBUF' ? before.schema : null)
  const head = headOf(await registry.register(subject, message.schema, 'PROTOBUF'), [0])
  return row => message.encode(valuesOf(row, columns), head)
}

const textOf = (raw: string): TypedValue => (raw.startsWith('"') ? (JSON.parse(raw) as string) : raw)
