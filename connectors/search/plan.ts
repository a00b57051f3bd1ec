/** What the sink will make of the tables it gets: refuses what can never be right, shows the rest, changes nothing. */
import type { Context, SinkTarget, TableAtSink } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { badRowTemplate } from '../../core/format/template.ts'
import type { Json, Table } from '../../core/record.ts'
import type { SearchClient } from './client.ts'
import type { SearchConfig } from './config.ts'
import { type Difference, differenceOf } from './difference.ts'
import { aliasesFor, conflicting, indexFor, standingIndex } from './indexes.ts'
import { countFields, definitionFor, type IndexDefinition, ORIGIN_FIELD, unmatchedFields } from './mapping.ts'

const tableName = ({ schema, name }: Table): string => `${schema}.${name}`

/** Throws `config` with all that is wrong. */
export function refuseUnfit(
  config: SearchConfig,
  tables: readonly Table[],
  product: SearchClient['product'],
): void {
  const problems = tables.flatMap(table => [
    ...templateProblems(config, table),
    ...columnProblems(table),
    ...sizeProblems(config, table, product),
  ])
  for (const field of unmatchedFields(config, tables))
    problems.push(`"${field}" in mapping.fields matches no column`)
  if (problems.length === 0) return
  throw new ConnectorError(
    'config',
    `${product} cannot take the tables: ${[...new Set(problems)].join('; ')}`,
    {
      hint: 'Mend the sink in the file, or rename or drop columns with a transform.',
    },
  )
}

const templateProblems = ({ id, routing }: SearchConfig, table: Table): string[] =>
  [
    ['id', id],
    ['routing', routing],
  ].flatMap(([what, template]) => {
    const bad = template === undefined ? null : badRowTemplate(template, table)
    return bad === null ? [] : [`${what}: ${bad}`]
  })

/** A dot parts objects inside a document; the cluster knows no empty names, and one name is ours. */
const columnProblems = (table: Table): string[] =>
  table.columns
    .filter(({ name }) => name.includes('.') || name.trim() === '' || name === ORIGIN_FIELD)
    .map(({ name }) => `the column "${name}" of ${tableName(table)} cannot be a field`)

function sizeProblems(config: SearchConfig, table: Table, product: SearchClient['product']): string[] {
  const { mappings } = definitionFor(table, config, product, [])
  const count = countFields(mappings.properties)
  return count <= config.mapping.max_fields
    ? []
    : [`${tableName(table)} needs ${count} fields, and mapping.max_fields is ${config.mapping.max_fields}`]
}

export async function planTargets(
  client: SearchClient,
  config: SearchConfig,
  tables: readonly TableAtSink[],
  { signal }: Context,
): Promise<readonly SinkTarget[]> {
  refuseUnfit(
    config,
    tables.map(one => one.table),
    client.product,
  )
  const byIndex = new Map<string, TableAtSink[]>()
  for (const one of tables) {
    const name = indexFor(config, one.table, one.topic)
    byIndex.set(name, [...(byIndex.get(name) ?? []), one])
  }
  const targets: SinkTarget[] = []
  for (const [name, members] of byIndex) targets.push(await targetOf(client, config, name, members, signal))
  return targets
}

async function targetOf(
  client: SearchClient,
  config: SearchConfig,
  name: string,
  members: readonly TableAtSink[],
  signal: AbortSignal,
): Promise<SinkTarget> {
  const definition = members
    .map(({ table, topic }) => definitionFor(table, config, client.product, aliasesFor(config, table, topic)))
    .reduce(together)
  const standing = await standingIndex(client, name, signal)
  const difference = standing ? differenceOf(definition, standing) : null
  if (difference && difference.conflicts.length > 0) throw conflicting(client, name, difference.conflicts)
  return {
    name,
    tables: members.map(({ table }) => tableName(table)),
    exists: standing !== null,
    definition: definition as unknown as Json,
    differences: difference ? wordsOf(difference) : [],
  }
}

const together = (a: IndexDefinition, b: IndexDefinition): IndexDefinition => ({
  settings: a.settings,
  mappings: { ...a.mappings, properties: { ...a.mappings.properties, ...b.mappings.properties } },
  aliases: { ...a.aliases, ...b.aliases },
})

const wordsOf = ({ missing, missingAliases, remarks }: Difference): string[] => [
  ...Object.entries(missing).map(
    ([field, mapping]) => `the field ${field} will be added: ${JSON.stringify(mapping)}`,
  ),
  ...missingAliases.map(alias => `the alias ${alias} will be added`),
  ...remarks,
]
