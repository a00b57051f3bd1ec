/** What stands under `source:` of a pipeline with `type: postgres`, and how table and column patterns are read. */
import { z } from 'zod'

/** Why a pattern cannot be read; null: it can. */
const isPattern = (text: string): boolean => splitPattern(text) !== null

export const config = z.strictObject({
  url: z.string().min(1).meta({
    title: 'URL',
    description:
      "postgres://user:password@host:port/database, with libpq's parameters sslmode (disable, allow, prefer, require, verify-ca, verify-full), sslrootcert, sslcert, sslkey, application_name, connect_timeout. The role needs REPLICATION and SELECT.",
    secret: true,
  }),
  tables: z
    .array(
      z.string().refine(isPattern, 'must be schema.table; `*` stands for any characters; "a.b"."c" quotes'),
    )
    .min(1)
    .meta({
      title: 'Tables',
      description:
        'Tables to follow, as schema.table; `*` stands for any characters. Names are taken as they are written, split at the first dot; "my.schema"."my table" quotes them.',
    }),
  columns: z
    .record(z.string().refine(isPattern, 'must be schema.table'), z.array(z.string().min(1)).min(1))
    .default({})
    .meta({
      title: 'Columns',
      description:
        'Per table the columns to take: names with `*`, `!name` leaves one out; a list of exclusions only takes all others. Columns of the key are always taken.',
    }),
  heartbeat_ms: z.int().min(0).default(10_000).meta({
    title: 'Heartbeat',
    description:
      "How often the source writes a message to the database's log while nothing else is written, so that the slot can let go of it. 0: never.",
  }),
  on_offset_lost: z
    .literal('halt', { error: 'only `halt` is built: `resnapshot` is not yet' })
    .default('halt')
    .meta({
      title: 'When the position is lost',
      description:
        'What to do when the database no longer has the changes that come next. halt: stop and say so.',
    }),
  snapshot: z
    .strictObject({
      mode: z.literal('initial', { error: 'only `initial` is built' }).default('initial').meta({
        title: 'Mode',
        description: 'initial: every row of the tables first, while changes are followed.',
      }),
      chunk_rows: z.int().min(1).max(10_000_000).default(25_000).meta({
        title: 'Rows of a chunk',
        description:
          'At most so many rows are read in one transaction and held in memory (16 MB in any case).',
      }),
      parallel: z.int().min(1).max(32).default(2).meta({
        title: 'Connections',
        description: 'How many chunks are read at once, each on a connection of its own.',
      }),
    })
    .prefault({})
    .meta({ title: 'Snapshot', description: 'How the rows that are already there are read.' }),
})
export type PostgresConfig = z.output<typeof config>

/** Schema and table of a pattern, each with its globs; null: it cannot be read. */
export function splitPattern(text: string): readonly [schema: string, table: string] | null {
  const quoted = text.match(/^(?:"((?:[^"]|"")+)"|([^".]+))\.(?:"((?:[^"]|"")+)"|([^"].*))$/s)
  if (!quoted) return null
  const [, quotedSchema, schema, quotedTable, table] = quoted
  return [schema ?? escapeQuoted(quotedSchema!), table ?? escapeQuoted(quotedTable!)]
}

const escapeQuoted = (text: string): string => text.replaceAll('""', '"')

/** `*` stands for any characters, everything else for itself. */
const globOf = (glob: string): RegExp =>
  new RegExp(
    `^${glob
      .split('*')
      .map(part => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
      .join('.*')}$`,
    's',
  )

export function matchesTable(pattern: string, schema: string, name: string): boolean {
  const parts = splitPattern(pattern)
  return parts !== null && globOf(parts[0]).test(schema) && globOf(parts[1]).test(name)
}

/** Whether a column that is not of the key is taken. Several patterns that match the table: their lists together. */
export function takesColumn(
  columns: PostgresConfig['columns'],
  schema: string,
  name: string,
  column: string,
): boolean {
  const globs = Object.entries(columns)
    .filter(([pattern]) => matchesTable(pattern, schema, name))
    .flatMap(([, list]) => list)
  const without = globs.filter(glob => glob.startsWith('!'))
  const only = globs.filter(glob => !glob.startsWith('!'))
  if (without.some(glob => globOf(glob.slice(1)).test(column))) return false
  return only.length === 0 || only.some(glob => globOf(glob).test(column))
}
