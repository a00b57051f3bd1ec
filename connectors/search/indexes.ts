/**
 * The indexes that records go to: made with their mapping when missing, given the fields that have come since. Looks once at each
 * shape of a table; somebody who deletes an index meanwhile is noticed at the next start.
 */
import type { Context } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { fillTable } from '../../core/format/template.ts'
import type { LogRecord, Table } from '../../core/record.ts'
import { CALL_MS, CALL_RETRIES, call, callError, type SearchClient, toldBy } from './client.ts'
import type { SearchConfig } from './config.ts'
import { differenceOf, flat, type StandingIndex } from './difference.ts'
import { takeOver, whyLost } from './fence.ts'
import { definitionFor, type IndexDefinition, type Mapping } from './mapping.ts'
import { type Renderer, rendererOf } from './render.ts'
import { indexName } from './template.ts'

export interface Index {
  readonly name: string
  /** The name to write under, of this owner alone (fence.ts). */
  readonly target: string
  readonly renderer: Renderer
}

export interface Indexes {
  /** Of the record's table; made or added to at the first record of each shape. Throws `config` when it cannot hold the table. */
  of(record: LogRecord): Promise<Index>
  /** The same, when it is known already: no promise for each record. */
  known(record: LogRecord): Index | undefined
  /** After the cluster did not know the name of an index: what became of it; the error itself where all stand. */
  lost(error: Error): Promise<Error>
}

export const indexFor = ({ index }: SearchConfig, table: Table, topic: string): string =>
  indexName(fillTable(index, table, topic))

export const aliasesFor = ({ aliases }: SearchConfig, table: Table, topic: string): string[] =>
  aliases.map(alias => indexName(fillTable(alias, table, topic)))

export function indexesOf(client: SearchClient, config: SearchConfig, context: Context): Indexes {
  const byTable = new WeakMap<Table, Index>()
  const byName = new Map<string, string>()
  return {
    known: ({ table }) => byTable.get(table),
    async of({ table, topic }) {
      const known = byTable.get(table)
      if (known) return known
      const name = indexFor(config, table, topic)
      const definition = definitionFor(table, config, client.product, aliasesFor(config, table, topic))
      const standing = await ensure(client, name, definition, context)
      const target = byName.get(name) ?? (await takeOver(client, standing, context))
      byName.set(name, target)
      const index = { name, target, renderer: rendererOf(table, definition.mappings.properties, config) }
      byTable.set(table, index)
      return index
    },
    async lost(error) {
      for (const [name, target] of byName) {
        const standing = await standingIndex(client, name, context.signal)
        if (standing === null || (target !== standing.name && !standing.aliases.includes(target)))
          return whyLost(client, name, standing, context)
      }
      return error
    },
  }
}

/** What stands in the end, but for what was added just now. */
async function ensure(
  client: SearchClient,
  name: string,
  definition: IndexDefinition,
  { signal, log, task }: Context,
): Promise<StandingIndex> {
  const standing =
    (await standingIndex(client, name, signal)) ?? (await create(client, name, definition, signal))
  if (!standing) return { name, properties: {}, dynamic: undefined, aliases: [], settings: {} }
  const { missing, missingAliases, conflicts, remarks } = differenceOf(definition, standing)
  if (conflicts.length > 0) throw conflicting(client, name, conflicts)
  if (remarks.length > 0)
    log.info(
      { task, index: name },
      `index ${name} stands otherwise than it would be made: ${remarks.join('; ')}`,
    )
  const path = `/${encodeURIComponent(name)}`
  if (Object.keys(missing).length > 0)
    await call(client, `adding fields to index "${name}"`, {
      method: 'PUT',
      path: `${path}/_mapping`,
      body: { properties: missing },
      signal,
    })
  if (missingAliases.length > 0)
    await call(client, `giving index "${name}" its aliases`, {
      method: 'POST',
      path: '/_aliases',
      body: { actions: missingAliases.map(alias => ({ add: { index: standing.name, alias } })) },
      signal,
    })
  return standing
}

export const conflicting = (
  { product, target }: SearchClient,
  name: string,
  conflicts: readonly string[],
): ConnectorError =>
  new ConnectorError(
    'config',
    `${product} ${target}: index "${name}" cannot hold the table as it is: ${conflicts.join('; ')}`,
    {
      hint: 'The type of a field cannot be changed in place. Declare the type that stands there under `mapping.fields`, or give the sink another `index`.',
    },
  )

/** null: made. Else somebody was quicker, and this is theirs. */
async function create(
  client: SearchClient,
  name: string,
  definition: IndexDefinition,
  signal: AbortSignal,
): Promise<StandingIndex | null> {
  const { status, body } = await client.request({
    method: 'PUT',
    path: `/${encodeURIComponent(name)}`,
    body: definition,
    timeoutMs: CALL_MS * 3,
    retries: CALL_RETRIES,
    signal,
  })
  if (status < 300) return null
  if (toldBy(body).type === 'resource_already_exists_exception') return standingIndex(client, name, signal)
  throw callError(client, `making index "${name}"`, status, body)
}

interface Told {
  readonly [index: string]: {
    readonly mappings?: {
      readonly properties?: { [field: string]: Mapping }
      readonly dynamic?: string | boolean
    }
    readonly aliases?: { readonly [name: string]: unknown }
    readonly settings?: { readonly [name: string]: never }
  }
}

/** null: there is no index of this name. An alias of several is no place to write to. */
export async function standingIndex(
  client: SearchClient,
  name: string,
  signal?: AbortSignal,
): Promise<StandingIndex | null> {
  const body = await call<Told>(
    client,
    `looking at index "${name}"`,
    {
      method: 'GET',
      path: `/${encodeURIComponent(name)}`,
      query: { flat_settings: true },
      ...(signal ? { signal } : {}),
    },
    true,
  )
  if (!body) return null
  const found = Object.entries(body)
  if (found.length !== 1)
    throw new ConnectorError(
      'config',
      `${client.product} ${client.target}: "${name}" is an alias of ${found.length} indexes (${Object.keys(body).join(', ')})`,
      { hint: 'Give the sink an index of its own, or an alias of one.' },
    )
  const [[concrete, { mappings, aliases, settings }]] = found as [(typeof found)[number]]
  const flatSettings = Object.entries(flat(settings ?? {})).map(([key, value]) => [key, String(value)])
  return {
    name: concrete,
    properties: mappings?.properties ?? {},
    dynamic: mappings?.dynamic === undefined ? undefined : String(mappings.dynamic),
    aliases: Object.keys(aliases ?? {}),
    settings: Object.fromEntries(flatSettings),
  }
}
