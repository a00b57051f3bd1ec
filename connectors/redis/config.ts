/** Options of the sink, and what of them cannot be together. */
import { z } from 'zod'
import { badColumnTemplate, badRowTemplate, fillTable, placesOf } from '../../core/format/template.ts'
import type { Table } from '../../core/record.ts'
import { connection, targetOf } from './connection.ts'

export const STRUCTURES = ['json', 'hash', 'string', 'set', 'sorted_set', 'stream', 'invalidate'] as const
export type Structure = (typeof STRUCTURES)[number]

const template = z
  .string()
  .min(1)
  .refine(text => !/\$\{\}/.test(text), '`${}` names nothing')

export const config = z
  .strictObject({
    ...connection,
    structure: z.enum(STRUCTURES).default('json').meta({
      title: 'Structure',
      description:
        'json: a key for each row, holding the row as JSON text. hash: a hash for each row, a field for each column that is not null. string: a key for each row, holding one column (`value`). set: the row is a member (`member`) of the set `key`. sorted_set: the same, with `score`. stream: each change is an entry of the stream `key`. invalidate: nothing is kept; each change deletes `key`.',
    }),
    key: template.default('${table}:${key}').meta({
      title: 'Key',
      description:
        'Of what is written; `${table}`, `${schema}`, `${topic}`, `${key}` (the key as text) and columns are filled. Where a key is a row (json, hash, string), only columns of the key: others may change and leave a copy behind.',
    }),
    value: z
      .string()
      .min(1)
      .optional()
      .meta({ title: 'Value', description: 'The column whose text a string holds; null deletes the key.' }),
    member: template.default('${key}').meta({
      title: 'Member',
      description:
        'Of a set or sorted set; filled as `key` is, from any column. One that several rows have goes with the last of them.',
    }),
    score: z.string().min(1).optional().meta({
      title: 'Score',
      description: 'The column with the score of a sorted set; a row whose score is null is no member.',
    }),
    ttl_seconds: z
      .int()
      .min(1)
      .max(10 ** 9)
      .optional()
      .meta({
        title: 'Time to live',
        description: 'Keys of rows expire so long after they were written.',
      }),
    expire_at: z.string().min(1).optional().meta({
      title: 'Expire at',
      description:
        'A column with the time at which the row’s key expires: a timestamp or date, or seconds since 1970. Null: `ttl_seconds`, or never.',
    }),
    max_length: z.int().min(1).optional().meta({
      title: 'Longest stream',
      description: 'About how many entries a stream keeps (`MAXLEN ~`).',
    }),
    numbers: z.enum(['literals', 'strings']).default('literals').meta({
      title: 'Numbers',
      description: '`numeric` columns in JSON: numbers with all digits, or strings.',
    }),
    replicas: z.int().min(0).max(16).default(0).meta({
      title: 'Replicas',
      description:
        'How many replicas must have a batch before it counts as written (`WAIT`). For a cluster: a node that takes over else may not have what was acknowledged. Elsewhere the position stands in the same data and goes back with them.',
    }),
  })
  .superRefine((options, context) => {
    const issue = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message })
    const { structure, value, score, max_length, ttl_seconds, expire_at, sentinel, cluster } = options
    if (sentinel && cluster) issue('cluster', 'does not go with sentinel')
    if ((structure === 'string') !== (value !== undefined))
      issue('value', structure === 'string' ? 'is needed for a string' : 'is for structure string only')
    if ((structure === 'sorted_set') !== (score !== undefined))
      issue('score', structure === 'sorted_set' ? 'is needed for a sorted set' : 'is for sorted_set only')
    if (max_length !== undefined && structure !== 'stream')
      issue('max_length', 'is for structure stream only')
    if (!isRow(structure) && (ttl_seconds ?? expire_at) !== undefined)
      issue(ttl_seconds === undefined ? 'expire_at' : 'ttl_seconds', 'is for json, hash and string only')
    if (isRow(structure) && placesOf(options.key).every(one => ['table', 'schema', 'topic'].includes(one)))
      issue('key', 'would be the same for every row: put ${key} in it')
    if (cluster && (structure === 'set' || structure === 'sorted_set') && tagOf(options.key) === null)
      issue(
        'key',
        'in a cluster a set’s keys must stand in one slot, as the place of each row is remembered beside them: begin it with a tag, as {shop}',
      )
  })
export type RedisConfig = z.output<typeof config>

/** A key is a row, and no other row is in it. */
export const isRow = (structure: Structure): boolean =>
  structure === 'json' || structure === 'hash' || structure === 'string'
/** A record of it may be refused for its values, or for what its key holds. */
export const mayRefuse = ({ structure, expire_at }: RedisConfig): boolean =>
  !isRow(structure) || expire_at !== undefined
/** Rows that have a member in common, or hand one over: it goes with the last of them. Where the row's key stands in it, there is one. */
export const mayShare = (member: string, { key }: Table): boolean => {
  const places = placesOf(member)
  return !places.includes('key') && !key.every(name => places.includes(name))
}

/** Rows are kept with their versions. */
export const isKept = (structure: Structure): boolean =>
  isRow(structure) || structure === 'set' || structure === 'sorted_set'

/** What decides over the slot of all keys of a template, where it is fixed: `shop` of `{shop}:${table}`. null: nothing does. */
export function tagOf(key: string): string | null {
  const [, tag] = /^[^{$]*\{([^}$]+)\}/.exec(key) ?? []
  return tag ?? null
}

/** Everything stands in one slot: then a batch and its position are one atomic step. */
export const isOneSlot = ({ cluster, key }: RedisConfig): boolean =>
  cluster === undefined || tagOf(key) !== null

/** Why the options cannot be with this table. */
export function problemsOf(options: RedisConfig, table: Table): string[] {
  const { structure, key, member, value, score, expire_at } = options
  const problems = [isRow(structure) ? badRowTemplate(key, table) : badColumnTemplate(key, table)]
  if (structure === 'set' || structure === 'sorted_set') problems.push(badColumnTemplate(member, table))
  for (const [name, column] of Object.entries({ value, score, expire_at }))
    if (column !== undefined && !table.columns.some(one => one.name === column))
      problems.push(`${name}: ${table.schema}.${table.name} has no column ${column}`)
  return problems.filter(one => one !== null)
}

/** Two tables may not meet in one key (V6), unless the parts of it that differ keep them apart. */
export const targetText = (options: RedisConfig, table: Table): string =>
  `${targetOf(options)} ${options.structure} ${fillTable(options.key.replace(/\$\{(?!table\}|schema\}|topic\})[^}]*\}/g, '*'), table, `${table.schema}.${table.name}`)}`
