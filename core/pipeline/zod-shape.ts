/**
 * Looks into zod schemas: which keys stand at a place, what belongs to a key, which texts are secret. The one place that knows
 * how zod keeps its definitions.
 */
import { z } from 'zod'

type Def = z.core.$ZodTypes['_zod']['def']
const defOf = (schema: z.core.$ZodType): Def => (schema as z.core.$ZodTypes)._zod.def

interface Inner {
  readonly schema: z.core.$ZodType
  readonly isSecret: boolean
}

/** Without defaults, optionals and pipes, and of a union the branch that fits the value. */
export function innerOf(schema: z.core.$ZodType, value: unknown): Inner {
  let current = schema
  let isSecret = false
  for (;;) {
    isSecret ||= z.globalRegistry.get(current)?.secret === true
    const def = defOf(current)
    switch (def.type) {
      case 'optional':
      case 'nullable':
      case 'default':
      case 'prefault':
      case 'nonoptional':
      case 'readonly':
      case 'catch':
        current = def.innerType
        continue
      case 'pipe':
        current = defOf(def.in).type === 'transform' ? def.out : def.in
        continue
      case 'lazy':
        current = def.getter()
        continue
      case 'union': {
        const branch = branchOf(def, value)
        if (!branch) return { schema: current, isSecret }
        current = branch
        continue
      }
      default:
        return { schema: current, isSecret }
    }
  }
}

const isDict = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

type UnionDef = Extract<Def, { type: 'union' }>

function branchOf(def: UnionDef, value: unknown): z.core.$ZodType | undefined {
  const discriminator = (def as { discriminator?: string }).discriminator
  if (discriminator !== undefined)
    return isDict(value)
      ? def.options.find(option => literalsOf(option, discriminator).includes(value[discriminator]))
      : undefined
  return def.options.find(option => {
    const { type } = defOf(innerOf(option, value).schema)
    if (Array.isArray(value)) return type === 'array' || type === 'tuple'
    return isDict(value) ? type === 'object' || type === 'record' : type === typeof value
  })
}

function literalsOf(option: z.core.$ZodType, key: string): readonly unknown[] {
  const def = defOf(innerOf(option, {}).schema)
  if (def.type !== 'object') return []
  const inner = def.shape[key] && defOf(innerOf(def.shape[key], undefined).schema)
  return inner?.type === 'literal' ? inner.values : inner?.type === 'enum' ? Object.values(inner.entries) : []
}

/** What belongs to `key` of `value`; null: nothing does. */
export function childOf(schema: z.core.$ZodType, value: unknown, key: PropertyKey): z.core.$ZodType | null {
  const def = defOf(innerOf(schema, value).schema)
  if (def.type === 'object') return (Object.hasOwn(def.shape, key) && def.shape[String(key)]) || null
  if (def.type === 'record') return def.valueType
  if (def.type === 'array') return def.element
  return null
}

/** The keys that may stand at `path` of `value`. */
export function keysAt(
  schema: z.core.$ZodType,
  value: unknown,
  path: readonly PropertyKey[],
): readonly string[] {
  let current: z.core.$ZodType | null = schema
  let here = value
  for (const key of path) {
    current = childOf(current, here, key)
    if (!current) return []
    here = (here as Record<PropertyKey, unknown> | null | undefined)?.[key]
  }
  const def = defOf(innerOf(current, here).schema)
  return def.type === 'object' ? Object.keys(def.shape) : []
}

/** Calls `replace` for each text in `value`; answers with a copy made of what it gave back. */
export function mapTexts(
  schema: z.core.$ZodType | null,
  value: unknown,
  replace: (text: string, isSecret: boolean) => unknown,
  isSecret = false,
): unknown {
  const inner = schema ? innerOf(schema, value) : null
  const secret = isSecret || inner?.isSecret === true
  if (typeof value === 'string') return replace(value, secret)
  if (secret && (typeof value === 'number' || typeof value === 'boolean')) return replace(String(value), true)
  const childAt = (key: PropertyKey) => (schema ? childOf(schema, value, key) : null)
  if (Array.isArray(value)) return value.map((item, i) => mapTexts(childAt(i), item, replace, secret))
  if (!isDict(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, mapTexts(childAt(key), item, replace, secret)]),
  )
}
