/**
 * What an index for a table looks like: mapping, settings and aliases from the columns' types and the options. Pure.
 *
 *   bool boolean · integers long and floats double, so that a column may be widened later · numeric as declared
 *   text, varchar: text with a keyword beside it · char, bpchar, name, uuid, time, timetz, interval, bytea (as text): keyword, binary
 *   date, timestamp, timestamptz: date · json, jsonb: flattened or object · point, geometry, geography: geo types
 *   inet, cidr: ip or ip_range · arrays: as their elements, since every field may hold many
 *
 * A value that its field cannot take (NaN, infinity, a year of five digits) must not keep its document from being found: it stays in
 * `_source` and is left out of the index (`ignore_malformed`), where the field's type can do that.
 */
import type { Json, Table } from '../../core/record.ts'
import type { SearchClient } from './client.ts'
import type { SearchConfig } from './config.ts'

export type Mapping = { readonly [key: string]: Json }

export interface IndexDefinition {
  readonly settings: { readonly [name: string]: Json }
  readonly mappings: {
    readonly dynamic: string
    readonly properties: { readonly [field: string]: Mapping }
  }
  readonly aliases: { readonly [name: string]: Mapping }
}

/** Where each document came from, and which number it has: sweeps find rows by it (V6, S1). */
export const ORIGIN_FIELD = '_millrace'
const ORIGIN: Mapping = { properties: { origin: { type: 'keyword' }, version: { type: 'long' } } }

/** How long the cluster remembers deletes, so that an older write behind one is refused (P4). */
const GC_DELETES = '10m'
/** Lucene refuses a term of more than 32,766 bytes; a character may take four. */
const LONGEST_TERM = 8191
const DATE_FORMAT = 'strict_date_optional_time_nanos||strict_date_optional_time||epoch_millis'

type Product = SearchClient['product']

const NUMBERS: Readonly<Record<string, string>> = {
  int2: 'long',
  int4: 'long',
  int8: 'long',
  float4: 'double',
  float8: 'double',
}
const KEYWORDS = new Set(['char', 'bpchar', 'name', 'uuid', 'time', 'timetz', 'interval'])
const TIMES = new Set(['date', 'timestamp', 'timestamptz'])
const keyword = (ignoreAbove: number): Mapping => ({ type: 'keyword', ignore_above: ignoreAbove })

/** The mapping of a column of this type ("int4", "text[]"). */
export function fieldFor(
  type: string,
  { mapping }: Pick<SearchConfig, 'mapping'>,
  product: Product,
): Mapping {
  const element = type.replace(/(\[\])+$/, '')
  const number = NUMBERS[element]
  if (number) return { type: number, ignore_malformed: true }
  if (element === 'bool') return { type: 'boolean' }
  if (element === 'numeric') return numeric(mapping)
  if (TIMES.has(element)) return { type: 'date', format: DATE_FORMAT, ignore_malformed: true }
  if (element === 'json' || element === 'jsonb') return json(mapping.json, product)
  if (element === 'bytea') return { type: 'binary' }
  if (element === 'inet') return { type: 'ip', ignore_malformed: true }
  if (element === 'point') return { type: 'geo_point', ignore_malformed: true }
  if (element === 'geometry' || element === 'geography') return { type: 'geo_shape', ignore_malformed: true }
  if (KEYWORDS.has(element)) return keyword(LONGEST_TERM)
  return { type: 'text', fields: { keyword: keyword(mapping.ignore_above) } }
}

function numeric({ numeric: as, scaling_factor: factor }: SearchConfig['mapping']): Mapping {
  if (as === 'keyword') return keyword(LONGEST_TERM)
  if (as === 'double') return { type: 'double', ignore_malformed: true }
  return { type: 'scaled_float', scaling_factor: factor, ignore_malformed: true }
}

const json = (as: 'flattened' | 'object', product: Product): Mapping =>
  as === 'object'
    ? { type: 'object', dynamic: 'true' }
    : product === 'opensearch'
      ? { type: 'flat_object' }
      : { type: 'flattened', ignore_above: LONGEST_TERM }

/** What the options say of a column: the longest name that fits wins. */
export function overrideFor(
  { mapping: { fields } }: Pick<SearchConfig, 'mapping'>,
  { schema, name }: Table,
  column: string,
): Mapping | null {
  const found = fields[`${schema}.${name}.${column}`] ?? fields[`${name}.${column}`] ?? fields[column]
  return (found as Mapping | undefined) ?? null
}

/** Names in `mapping.fields` that fit no column of these tables. */
export function unmatchedFields(
  { mapping: { fields } }: SearchConfig,
  tables: readonly Table[],
): readonly string[] {
  if (tables.some(table => table.columns.length === 0)) return [] // a source that learns them with the rows
  const names = new Set(
    tables.flatMap(({ schema, name, columns }) =>
      columns.flatMap(column => [column.name, `${name}.${column.name}`, `${schema}.${name}.${column.name}`]),
    ),
  )
  return Object.keys(fields).filter(field => !names.has(field))
}

export function propertiesFor(
  table: Table,
  config: SearchConfig,
  product: Product,
): { [field: string]: Mapping } {
  const properties: { [field: string]: Mapping } = {}
  for (const { name, type } of table.columns)
    properties[name] = overrideFor(config, table, name) ?? fieldFor(type, config, product)
  properties[ORIGIN_FIELD] = ORIGIN
  return properties
}

export function definitionFor(
  table: Table,
  config: SearchConfig,
  product: Product,
  aliases: readonly string[],
): IndexDefinition {
  const { settings, mapping } = config
  return {
    settings: {
      'index.gc_deletes': GC_DELETES,
      'index.mapping.total_fields.limit': mapping.max_fields,
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [prefixed(name), value as Json])),
    },
    mappings: { dynamic: mapping.dynamic, properties: propertiesFor(table, config, product) },
    aliases: Object.fromEntries(aliases.map(name => [name, {}])),
  }
}

const prefixed = (name: string): string =>
  name === 'index' || name.startsWith('index.') ? name : `index.${name}`

/** Fields as the cluster counts them: those inside objects and beside texts too. */
export const countFields = (properties: { readonly [field: string]: Mapping }): number =>
  Object.values(properties).reduce(
    (sum, { properties: inner, fields }) =>
      sum +
      1 +
      countFields((inner ?? {}) as { [field: string]: Mapping }) +
      countFields((fields ?? {}) as { [field: string]: Mapping }),
    0,
  )
