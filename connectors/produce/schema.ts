/** The schema that a topic declares: its file, read and found fit for the topic's key. */
import { readFileSync } from 'node:fs'
import { ConnectorError } from '../../core/errors.ts'
import { avroRows } from '../../core/format/avro-rows.ts'
import type { DeclaredRows } from '../../core/format/declared.ts'
import { protobufRows } from '../../core/format/protobuf-rows.ts'
import type { Column } from '../../core/record.ts'
import type { TopicConfig } from './config.ts'

export function tableNameOf({ table }: TopicConfig): { readonly schema: string; readonly name: string } {
  const dot = table.indexOf('.')
  return { schema: table.slice(0, dot), name: table.slice(dot + 1) }
}

export const columnsOf = (rows: DeclaredRows | null): readonly Column[] =>
  (rows?.columns ?? []).map(({ name, type }) => ({ name, type }))

/** Throws `config` for a file that cannot be read, that declares no rows, or none with this key. null: none is declared. */
export function declaredRows({
  format,
  schema_file: file,
  message,
  table,
  key,
}: TopicConfig): DeclaredRows | null {
  if (format === 'json' || file === undefined) return null
  let rows: DeclaredRows
  try {
    const text = readFileSync(file, 'utf8')
    rows = format === 'avro' ? avroRows(text) : protobufRows(text, message!)
  } catch (error) {
    throw new ConnectorError('config', `${table}: schema_file ${file}: ${(error as Error).message}`, {
      cause: error,
      hint:
        (error as ConnectorError).hint ??
        'The path is from the current directory. For avro it is a .avsc, for protobuf a .proto.',
    })
  }
  const missing = key.find(name => !rows.columns.some(column => column.name === name))
  if (missing === undefined) return rows
  throw new ConnectorError('config', `${table}: the key column ${missing} is not in ${file}`, {
    hint: `It has ${rows.columns.map(({ name }) => name).join(', ')}.`,
  })
}
