/**
 * Connectors that are not built in: `type:` names the module that exports them, a file or a package. Here: which names those are, and
 * what such a module must export. To load it is the program's (cli/external.ts): who names a module has its code run.
 */
import { isAbsolute } from 'node:path'
import type { z } from 'zod'
import type { Sink, Source } from '../connector.ts'
import { entryOf, readYaml, type Tree, textOf, type YamlFile } from './document.ts'
import { oneOf } from './mistake.ts'
import type { ReferenceSources } from './reference.ts'

export type ConnectorKind = 'source' | 'sink'

export interface NamedModule {
  readonly kind: ConnectorKind
  /** `./sinks/fax.mjs`, `millrace-sink-fax`, `@acme/fax`. */
  readonly type: string
}

export const isFileName = (type: string): boolean => /^\.{1,2}[\\/]/.test(type) || isAbsolute(type)

/** Packages say by their names what they are for; every other word is one of ours, or a slip of the pen. */
const isPackageName = (type: string): boolean =>
  /^(@[a-z0-9-~][\w.~-]*\/|millrace-)[a-z0-9-~][\w.~-]*(\/[\w.~-]+)*$/.test(type) && !type.includes('/..')

/** Without what stands behind it: a package may have several modules. */
export const packageOf = (type: string): string =>
  type
    .split('/')
    .slice(0, type.startsWith('@') ? 2 : 1)
    .join('/')

/** The modules that pipelines name, each once. What is wrong with the files is told by whoever parses them. */
export function modulesOf(files: readonly YamlFile[], sources: ReferenceSources): readonly NamedModule[] {
  const found = new Map<string, NamedModule>()
  const note = (kind: ConnectorKind, tree: Tree | undefined) => {
    const type = textOf(tree, 'type')
    if (type !== null && (isFileName(type) || isPackageName(type)))
      found.set(`${kind} ${type}`, { kind, type })
  }
  for (const file of files) {
    const tree = readYaml(file, sources).tree ?? undefined
    note('source', entryOf(tree, 'source')?.tree)
    const sinks = entryOf(tree, 'sinks')?.tree
    if (sinks?.kind === 'list') for (const sink of sinks.items) note('sink', sink)
  }
  return [...found.values()]
}

type Dict = Readonly<Record<string, unknown>>
const isDict = (value: unknown): value is Dict => typeof value === 'object' && value !== null

const NEEDED = ['name', 'summary', 'config', 'examples', 'check', 'open'] as const
const ONLY: Readonly<Record<ConnectorKind, readonly string[]>> = {
  source: ['plan'],
  sink: ['delivery', 'keyed'],
}
/** Functions that may be left out. */
const OPTIONAL: Readonly<Record<ConnectorKind, readonly string[]>> = {
  source: ['drop'],
  sink: ['target', 'plan', 'forget', 'search'],
}
const OTHER: Readonly<Record<ConnectorKind, ConnectorKind>> = { source: 'sink', sink: 'source' }

/** An object that is meant as a connector, however much it lacks. */
const isMeant = (value: unknown): value is Dict =>
  isDict(value) && NEEDED.filter(member => member in value).length >= 3

/** What only sinks have tells them from sources; with neither it is what it is used as. */
function kindOf(value: Dict, usedAs: ConnectorKind): ConnectorKind {
  if (ONLY.sink.some(member => member in value)) return 'sink'
  return 'plan' in value ? 'source' : usedAs
}

/** The one connector of this kind that a module exports, or why there is none. `taken`: the names of those built in. */
export function connectorIn(
  module: Dict,
  kind: ConnectorKind,
  taken: ReadonlySet<string>,
): { readonly connector: Source | Sink } | { readonly why: string } {
  const all = [...new Set(Object.values(module).filter(isMeant))]
  const [one, ...rest] = all.filter(value => kindOf(value, kind) === kind)
  if (!one)
    return {
      why:
        all.length > 0
          ? `it exports a ${OTHER[kind]}, and no ${kind}`
          : `it exports no ${kind}; make one with ${kind === 'sink' ? 'defineSink' : 'defineSource'} of "millrace", and export it`,
    }
  if (rest.length > 0)
    return {
      why: `it exports several ${kind}s (${[one, ...rest].map(value => String(value.name)).join(', ')}); give each a module of its own`,
    }
  const why = lackOf(one, kind, taken)
  return why === null ? { connector: one as unknown as Source | Sink } : { why }
}

function lackOf(one: Dict, kind: ConnectorKind, taken: ReadonlySet<string>): string | null {
  const needed = [...NEEDED, ...ONLY[kind]]
  const lacks = needed.filter(member => one[member] === undefined)
  if (lacks.length > 0)
    return `its ${kind} lacks ${lacks.join(', ')}; a ${kind} has ${needed.join(', ')} (docs/connectors.md)`
  const { name, summary, config, examples } = one
  if (typeof name !== 'string' || !/^[a-z][a-z0-9]{0,39}$/.test(name))
    return `its ${kind} is named ${JSON.stringify(name)}: must be of a-z and 0-9, begin with a letter, and be at most 40 long`
  if (taken.has(name) || name === 'source')
    return `its ${kind} is named "${name}", as one that is built in; give it a name of its own`
  if (typeof summary !== 'string') return `summary of its ${kind} ${name} must be a text`
  if (!Array.isArray(examples)) return `examples of its ${kind} ${name} must be a list`
  const methods = [...needed.slice(4), ...OPTIONAL[kind].filter(member => one[member] !== undefined)]
  const wrong = methods.find(member => typeof one[member] !== 'function')
  if (wrong) return `${wrong} of its ${kind} ${name} must be a function`
  const bad = badConfig(config, kind)
  return bad === null ? null : `config of its ${kind} ${name} ${bad}`
}

/** From this on copies of zod share what `.meta` says, which texts are secret above all. */
const OLDEST_ZOD = [4, 2] as const
const RESERVED: Readonly<Record<ConnectorKind, readonly string[]>> = {
  source: ['type', 'transforms'],
  sink: ['type', 'name', 'only', 'transforms'],
}

/** By what zod keeps of itself, not by `instanceof`: the module may have a copy of its own. */
function badConfig(config: unknown, kind: ConnectorKind): string | null {
  const zod = isDict(config) ? (config as unknown as Partial<z.ZodObject>)._zod : undefined
  if (!zod) return `must be a z.strictObject of zod ${OLDEST_ZOD.join('.')} or newer`
  const { def, version } = zod
  const { major, minor } = version
  if (major < OLDEST_ZOD[0] || (major === OLDEST_ZOD[0] && minor < OLDEST_ZOD[1]))
    return `is made by zod ${major}.${minor}, and must be by ${OLDEST_ZOD.join('.')} or newer`
  if (def.type !== 'object' || def.catchall?._zod.def.type !== 'never') return 'must be a z.strictObject'
  const clash = RESERVED[kind].find(key => key in def.shape)
  return clash === undefined
    ? null
    : `has "${clash}", which is a key of pipelines: ${oneOf(RESERVED[kind])} cannot be its own`
}
