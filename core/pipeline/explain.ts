/** Zod's issues in words, each at its place in the tree: where, which value, what it must be, the name that was meant. */
import type { z } from 'zod'
import type { Tree } from './document.ts'
import { nearest, oneOf, suggestion } from './mistake.ts'
import { type NotBuilt, placeOf } from './not-built.ts'
import type { Refused } from './schema.ts'
import { childOf, innerOf, keysAt } from './zod-shape.ts'

/** The parts of zod's issues that are read here. */
export interface Issue {
  readonly code: string
  readonly path: readonly PropertyKey[]
  readonly message: string
  readonly expected?: string
  readonly values?: readonly unknown[]
  readonly keys?: readonly string[]
  readonly errors?: readonly (readonly Issue[])[]
  readonly issues?: readonly Issue[]
  readonly options?: readonly unknown[]
  readonly discriminator?: string
  readonly minimum?: number | bigint
  readonly maximum?: number | bigint
  readonly divisor?: number
  readonly inclusive?: boolean
  readonly origin?: string
  readonly format?: string
  readonly pattern?: string
}

export interface Explaining {
  readonly schema: z.core.$ZodType
  readonly tree: Tree
  /** The tree as zod saw it. */
  readonly plain: unknown
  readonly notBuilt: NotBuilt
  readonly refused: Refused
}

interface Said {
  readonly at: number
  readonly message: string
}

export function explain(issues: readonly Issue[], context: Explaining): readonly Said[] {
  const unknown = new Set(
    issues.filter(one => one.code === 'unrecognized_keys').map(one => placeAt(one.path)),
  )
  return issues
    .filter(issue => {
      // A mapping with a wrong key is not also told that it lacks the right one; nor a text that could not be filled.
      if (issue.code === 'custom' && unknown.has(placeAt(issue.path))) return false
      const { tree } = find(context.tree, issue.path)
      return !(tree?.kind === 'leaf' && tree.isBroken)
    })
    .flatMap(issue => explained(issue, context))
}

const placeAt = (path: readonly PropertyKey[]): string => JSON.stringify(path.map(String))

function explained(issue: Issue, context: Explaining): readonly Said[] {
  const { code, path } = issue
  if (code === 'unrecognized_keys') return (issue.keys ?? []).map(key => unknownKey(key, path, context))
  const found = find(context.tree, path)
  if (!found.tree) return [missing(issue, context)]
  if (code === 'invalid_key') {
    const key = String(path.at(-1))
    const why = issue.issues?.[0] ? mustBe(issue.issues[0], '', '', context) : 'cannot be a key here'
    return [{ at: found.keyAt, message: `"${key}" in ${pathText(path.slice(0, -1))}: ${why}` }]
  }
  if (code === 'invalid_union' && issue.errors?.length) return explainedUnion(issue, context)
  return [{ at: found.tree.at, message: valueText(issue, found.tree, context) }]
}

/** None of a union's branches took it: the one that came furthest is the one that was meant. */
function explainedUnion(issue: Issue, context: Explaining): readonly Said[] {
  const branches = issue.errors!
  const deep = branches
    .filter(branch => branch.every(one => one.path.length > 0 || one.code !== 'invalid_type'))
    .sort((a, b) => a.length - b.length)[0]
  if (issue.message === NO_WORDS && deep)
    return explain(
      deep.map(one => ({ ...one, path: [...issue.path, ...one.path] })),
      context,
    )
  const { tree } = find(context.tree, issue.path)
  return [{ at: tree!.at, message: valueText(issue, tree!, context) }]
}

/** Marks issues that the schema has no words of its own for: zod asks for words before it knows the place. */
export const NO_WORDS = '\0'

function unknownKey(key: string, path: readonly PropertyKey[], context: Explaining): Said {
  const { tree } = find(context.tree, path)
  const at = (tree?.kind === 'dict' && tree.entries.get(key)?.at) || (tree?.at ?? 0)
  const where = path.length === 0 ? '' : ` in ${ownerText(path, context)}`
  if (context.notBuilt.keys[placeOf(path)]?.includes(key))
    return { at, message: `"${key}"${where} is not built yet` }
  const names = keysAt(context.schema, context.plain, path)
  return { at, message: `unknown key "${key}"${where}${suggestion(key, names)}` }
}

function missing({ path }: Issue, context: Explaining): Said {
  let depth = path.length - 1
  while (depth > 0 && !find(context.tree, path.slice(0, depth)).tree) depth--
  const parent = path.slice(0, depth)
  const { tree } = find(context.tree, parent)
  const owner = depth === 0 ? 'the file' : ownerText(parent, context)
  return { at: tree?.at ?? 0, message: `${owner} has no "${String(path[depth])}", which it needs` }
}

/** `source.log_bytes is "x": must be …`. */
function valueText(issue: Issue, tree: Tree, context: Explaining): string {
  const { path } = issue
  const place = placeOf(path)
  const where = path.length === 0 ? 'the file' : pathText(path)
  if (tree.kind !== 'leaf' && issue.code !== 'invalid_type' && issue.code !== 'invalid_union')
    return `${where} ${mustBe(issue, '', place, context)}`
  const value = tree.kind === 'leaf' ? tree.value : undefined
  if (tree.kind === 'leaf' && isSecretAt(path, context))
    return `${where} ${mustBe(issue, '', place, context)} (its value is a secret, and not shown)`
  const shown = shownValue(tree)
  if (typeof value === 'string' && context.notBuilt.values[place]?.includes(value)) {
    const built = optionsOf(issue).join(', ')
    return `${where} is ${shown}: not built yet${built === '' ? '' : `; there is ${built}`}`
  }
  if (place.endsWith('.only[]') && typeof value === 'string' && !value.includes('.'))
    return `${where} is ${shown}: must be schema.table; documents are not built yet`
  const quotes =
    issue.expected === 'string' && tree.kind === 'leaf' && value !== null && shown === tree.source
      ? `; in quotes it is one: "${tree.source}"`
      : ''
  return `${where} is ${shown}: ${mustBe(issue, typeof value === 'string' ? value : '', place, context)}${quotes}`
}

const optionsOf = ({ values, options }: Issue): readonly string[] => (values ?? options ?? []).map(String)

const NOUNS: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
  null: 'null',
  nan: 'a number',
}
const nounOf = (expected: string | undefined): string => NOUNS[expected ?? ''] ?? `${expected}`

function mustBe(issue: Issue, value: string, place: string, context: Explaining): string {
  if (issue.message !== NO_WORDS) return issue.message
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${nounOf(issue.expected)}`
    case 'invalid_value': {
      const options = optionsOf(issue)
      return `must be ${oneOf(options)}${near(value, options)}`
    }
    case 'invalid_union':
      return unionMustBe(issue, value, place, context)
    case 'too_small':
    case 'too_big':
      return bound(issue)
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`
    case 'invalid_format':
      return issue.pattern ? `must be as ${issue.pattern}` : `must be ${issue.format}`
    default:
      return 'cannot be that'
  }
}

const near = (value: string, options: readonly string[]): string => {
  const said = value === '' ? '' : suggestion(value, options)
  return said.includes('did you mean') ? said : ''
}

function unionMustBe(issue: Issue, value: string, place: string, { notBuilt, refused }: Explaining): string {
  if (issue.discriminator === undefined) {
    const nouns = (issue.errors ?? []).map(branch => nounOf(branch[0]?.expected))
    return `must be ${oneOf([...new Set(nouns)])}`
  }
  const options = optionsOf(issue)
  const why = refused[place]?.get(value)
  if (why !== undefined) return why
  const noun = place === 'source.type' ? 'source' : 'sink'
  if (/\.[cm]?[jt]s$/.test(value)) return `there is no such ${noun}; a file begins with ./: "./${value}"`
  const planned = nearest(value, options) === null ? nearest(value, notBuilt.values[place] ?? []) : null
  return planned === null
    ? `there is no such ${noun}${suggestion(value, options, 'there is')}`
    : `"${planned}" is not built yet; there is ${options.join(', ')}`
}

function bound({ code, origin, minimum, maximum, inclusive, format }: Issue): string {
  const limit = code === 'too_small' ? minimum : maximum
  if (code === 'too_small' && Number(limit) === 1 && origin !== 'number') return 'must not be empty'
  const unit = origin === 'string' ? ' characters' : origin === 'array' ? ' items' : ''
  const side = code === 'too_small' ? 'at least' : 'at most'
  const strict = inclusive === false ? (code === 'too_small' ? 'more than' : 'less than') : side
  return format === 'safeint' && unit === ''
    ? `must be ${side} ${limit}, the largest whole number that is exact`
    : `must be ${strict} ${limit}${unit}`
}

const LONGEST_SHOWN = 60

/** The value as it stands in the file; what came from outside by its reference, secrets not at all. */
function shownValue(tree: Tree): string {
  if (tree.kind !== 'leaf') return tree.kind === 'list' ? 'a list' : 'a mapping'
  if (tree.value === null && tree.filled === null) return 'empty'
  if (tree.filled && tree.filled.fromFiles.length > 0) return tree.source
  const shown = typeof tree.value === 'string' ? JSON.stringify(cut(tree.value)) : cut(tree.source)
  return tree.filled ? `${shown} (from ${cut(tree.source)})` : shown
}

const cut = (text: string): string =>
  text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN - 1)}…` : text

function isSecretAt(path: readonly PropertyKey[], { schema, plain }: Explaining): boolean {
  let current: z.core.$ZodType | null = schema
  let here = plain
  for (const key of path) {
    if (!current) return false
    if (innerOf(current, here).isSecret) return true
    current = childOf(current, here, key)
    here = (here as Record<PropertyKey, unknown> | null | undefined)?.[key]
  }
  return current !== null && innerOf(current, here).isSecret
}

/** `sinks[0].columns["shop.products"]`. */
export const pathText = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`
    const name = String(key)
    if (!/^[A-Za-z_][\w-]*$/.test(name)) return `${text}[${JSON.stringify(name)}]`
    return text === '' ? name : `${text}.${name}`
  }, '')

/** `source (postgres)`. */
function ownerText(path: readonly PropertyKey[], { tree }: Explaining): string {
  const { tree: owner } = find(tree, path)
  const type = owner?.kind === 'dict' ? owner.entries.get('type')?.tree : undefined
  const name = type?.kind === 'leaf' && typeof type.value === 'string' ? ` (${type.value})` : ''
  return `${pathText(path)}${name}`
}

/** The tree at a path, and where its key stands. */
function find(tree: Tree, path: readonly PropertyKey[]): { tree: Tree | null; keyAt: number } {
  let here: Tree | null = tree
  let keyAt = tree.at
  for (const key of path) {
    if (here?.kind === 'list') {
      here = here.items[Number(key)] ?? null
      keyAt = here?.at ?? keyAt
    } else {
      const entry: { at: number; tree: Tree } | undefined =
        here?.kind === 'dict' ? here.entries.get(String(key)) : undefined
      here = entry?.tree ?? null
      keyAt = entry?.at ?? keyAt
    }
  }
  return { tree: here, keyAt }
}
