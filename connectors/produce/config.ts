/** Options of the source: which topics there are for people to write, and what a row of each is. */
import { z } from 'zod'
import { TEXT_TYPES } from '../../core/format/typed-text.ts'

const topic = z
  .strictObject({
    table: z
      .string()
      .regex(/^[^.\s]+\.\S+$/, 'must be schema.table')
      .meta({
        title: 'Table',
        description:
          'As schema.table, by which transforms and sinks know the rows. The topic is `<pipeline>.<schema>.<table>`.',
      }),
    key: z.array(z.string().min(1)).default([]).meta({
      title: 'Key',
      description:
        'Columns that tell rows apart: of rows of one key the last counts, and a delete names its key. Needed for sinks that keep rows by key. Without one rows are only ever added.',
    }),
    format: z.enum(['json', 'avro', 'protobuf']).default('json').meta({
      title: 'Format',
      description:
        'json: any JSON objects. avro, protobuf: what `schema_file` declares, as JSON or in the bytes of the format; what does not fit is refused.',
    }),
    schema_file: z.string().min(1).optional().meta({
      title: 'Schema',
      description:
        'For avro a .avsc whose type is a record, for protobuf a .proto. The path is from the current directory.',
    }),
    message: z.string().min(1).optional().meta({
      title: 'Message',
      description: 'For protobuf: the message of `schema_file` that is a row.',
    }),
    columns: z.record(z.string().min(1), z.enum(TEXT_TYPES)).default({}).meta({
      title: 'Columns',
      description: 'For json: types of columns, by name. What is not named is typed by its values.',
    }),
  })
  .superRefine(({ format, schema_file, message, columns, key }, context) => {
    const issue = (path: string, what: string) =>
      context.addIssue({ code: 'custom', path: [path], message: what })
    if (format === 'json' && schema_file !== undefined) issue('schema_file', 'is for avro and protobuf only')
    if (format !== 'json' && schema_file === undefined) issue('schema_file', `is needed for format ${format}`)
    if (format === 'protobuf' && message === undefined) issue('message', 'is needed for format protobuf')
    if (format !== 'protobuf' && message !== undefined) issue('message', 'is for format protobuf only')
    if (format !== 'json' && Object.keys(columns).length > 0)
      issue('columns', 'is for format json only: the schema says it')
    if (new Set(key).size < key.length) issue('key', 'names a column twice')
  })

export const config = z
  .strictObject({
    topics: z.array(topic).min(1).meta({
      title: 'Topics',
      description: 'That may be written, each a table.',
    }),
  })
  .superRefine(({ topics }, context) => {
    for (const [i, { table }] of topics.entries())
      if (topics.findIndex(one => one.table === table) < i)
        context.addIssue({
          code: 'custom',
          path: ['topics', i, 'table'],
          message: `"${table}" stands here twice`,
        })
  })
export type ProduceConfig = z.output<typeof config>
export type TopicConfig = ProduceConfig['topics'][number]
