/** The options that both search sinks have, beside how each connects. */
import { z } from 'zod'
import { badTableTemplate, placesOf } from '../../core/format/template.ts'

const tableTemplate = z
  .string()
  .min(1)
  .superRefine((text, context) => {
    const bad = badTableTemplate(text)
    if (bad) context.addIssue({ code: 'custom', message: bad })
  })

const rowTemplate = z
  .string()
  .min(1)
  .refine(text => placesOf(text).length > 0, 'must hold a `${…}`: it would be the same for every row')

/** A field's mapping in the cluster's own words. */
const fieldMapping = z.record(z.string().min(1), z.json())

const mapping = z
  .strictObject({
    fields: z.record(z.string().min(1), fieldMapping).default({}).meta({
      title: 'Fields',
      description:
        "Mappings of single fields, in the cluster's own words, by column, table.column or schema.table.column; they replace what the column's type would give.",
    }),
    numeric: z.enum(['double', 'scaled_float', 'keyword']).default('double').meta({
      title: 'Numeric',
      description: 'How `numeric` columns are indexed. The document keeps all digits in any case.',
    }),
    scaling_factor: z.number().positive().default(100).meta({
      title: 'Scaling factor',
      description: 'Of scaled_float: 100 keeps two decimal places in the index.',
    }),
    json: z.enum(['flattened', 'object']).default('flattened').meta({
      title: 'JSON',
      description:
        'How `json` and `jsonb` columns are indexed. flattened (in OpenSearch flat_object): one field for all of it; a value that is no object stands under `value`, and OpenSearch refuses a text of more than 32 kB in it. object: a field for each key, made as they come.',
    }),
    ignore_above: z.int().min(1).max(8191).default(256).meta({
      title: 'Longest keyword',
      description:
        'Texts longer than this are not found by their exact value (`field.keyword`), but by their words.',
    }),
    dynamic: z.enum(['strict', 'true', 'false']).default('strict').meta({
      title: 'Unknown fields',
      description:
        'What the cluster does with a field that no column gave it: refuses the document, indexes or ignores it.',
    }),
    max_fields: z.int().min(10).max(100_000).default(1_000).meta({
      title: 'Most fields',
      description: 'Of one index. A table that needs more is refused before anything is made.',
    }),
  })
  .prefault({})
  .meta({ title: 'Mapping', description: "How columns are indexed; made from the database's types." })

const bulk = z
  .strictObject({
    actions: z.int().min(1).max(100_000).default(2_500).meta({
      title: 'Actions',
      description: 'Documents in one request at most.',
    }),
    bytes: z.int().min(1_000).max(100_000_000).default(5_000_000).meta({
      title: 'Bytes',
      description: 'Of one request at most; a document that is larger goes alone.',
    }),
    parallel: z.int().min(1).max(64).default(4).meta({
      title: 'Requests in flight',
      description:
        'At most. One more after each success, half as many when the cluster pushes back (429, 503, timeouts, circuit breakers).',
    }),
    timeout_ms: z.int().min(100).max(280_000).default(60_000).meta({
      title: 'Timeout',
      description: "Of one request; never longer than the task's lease.",
    }),
  })
  .prefault({})
  .meta({
    title: 'Bulk',
    description: 'How documents are sent. Whatever came while one write ran is the next one.',
  })

export const shared = {
  index: tableTemplate.default('${schema}-${table}').meta({
    title: 'Index',
    description:
      'Where rows go; `${table}`, `${schema}` and `${topic}` are filled. In lower case, and what no index may be called becomes `_`. Made when missing.',
  }),
  id: rowTemplate.default('${key}').meta({
    title: 'Id',
    description:
      'Of the document. `${key}`: the key as text, of several columns as a JSON array; also `${table}`, `${schema}`, `${topic}` and columns of the key by name.',
  }),
  routing: rowTemplate.optional().meta({
    title: 'Routing',
    description: 'Which shard a document goes to, made of the same parts as `id`.',
  }),
  pipeline: z.string().min(1).optional().meta({
    title: 'Ingest pipeline',
    description: 'The name of one that stands in the cluster; every document goes through it.',
  }),
  numbers: z.enum(['literals', 'strings']).default('literals').meta({
    title: 'Numbers',
    description: '`numeric` columns in documents: JSON numbers with all digits, or strings.',
  }),
  mapping,
  settings: z.record(z.string().min(1), z.json()).default({}).meta({
    title: 'Settings',
    description:
      "Of indexes that are made, by the cluster's own names: `refresh_interval`, `number_of_shards`, `analysis`…",
  }),
  aliases: z.array(tableTemplate).default([]).meta({
    title: 'Aliases',
    description: 'Further names of the index, filled as `index` is.',
  }),
  bulk,
} as const

const sharedSchema = z.strictObject(shared)
export type SearchConfig = z.output<typeof sharedSchema>
