/** What an index lacks, and what cannot be changed in it: our mapping held against the one that stands in the cluster. Pure. */
import { isDeepStrictEqual } from 'node:util'
import type { Json } from '../../core/record.ts'
import type { IndexDefinition, Mapping } from './mapping.ts'

export interface StandingIndex {
  /** The index's own name, where it was asked for by an alias. */
  readonly name: string
  readonly properties: { readonly [field: string]: Mapping }
  readonly dynamic: string | undefined
  readonly aliases: readonly string[]
  /** Flat, by full name; every value is text. */
  readonly settings: { readonly [name: string]: string }
}

export interface Difference {
  /** Fields that the index has not: they can be added. */
  readonly missing: { readonly [field: string]: Mapping }
  readonly missingAliases: readonly string[]
  /** What stands otherwise and can only be changed by a new index. In words. */
  readonly conflicts: readonly string[]
  /** What stands otherwise and does no harm. In words. */
  readonly remarks: readonly string[]
}

export const isSame = ({ missing, missingAliases, conflicts, remarks }: Difference): boolean =>
  Object.keys(missing).length + missingAliases.length + conflicts.length + remarks.length === 0

export function differenceOf(wanted: IndexDefinition, standing: StandingIndex): Difference {
  const missing: { [field: string]: Mapping } = {}
  const conflicts: string[] = []
  const remarks: string[] = []
  for (const [field, mapping] of Object.entries(wanted.mappings.properties)) {
    const there = standing.properties[field]
    if (!there || lacksInner(mapping, there)) missing[field] = mapping
    else
      for (const { text, isHarmless } of othersOf(field, mapping, there))
        (isHarmless ? remarks : conflicts).push(text)
  }
  const dynamic = standing.dynamic ?? 'true'
  return {
    missing,
    missingAliases: Object.keys(wanted.aliases).filter(name => !standing.aliases.includes(name)),
    conflicts,
    remarks: [
      ...remarks,
      ...(dynamic === wanted.mappings.dynamic
        ? []
        : [`mapping.dynamic is ${dynamic} there, and ${wanted.mappings.dynamic} in the file`]),
      ...settingRemarks(wanted.settings, standing.settings),
    ],
  }
}

const innerOf = (mapping: Mapping) => (mapping.properties ?? {}) as { [field: string]: Mapping }
const lacksInner = (wanted: Mapping, there: Mapping): boolean =>
  Object.keys(innerOf(wanted)).some(name => !(name in innerOf(there)))

const TEXTS = new Set(['text', 'keyword', 'wildcard', 'match_only_text'])
/** Types of values that are one JSON scalar each. */
const SCALARS = new Set([
  ...TEXTS,
  ...['boolean', 'date', 'date_nanos', 'ip', 'binary', 'byte', 'short', 'integer', 'long', 'unsigned_long'],
  ...['half_float', 'float', 'double', 'scaled_float'],
])

/** A field that takes any scalar, be it only into the document: none is lost, though some are not found by this field. */
const takesAnything = ({ type, ignore_malformed }: Mapping): boolean =>
  TEXTS.has(String(type)) || String(ignore_malformed) === 'true'

/** Types that differ. A parameter that the cluster leaves out stands at its default, which ours may name, and is not compared. */
function othersOf(field: string, wanted: Mapping, there: Mapping): { text: string; isHarmless: boolean }[] {
  const typeOf = (mapping: Mapping) => String(mapping.type ?? 'object')
  if (typeOf(wanted) !== typeOf(there))
    return [
      {
        text: `${field} is ${typeOf(there)} there, and would be ${typeOf(wanted)}`,
        isHarmless: SCALARS.has(typeOf(wanted)) && takesAnything(there),
      },
    ]
  return Object.entries(innerOf(wanted)).flatMap(([name, mapping]) =>
    othersOf(`${field}.${name}`, mapping, innerOf(there)[name]!),
  )
}

function settingRemarks(
  wanted: { readonly [name: string]: Json },
  standing: StandingIndex['settings'],
): string[] {
  return Object.entries(flat(wanted)).flatMap(([name, value]) => {
    const there = standing[name]
    if (isDeepStrictEqual(there, String(value))) return []
    return [`${name} is ${there ?? 'not set'} there, and ${String(value)} in the file`]
  })
}

/** Nested settings as the cluster's flat names; lists by index. */
export function flat(settings: { readonly [name: string]: Json }, before = ''): { [name: string]: Json } {
  const found: { [name: string]: Json } = {}
  for (const [name, value] of Object.entries(settings)) {
    const whole = before === '' ? name : `${before}.${name}`
    if (typeof value === 'object' && value !== null)
      Object.assign(found, flat(value as { [name: string]: Json }, whole))
    else found[whole] = value
  }
  return found
}
