/**
 * A tree through a zod schema: zod's issues become mistakes at their places, with the value and the right name. Texts that
 * were one reference as a whole are typed as YAML would type them, where the schema wants a number or a boolean.
 */
import { parse } from 'yaml'
import type { z } from 'zod'
import type { Secrets } from '../secrets.ts'
import type { Leaf, Read, Tree } from './document.ts'
import { explain, type Issue, NO_WORDS } from './explain.ts'
import { addSecrets } from './masked.ts'
import type { Mistake } from './mistake.ts'
import type { NotBuilt } from './not-built.ts'
import type { Refused } from './schema.ts'

export interface Validated<S extends z.ZodType> {
  /** null: see `mistakes`. */
  readonly value: z.output<S> | null
  readonly mistakes: readonly Mistake[]
}

export interface ValidateOptions {
  readonly secrets: Secrets
  readonly notBuilt: NotBuilt
  /** Values that are known and not taken, and why. */
  readonly refused?: Refused
}

export function validated<S extends z.ZodType>(
  schema: S,
  tree: Tree,
  read: Read,
  { secrets, notBuilt, refused = {} }: ValidateOptions,
): Validated<S> {
  const typed = new Map<Leaf, unknown>()
  addFileSecrets(tree, secrets)
  const parsed = () => schema.safeParse(plainOf(tree, typed), { error: ownMessage })
  let result = parsed()
  addSecrets(schema, plainOf(tree, typed), secrets)
  if (!result.success && retype(result.error.issues as Issue[], tree, typed)) result = parsed()
  if (result.success) return { value: result.data, mistakes: [] }
  const said = explain(result.error.issues as Issue[], {
    schema,
    tree,
    plain: plainOf(tree, typed),
    notBuilt,
    refused,
  })
  return {
    value: null,
    mistakes: said.map(({ at, message }) => read.mistakeAt(at, secrets.redact(message))),
  }
}

const ownMessage = () => NO_WORDS

function addFileSecrets(tree: Tree, secrets: Secrets): void {
  for (const leaf of leavesOf(tree)) for (const text of leaf.filled?.fromFiles ?? []) secrets.add(text)
}

/** Each leaf once, however many aliases stand for it. */
export function leavesOf(tree: Tree, seen = new Set<Tree>()): Leaf[] {
  if (seen.has(tree)) return []
  seen.add(tree)
  if (tree.kind === 'leaf') return [tree]
  const below = tree.kind === 'list' ? tree.items : [...tree.entries.values()].map(one => one.tree)
  return below.flatMap(one => leavesOf(one, seen))
}

export function plainOf(tree: Tree, typed: ReadonlyMap<Leaf, unknown>): unknown {
  if (tree.kind === 'leaf') return typed.has(tree) ? typed.get(tree) : tree.value
  if (tree.kind === 'list') return tree.items.map(item => plainOf(item, typed))
  const out: Record<string, unknown> = {}
  // A key named __proto__ is a key.
  for (const [key, entry] of tree.entries)
    Object.defineProperty(out, key, {
      value: plainOf(entry.tree, typed),
      enumerable: true,
      configurable: true,
      writable: true,
    })
  return out
}

const WANTS_TYPE = new Set(['number', 'int', 'boolean', 'bigint'])

function wantsType(issue: Issue): boolean {
  if (issue.code === 'invalid_type') return WANTS_TYPE.has(issue.expected ?? '')
  if (issue.code === 'invalid_value') return issue.values?.some(value => typeof value !== 'string') === true
  return issue.errors?.some(branch => branch.some(one => one.path.length === 0 && wantsType(one))) === true
}

function retype(issues: readonly Issue[], tree: Tree, typed: Map<Leaf, unknown>): boolean {
  let any = false
  for (const issue of issues) {
    const leaf = treeAt(tree, issue.path)
    if (leaf?.kind !== 'leaf' || !leaf.filled?.isWhole || !wantsType(issue)) continue
    const value = asPlain(String(leaf.value))
    if (value === undefined) continue
    typed.set(leaf, value)
    any = true
  }
  return any
}

/** What YAML makes of a text without quotes, when that is no text. */
function asPlain(text: string): number | boolean | undefined {
  if (!/^[\w.+-]{1,40}$/.test(text)) return undefined
  const value: unknown = parse(text)
  return typeof value === 'number' || typeof value === 'boolean' ? value : undefined
}

export function treeAt(tree: Tree, path: readonly PropertyKey[]): Tree | null {
  let here: Tree | undefined = tree
  for (const key of path) {
    if (here?.kind === 'list') here = here.items[Number(key)]
    else here = here?.kind === 'dict' ? here.entries.get(String(key))?.tree : undefined
  }
  return here ?? null
}
