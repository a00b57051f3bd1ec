/**
 * The pipeline's zod schema as JSON Schema (draft 2020-12), for editors: they complete, describe and check while one types.
 * Where a number, a boolean or one of a few words stands, a reference may stand, too. Not what the parser checks with.
 */
import { z } from 'zod'

import type { Json } from '../record.ts'
/** A JSON Schema, or a part of one. */
export interface JsonSchema {
  readonly [keyword: string]: Json | undefined
  readonly type?: string | readonly string[]
  readonly title?: string
  readonly description?: string
  readonly default?: Json
  readonly const?: Json
  readonly enum?: readonly Json[]
  readonly required?: readonly string[]
}

/** Of a connector of somebody's own an editor knows no keys. */
const EXTERNAL = { type: 'string', pattern: '^(\\.{0,2}/|@|millrace-)' } as const
const REFERENCE = { type: 'string', pattern: '^\\$\\{(env|file):.+\\}$' } as const

export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const plain = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', reused: 'inline' })
  return edited(plain as unknown as JsonSchema, true) as JsonSchema
}

const isSchema = (value: unknown): value is JsonSchema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Keywords that hold schemas by name; the names are no keywords. */
const BY_NAME = new Set(['properties', '$defs', 'patternProperties'])

function edited(schema: JsonSchema, mayRefer: boolean): JsonSchema {
  const branches = schema.oneOf ?? schema.anyOf
  if (Array.isArray(branches) && branches.every(isBranch)) return byType(schema, branches as JsonSchema[])
  const out: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(schema)) {
    if (key === 'secret' || (key === 'default' && isSchema(value))) continue
    out[key] = editedValue(key, value)
  }
  return mayRefer && isTyped(schema) ? orReference(out as JsonSchema) : (out as JsonSchema)
}

function editedValue(key: string, value: unknown): unknown {
  if (key === 'default' || key === 'const' || key === 'enum') return value
  if (Array.isArray(value)) return value.map(one => (isSchema(one) ? edited(one, false) : one))
  if (!isSchema(value)) return value
  if (!BY_NAME.has(key)) return edited(value, key !== 'propertyNames')
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [name, isSchema(one) ? edited(one, true) : one]),
  )
}

/** Text can hold a reference as it is; what is typed cannot. A `const` chooses a branch, and must stand there. */
const isTyped = ({ type, enum: values, pattern }: JsonSchema): boolean =>
  type === 'number' ||
  type === 'integer' ||
  type === 'boolean' ||
  values !== undefined ||
  pattern !== undefined

function orReference({ title, description, default: preset, $schema, ...rest }: JsonSchema): JsonSchema {
  const said = { $schema, title, description, default: preset }
  const kept = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined))
  return { ...kept, anyOf: [rest as Json, REFERENCE] }
}

const typeOf = (schema: JsonSchema): JsonSchema | undefined =>
  (schema.properties as { type?: JsonSchema } | undefined)?.type

const isBranch = (value: unknown): boolean => isSchema(value) && typeof typeOf(value)?.const === 'string'

/**
 * `if type is x then …` instead of "one of these": editors then complain about the branch that was meant, and offer the names
 * before one is chosen.
 */
function byType(schema: JsonSchema, branches: readonly JsonSchema[]): JsonSchema {
  const { oneOf: _, anyOf: __, ...shared } = schema
  const names = branches.map(branch => typeOf(branch)!.const!)
  const described = [
    ...branches.map(branch => `${typeOf(branch)!.const}: ${branch.description ?? ''}`),
    'A file (./…) or package (millrace-…, @…/…) of your own: docs/connectors.md.',
  ]
  return {
    ...shared,
    type: 'object',
    required: ['type'],
    properties: {
      type: { title: 'Type', description: described.join('\n'), anyOf: [{ enum: names }, EXTERNAL] },
    },
    allOf: branches.map(branch => ({
      if: { properties: { type: { const: typeOf(branch)!.const! } }, required: ['type'] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: edited(branch, false) as Json,
    })),
  }
}
