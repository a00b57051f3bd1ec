/** Connectors that do nothing, for tests of what stands before them. */
import { z } from 'zod'
import type { Sink, Source } from '../../../core/connector.ts'
import { mistakeText, parsePipelines } from '../../../core/pipeline/parse.ts'
import type { ParsedPipeline, Registry } from '../../../core/pipeline/schema.ts'
import type { Table } from '../../../core/record.ts'
import { Secrets } from '../../../core/secrets.ts'

const never = async (): Promise<never> => {
  throw new Error('a stub is not opened')
}

const title = 'A title'

const shopdb: Source = {
  name: 'shopdb',
  summary: 'A database that is not there.',
  config: z.strictObject({
    url: z.string().min(1).meta({ title, description: 'Where.', secret: true }),
    tables: z.array(z.string().regex(/^[^.]+\..+$/, 'must be schema.table')).min(1),
    port: z.int().min(0).max(65_535).default(5432),
    follow: z.boolean().default(true),
    ratio: z.number().default(1),
    level: z.union([z.literal(1), z.literal(2)]).default(1),
    columns: z.record(z.string(), z.array(z.string())).default({}),
    on_offset_lost: z.literal('halt', { error: 'only `halt` is built' }).default('halt'),
    tls: z.strictObject({ key: z.string().meta({ secret: true }).optional() }).prefault({}),
  }),
  examples: [],
  check: never,
  plan: never,
  open: never,
}

const shelf: Sink = {
  name: 'shelf',
  summary: 'Keeps rows.',
  config: z.strictObject({
    path: z.string().min(1),
    table: z.string().min(1).default('${table}'),
    password: z.string().optional().meta({ title, description: 'Of the shelf.', secret: true }),
    mode: z.enum(['literals', 'strings']).default('literals'),
  }),
  examples: [],
  keyed: () => true,
  delivery: () => 'exactly_once',
  target: (config, table) => {
    const { path, table: name } = config as { path: string; table: string }
    return `${path}#${name.replace('${table}', table.name).replace('${schema}', table.schema)}`
  },
  check: never,
  open: never,
}

const printer: Sink = {
  name: 'printer',
  summary: 'Prints.',
  config: z.strictObject({}),
  examples: [],
  keyed: () => false,
  delivery: () => 'at_least_once',
  check: never,
  open: never,
}

export const stubs: Registry = {
  sources: new Map([['shopdb', shopdb]]),
  sinks: new Map([
    ['shelf', shelf],
    ['printer', printer],
  ]),
}

export const FILES: Readonly<Record<string, string>> = { 'secrets/password': 'p4ssw0rd\n', two: 'a\nb\n\n' }

export function readFile(path: string): string {
  const text = FILES[path]
  if (text === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
  return text
}

export interface Parsed {
  readonly pipelines: readonly ParsedPipeline[]
  /** As printed. */
  readonly said: readonly string[]
  readonly secrets: Secrets
}

/** Each text is a file a.yaml, b.yaml, … */
export function parsed(texts: string | readonly string[], env: Record<string, string> = {}): Parsed {
  const secrets = new Secrets()
  const files = [texts].flat().map((text, i) => ({ path: `${'abcdefgh'[i]}.yaml`, text }))
  const { pipelines, mistakes } = parsePipelines(files, { connectors: stubs, env, readFile, secrets })
  return { pipelines, said: mistakes.map(mistakeText), secrets }
}

/** A pipeline that has no mistake. */
export function pipelineOf(text: string, env: Record<string, string> = {}): ParsedPipeline {
  const { pipelines, said } = parsed(text, env)
  if (said.length > 0) throw new Error(said.join('\n'))
  return pipelines[0]!
}

export const tableOf = (
  schema: string,
  name: string,
  key: readonly string[],
  columns: readonly string[],
): Table => ({
  schema,
  name,
  key,
  columns: columns.map(column => ({ name: column, type: column === 'id' ? 'int8' : 'text' })),
})

/** With every key. */
export const FULL = `name: shop-search
description: A shop.
source:
  type: shopdb
  url: postgres://me:hunter22@db/shop
  tables: [shop.products, "shop.review*"]
  transforms:
    - mask: { fields: [shop.customers.email], with: null }
log: { partitions: 3, compression: none, retention: { hours: 24, bytes: 2GB } }
transforms:
  - rename: { fields: { descr: description } }
sinks:
  - name: search
    type: shelf
    path: .millrace/shop.db
    table: \${schema}_\${table}
    only: [shop.products]
    transforms:
      - drop: { fields: [cost] }
  - type: printer
errors: { retry: { max_attempts: 3, backoff_ms: 5, max_backoff_ms: 50 }, on_reject: halt }
limits: { log_bytes: 500MB, policy: detach_sink }
`
export const source = 'source: { type: shopdb, url: x, tables: [s.t] }\n'
export const least = `name: a\n${source}`
