/**
 * YAML text to a tree that knows where each key and value stands. Every mistake of the text is reported, none throws: syntax,
 * keys written twice, aliases that name nothing or themselves, several documents in one file. Aliases and merge keys (`<<`)
 * are resolved; references in texts are filled. What the keys mean is not known here.
 */
import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Pair,
  type ParsedNode,
  parseAllDocuments,
  type YAMLMap,
} from 'yaml'
import type { Mistake } from './mistake.ts'
import { type Filled, fill, type ReferenceSources } from './reference.ts'
import { shown, syntaxMistakes } from './syntax.ts'

interface Placed {
  /** Index into the text. */
  readonly at: number
}
export interface Leaf extends Placed {
  readonly kind: 'leaf'
  readonly value: null | boolean | number | string
  /** As it was written. */
  readonly source: string
  readonly filled: Filled | null
  /** What it should have been is not known, and was reported. */
  readonly isBroken: boolean
}
export interface List extends Placed {
  readonly kind: 'list'
  readonly items: readonly Tree[]
}
export interface Dict extends Placed {
  readonly kind: 'dict'
  /** `at` of an entry: its key. */
  readonly entries: ReadonlyMap<string, { readonly at: number; readonly tree: Tree }>
}
export type Tree = Leaf | List | Dict

export const entryOf = (tree: Tree | undefined, key: string) =>
  tree?.kind === 'dict' ? tree.entries.get(key) : undefined

export const textOf = (tree: Tree | undefined, key: string): string | null => {
  const value = entryOf(tree, key)?.tree
  return value?.kind === 'leaf' && typeof value.value === 'string' ? value.value : null
}

export interface YamlFile {
  readonly path: string
  readonly text: string
}

export interface Read {
  /** null: the text is not to be trusted, `mistakes` says why; or it is empty. */
  readonly tree: Tree | null
  readonly mistakes: readonly Mistake[]
  mistakeAt(at: number, message: string): Mistake
}

/** More than any pipeline needs; fewer than hurt: ten lines of aliases to aliases can stand for billions of values. */
const MOST_VALUES = 100_000
const DEEPEST = 100

export function readYaml({ path, text: given }: YamlFile, sources: ReferenceSources): Read {
  const text = given.startsWith('\ufeff') ? given.slice(1) : given
  const place = placesIn(text)
  const mistakes: Mistake[] = []
  const mistakeAt = (at: number, message: string): Mistake => {
    return { file: path, ...place(at), message }
  }
  const report = (at: number, message: string) => void mistakes.push(mistakeAt(at, message))
  const documents = documentsOf(text, report)
  const syntax = documents.flatMap(one => syntaxMistakes(one, text))
  for (const { at, message } of syntax) report(at, message)
  const isBroken = mistakes.length > 0
  if (documents.length > 1)
    report(
      documents[1]!.contents?.range[0] ?? documents[1]!.range[0],
      'a second document (after ---) in one file: write it to a file of its own',
    )
  const root = documents[0]?.contents
  if (!root || isBroken) return { tree: null, mistakes, mistakeAt }
  const building: Building = {
    document: documents[0]!,
    text,
    sources,
    report,
    built: new Map(),
    open: new Set(),
    sizes: new Map(),
  }
  const tree = built(root, building, 0)
  const isTooBig = (building.sizes.get(tree) ?? 0) > MOST_VALUES
  if (isTooBig) report(root.range[0], `stands for more than ${MOST_VALUES} values`)
  return { tree: isTooBig ? null : tree, mistakes, mistakeAt }
}

/** Line and column of an index. The parser's own counter loses lines in broken flow collections. */
function placesIn(text: string): (at: number) => { line: number; column: number } {
  const starts = [0]
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1)
  return given => {
    const at = Math.min(Math.max(given, 0), text.length)
    let [low, high] = [0, starts.length - 1]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (starts[middle]! <= at) low = middle
      else high = middle - 1
    }
    return { line: low + 1, column: at - starts[low]! + 1 }
  }
}

type Parsed = Document.Parsed<ParsedNode>

function documentsOf(text: string, report: (at: number, message: string) => void): readonly Parsed[] {
  try {
    // Twins among keys are found below, with a better message.
    const options = { merge: true, uniqueKeys: false, prettyErrors: false, logLevel: 'silent' }
    const documents = parseAllDocuments(text, options as object)
    return 'empty' in documents ? [] : documents
  } catch (error) {
    report(0, `cannot be read as YAML: ${error instanceof Error ? error.message : String(error)}`)
    return []
  }
}

interface Building {
  readonly document: Parsed
  readonly text: string
  readonly sources: ReferenceSources
  readonly report: (at: number, message: string) => void
  /** An anchor is built once, however many aliases name it. */
  readonly built: Map<unknown, Tree>
  readonly open: Set<unknown>
  /** Values a tree stands for, aliases counted each time. */
  readonly sizes: Map<Tree, number>
}

const nothing = (at: number, isBroken: boolean): Leaf => ({
  kind: 'leaf',
  at,
  value: null,
  source: '',
  filled: null,
  isBroken,
})

function built(node: unknown, building: Building, depth: number, fallbackAt = 0): Tree {
  const { report, open, built: known, sizes } = building
  const at = rangeOf(node)?.[0] ?? fallbackAt
  if (isAlias(node)) return aliasOf(node, building, depth, at)
  const before = known.get(node)
  if (before) return before
  if (depth > DEEPEST) {
    report(at, `is nested more than ${DEEPEST} deep`)
    return nothing(at, true)
  }
  open.add(node)
  const tree = builtNew(node, building, depth, at)
  open.delete(node)
  known.set(node, tree)
  sizes.set(tree, sizeOf(tree, sizes))
  return tree
}

function builtNew(node: unknown, building: Building, depth: number, at: number): Tree {
  if (isMap(node)) return { kind: 'dict', at, entries: entriesOf(node, building, depth, at) }
  if (isSeq(node)) {
    const items = node.items.map(item => built(item, building, depth + 1, at))
    return { kind: 'list', at, items }
  }
  return isScalar(node) ? leafOf(node.value, rangeOf(node), building, at) : nothing(at, false)
}

const rangeOf = (node: unknown): readonly [number, number, number] | undefined =>
  (node as { range?: [number, number, number] | null } | null)?.range ?? undefined

function sizeOf(tree: Tree, sizes: Map<Tree, number>): number {
  const children =
    tree.kind === 'leaf'
      ? []
      : tree.kind === 'list'
        ? tree.items
        : [...tree.entries.values()].map(one => one.tree)
  let size = 1
  for (const child of children) size += sizes.get(child) ?? 1
  return size
}

function aliasOf(alias: Alias, building: Building, depth: number, at: number): Tree {
  const { document, report, open } = building
  const target = alias.resolve(document)
  if (!target) {
    const { text } = building
    const line = text.slice(text.lastIndexOf('\n', at) + 1, at)
    report(
      at,
      `${shown(`*${alias.source}`, line)} is an alias in YAML, and no anchor (&) of that name comes before it; a text that begins with * stands in quotes: "${shown(`*${alias.source}`, line)}"`,
    )
    return nothing(at, true)
  }
  if (open.has(target)) {
    report(at, `*${alias.source} stands inside what it names`)
    return nothing(at, true)
  }
  return built(target, building, depth + 1, at)
}

function leafOf(
  value: unknown,
  range: readonly [number, number, number] | undefined,
  { text, sources, report }: Building,
  at: number,
): Leaf {
  const source = range ? text.slice(range[0], range[1]) : ''
  if (typeof value !== 'string') {
    const isPlain = value === null || typeof value === 'boolean' || typeof value === 'number'
    return { kind: 'leaf', at, value: isPlain ? value : String(value), source, filled: null, isBroken: false }
  }
  const filled = fill(value, sources)
  for (const mistake of filled.mistakes) {
    // Where the reference stands in the file, unless escapes or folded lines moved it.
    const inSource = source.indexOf(value.slice(mistake.at, mistake.at + 8))
    report(at + Math.max(inSource, 0), mistake.message)
  }
  return {
    kind: 'leaf',
    at,
    value: filled.text,
    source,
    filled: filled.isFilled ? filled : null,
    isBroken: filled.mistakes.length > 0,
  }
}

type Entries = Map<string, { at: number; tree: Tree }>

function entriesOf(map: YAMLMap, building: Building, depth: number, mapAt: number): Entries {
  const own: Entries = new Map()
  const merged: Entries = new Map()
  for (const pair of map.items as Pair[]) {
    const at = rangeOf(pair.key)?.[0] ?? mapAt
    const name = nameOf(pair.key, building, at)
    if (name === null) continue
    if (name === '<<' && isScalar(pair.key) && pair.key.type === 'PLAIN') {
      merge(pair.value, merged, building, depth, at)
      continue
    }
    const twin = own.get(name)
    if (twin) {
      building.report(
        at,
        `"${name}" is written twice; the first is on line ${lineOf(building.text, twin.at)}`,
      )
      continue
    }
    own.set(name, { at, tree: built(pair.value, building, depth + 1, at) })
  }
  for (const [name, entry] of merged) if (!own.has(name)) own.set(name, entry)
  return own
}

const lineOf = (text: string, at: number): number => text.slice(0, at).split('\n').length

function nameOf(key: unknown, building: Building, at: number): string | null {
  const resolved = isAlias(key) ? key.resolve(building.document) : key
  if (!isScalar(resolved)) {
    building.report(at, 'a key must be a text')
    return null
  }
  const { value, source } = resolved
  if (typeof value === 'string') return value
  return typeof source === 'string' ? source : String(value)
}

/** `<<: *defaults` or a list of them: what is written here wins, then the earlier ones. */
function merge(value: unknown, into: Entries, building: Building, depth: number, at: number): void {
  const tree = built(value, building, depth + 1, at)
  for (const one of tree.kind === 'list' ? tree.items : [tree]) {
    if (one.kind !== 'dict') {
      building.report(at, '<< takes a mapping, or a list of mappings')
      continue
    }
    for (const [name, entry] of one.entries) if (!into.has(name)) into.set(name, entry)
  }
}
