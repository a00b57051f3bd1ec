/** What all object sources are, but for their store: check, plan, reader. */
import { z } from 'zod'
import type { Context, Source, SourcePlan } from '../../core/connector.ts'
import type { Json } from '../../core/record.ts'
import { wanted } from './looking.ts'
import { openReader } from './reader.ts'
import { PLACE_KEY, type RowOptions, tableNameOf } from './row.ts'
import { type ObjectSourceConfig, sourceShared } from './source-config.ts'
import type { ReadableStore } from './store.ts'

/** Of a listing, for `plan`. */
const MOST_PLANNED = 10_000

export interface ObjectSourceParts<K extends z.ZodRawShape> {
  readonly name: string
  readonly summary: string
  /** The options of the store. */
  readonly place: K
  readonly examples: readonly { readonly title: string; readonly config: Json }[]
  open(config: z.output<z.ZodObject<K>>, signal: AbortSignal): ReadableStore
  /** The table of objects in no folder. */
  holderOf(config: z.output<z.ZodObject<K>>): string
}

export function objectSource<K extends z.ZodRawShape>(parts: ObjectSourceParts<K>): Source {
  type Place = z.output<z.ZodObject<K>>
  const optionsOf = (config: unknown) => config as ObjectSourceConfig
  const rowOptions = (config: unknown): RowOptions => ({
    connector: parts.name,
    holder: parts.holderOf(config as Place),
    options: optionsOf(config),
  })
  return {
    name: parts.name,
    summary: parts.summary,
    config: z.strictObject({ ...parts.place, ...sourceShared }),
    examples: parts.examples as Source['examples'],
    async check(config, context) {
      await using store = parts.open(config as Place, context.signal)
      for await (const _ of store.list()) return
    },
    async plan(config, context): Promise<SourcePlan> {
      await using store = parts.open(config as Place, context.signal)
      return planned(store, rowOptions(config), optionsOf(config))
    },
    async open(config, from, context: Context) {
      const store = parts.open(config as Place, context.signal)
      try {
        return openReader({ ...rowOptions(config), store, options: optionsOf(config) }, from, context)
      } catch (error) {
        await store[Symbol.asyncDispose]()
        throw error
      }
    },
  }
}

async function planned(
  store: ReadableStore,
  given: RowOptions,
  options: ObjectSourceConfig,
): Promise<SourcePlan> {
  const { table, key, columns } = options
  const names = new Set(table === undefined ? [] : [table])
  const isWanted = wanted(options)
  let looked = 0
  for await (const page of store.list()) {
    for (const { name } of page) if (isWanted(name)) names.add(tableNameOf(name, given))
    looked += page.length
    if (table !== undefined || looked > MOST_PLANNED) break
  }
  const own = key ?? PLACE_KEY
  const typeOf = (name: string) => columns[name] ?? (name === '_line' ? 'int8' : 'text')
  const known = [...new Set([...own, ...Object.keys(columns)])].map(name => ({ name, type: typeOf(name) }))
  return {
    tables: [...names].sort().map(name => ({
      table: { schema: given.connector, name, key: own, columns: known },
      rows: null,
    })),
    upstream: [],
  }
}
