/** The options that all object sources have, beside those of their store. */
import { z } from 'zod'
import { READ_FORMATS } from '../../core/format/reading.ts'
import { TEXT_TYPES } from '../../core/format/typed-text.ts'

export const ORDERS = ['name', 'modified'] as const

export const sourceShared = {
  pattern: z.string().min(1).optional().meta({
    title: 'Pattern',
    description:
      'Names that are read: `*` any characters but /, `**` any, `?` one; without a / it is for the last part of the name. Default: what ends in .jsonl, .ndjson, .csv (also with .gz or .zst behind) or .parquet. A name with a part that begins with . or _, or that ends in .tmp or .part, is never read.',
  }),
  format: z.enum(READ_FORMATS).optional().meta({
    title: 'Format',
    description: 'Default: by the ending of each name. Text whose name ends in .gz or .zst is decompressed.',
  }),
  table: z.string().min(1).optional().meta({
    title: 'Table',
    description:
      'Whose rows these are. Default: the first folder of the name, so that each is a table; for objects in no folder the name of what holds them.',
  }),
  key: z.array(z.string().min(1)).min(1).optional().meta({
    title: 'Key',
    description:
      'Columns that make the key of a row, which later rows then overwrite. Default: `_object` and `_line`, which each row then has: name of the object and line (of parquet: number of the row).',
  }),
  columns: z.record(z.string().min(1), z.enum(TEXT_TYPES)).default({}).meta({
    title: 'Columns',
    description:
      'Types by name of the column, as `price: numeric`. Default: csv text; jsonl by the values, int8, float8, bool, text and jsonb; parquet as its schema says.',
  }),
  order: z.enum(ORDERS).default('name').meta({
    title: 'Order',
    description:
      'What is read first, and what counts as new. name: names must rise within their folder; one that comes behind a greater one is not read, and warned of, and an object that is written anew is read once only. modified: by the time of the store; any name may come, and an object that is written anew is read again.',
  }),
  late_ms: z.int().min(0).default(3_600_000).meta({
    title: 'Late',
    description:
      'With `order: modified`: how much older than the newest read an object may be when it comes, as one sent in parts to S3 is as old as the beginning of that. Kept for the last 10,000 objects.',
  }),
  follow_ms: z.int().min(10).default(5_000).meta({
    title: 'Follow',
    description: 'How often all names are listed again.',
  }),
  settle_ms: z.int().min(0).default(2_000).meta({
    title: 'Settle',
    description: 'A younger object waits, as it may still be written.',
  }),
  on_changed: z.enum(['halt', 'again']).default('halt').meta({
    title: 'On changed',
    description:
      'When an object was written anew, or is gone, of which rows were read and others not. halt: until somebody looks. again: it is read from its beginning, or left.',
  }),
  delimiter: z.string().length(1).default(',').meta({
    title: 'Delimiter',
    description: 'Of csv.',
  }),
  header: z.boolean().default(true).meta({
    title: 'Header',
    description:
      'Whether the first line of csv names the columns. Else they are called as in `columns`, in that order, or column1, column2.',
  }),
  batch_rows: z.int().min(1).max(100_000).default(5_000).meta({
    title: 'Batch',
    description: 'Rows of a batch at most.',
  }),
} as const

const schema = z.strictObject(sourceShared)
export type ObjectSourceConfig = z.output<typeof schema>
