/** The options that all object sinks have, beside those of their store. */
import { z } from 'zod'
import { FILE_COMPRESSIONS, type FileOptions, FORMATS } from '../../core/format/file.ts'
import { placesOf } from '../../core/format/template.ts'

export const METADATA = ['op', 'version', 'committed_at', 'topic', 'partition', 'offset'] as const
export type Metadata = (typeof METADATA)[number]

const zone = z.string().refine(isZone, 'is no time zone, as Europe/Berlin or UTC')

function isZone(text: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: text })
    return true
  } catch {
    return false
  }
}

/** Of what stands between the place and the object's name. */
const FOLDERS = /^(?!\/|_millrace)(?!.*(?:^|\/)\.\.?(?:\/|$)).*[^/]$/s
const NO_FOLDERS = 'must not begin or end with /, nor with _millrace, nor hold . or .. as a folder'
const PLACES = ['topic', 'schema', 'table', 'partition'] as const

const partition = z
  .strictObject({
    by: z.enum(['log', 'field', 'time']).default('log').meta({
      title: 'By',
      description:
        'Folders of a topic. log: `partition=0`, by partition of the log. field: `country=SE`, by the values of `fields`. time: by `pattern`.',
    }),
    fields: z.array(z.string().min(1)).default([]).meta({
      title: 'Fields',
      description: 'Columns whose values make the folders, with `by: field`.',
    }),
    pattern: z
      .string()
      .regex(
        /^(?:[^YMDHm]|YYYY|MM|DD|HH|mm|[a-z]+=)+$/,
        'may hold YYYY, MM, DD, HH and mm, and lower-case words before a =',
      )
      .regex(FOLDERS, NO_FOLDERS)
      .default('year=YYYY/month=MM/day=DD/hour=HH')
      .meta({ title: 'Pattern', description: 'With `by: time`: YYYY, MM, DD, HH and mm are filled in.' }),
    zone: zone
      .default('UTC')
      .meta({ title: 'Zone', description: 'Of the times in `pattern`: UTC, or as Europe/Berlin.' }),
    time_field: z.string().min(1).optional().meta({
      title: 'Time field',
      description: 'A column with a date or time. Default: when the change was committed in the source.',
    }),
  })
  .prefault({})
  .superRefine(({ by, fields }, context) => {
    if ((by === 'field') !== fields.length > 0)
      context.addIssue({
        code: 'custom',
        path: ['fields'],
        message: 'goes with `by: field`, and that needs it',
      })
  })
  .meta({ title: 'Partition', description: 'In which folders records go.' })

const rotate = z
  .strictObject({
    records: z.int().min(1).max(100_000_000).default(100_000).meta({
      title: 'Records',
      description: 'Of one object at most.',
    }),
    bytes: z.int().min(1_000).max(5_000_000_000).default(64_000_000).meta({
      title: 'Bytes',
      description: 'Of text gathered for one object, before columns and compression.',
    }),
    span_ms: z.int().min(1).optional().meta({
      title: 'Span of time',
      description: 'From the first record of a topic to the last by the time of their commits.',
    }),
    open_ms: z.int().min(1).default(600_000).meta({
      title: 'Open time',
      description: 'A record waits no longer than this for its object, by the clock.',
    }),
    idle_ms: z.int().min(0).default(10_000).meta({
      title: 'Idle time',
      description: 'After so long without a record what is gathered is written.',
    }),
  })
  .prefault({})
  .meta({
    title: 'Rotate',
    description:
      'When objects are complete: whichever comes first. The open objects of a topic (one for each folder) are completed together. Another shape of the table begins another object by itself.',
  })

const decimal = z
  .strictObject({
    precision: z.int().min(1).max(38).default(38).meta({ title: 'Precision', description: 'Digits in all.' }),
    scale: z
      .int()
      .min(0)
      .max(38)
      .default(9)
      .meta({ title: 'Scale', description: 'Digits behind the point.' }),
  })
  .prefault({})
  .meta({
    title: 'Decimal',
    description: 'With `numeric: decimal`. A value with more digits is refused as a dead letter.',
  })

export const shared = {
  format: z.enum(FORMATS).default('jsonl').meta({
    title: 'Format',
    description: 'jsonl and csv: text. avro and parquet: typed by the columns of the table.',
  }),
  compression: z.enum(FILE_COMPRESSIONS).optional().meta({
    title: 'Compression',
    description:
      'Default: snappy for parquet, else none. zstd needs Node.js 22.15 or newer; snappy is for parquet only; in avro gzip is its `deflate`.',
  }),
  numeric: z.enum(['string', 'double', 'decimal']).default('string').meta({
    title: 'Numeric',
    description:
      'What `numeric` columns are in avro and parquet. string keeps all digits, decimal those of `decimal`, double about 16.',
  }),
  decimal,
  envelope: z.enum(['row', 'change']).default('row').meta({
    title: 'Envelope',
    description:
      'row: the columns of the row with those of `metadata`; a delete has the columns that the source still knew. change: op, key, before, after and source as they stand in the log.',
  }),
  metadata: z.array(z.enum(METADATA)).default(['op', 'version', 'committed_at']).meta({
    title: 'Metadata',
    description: 'Columns before those of the row, each with `_` before its name.',
  }),
  deletes: z.enum(['write', 'skip']).default('write').meta({
    title: 'Deletes',
    description: 'write: as a record with op `d`. skip: not at all.',
  }),
  sweeps: z.enum(['write', 'skip']).default('write').meta({
    title: 'Sweeps',
    description:
      'A TRUNCATE, or the end of a second snapshot. write: as a record with op `sweep`; what stands in objects is never taken away. skip: not at all.',
  }),
  path: z
    .string()
    .regex(FOLDERS, NO_FOLDERS)
    .superRefine((path, context) => {
      const unknown = placesOf(path).find(name => !(PLACES as readonly string[]).includes(name))
      if (unknown !== undefined)
        context.addIssue({
          code: 'custom',
          message: `holds \${${unknown}}: there is ${PLACES.map(name => `\${${name}}`).join(', ')}; values of columns make folders by \`partition\``,
        })
    })
    .default('${topic}/${partition}')
    .meta({
      title: 'Path',
      description:
        'Folders of an object: `${topic}`, `${schema}`, `${table}`, and `${partition}` for what `partition` says. Its name is topic, partition of the log and offset of its first record.',
    }),
  partition,
  rotate,
  memory_bytes: z.int().min(1_000_000).default(64_000_000).meta({
    title: 'Memory',
    description: 'What all tasks of the process may gather in memory; the rest goes to disk.',
  }),
  spill: z.string().min(1).optional().meta({
    title: 'Spill folder',
    description: "Where that is. Default: the system's folder for temporary files.",
  }),
} as const

const schema = z.strictObject(shared)
export type ObjectConfig = z.output<typeof schema>

/** For the whole of a sink's options. */
export function refuseLostPartition(options: unknown, context: z.RefinementCtx): void {
  const { path, partition } = options as ObjectConfig
  if (partition.by === 'log' || path.includes('${partition}')) return
  context.addIssue({
    code: 'custom',
    path: ['path'],
    message: `has no \${partition}, and so \`partition.by: ${partition.by}\` would make no folders`,
  })
}

export const fileOptions = ({ format, compression, numeric, decimal }: ObjectConfig): FileOptions => ({
  format,
  compression: compression ?? (format === 'parquet' ? 'snappy' : 'none'),
  numeric: numeric === 'decimal' ? decimal : numeric,
})
