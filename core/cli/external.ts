/**
 * Loads the connectors that pipelines name by file or package, which is to run their code. Paths are from the current directory; a
 * package is looked for from there, then beside Millrace itself. Only what stands on this machine: no URL is ever fetched.
 */
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { resolve as resolveModule } from 'import-meta-resolve'
import { connectorIn, isFileName, type NamedModule, packageOf } from '../pipeline/external.ts'
import type { Registry } from '../pipeline/schema.ts'

const HERE = fileURLToPath(import.meta.url)

/** What is built in, and what could be loaded of these; why the others could not stands in `refused`. */
export async function withExternal(builtIn: Registry, named: readonly NamedModule[]): Promise<Registry> {
  if (named.length === 0) return builtIn
  const all = { source: new Map(builtIn.sources), sink: new Map(builtIn.sinks) }
  const refused = { source: new Map<string, string>(), sink: new Map<string, string>() }
  for (const { kind, type } of named) {
    const module = await loaded(type)
    const names = new Set(
      [...(kind === 'source' ? builtIn.sources : builtIn.sinks).values()].map(one => one.name),
    )
    const found = 'why' in module ? module : connectorIn(module.exports, kind, names)
    if ('why' in found) refused[kind].set(type, found.why)
    else (all[kind] as Map<string, unknown>).set(type, found.connector)
  }
  return {
    sources: all.source,
    sinks: all.sink,
    refused: { 'source.type': refused.source, 'sinks[].type': refused.sink },
  }
}

type Loaded = { readonly exports: Readonly<Record<string, unknown>> } | { readonly why: string }

async function loaded(type: string): Promise<Loaded> {
  const found = isFileName(type) ? fileOf(type) : packageAt(type)
  if ('why' in found) return found
  try {
    return { exports: await import(found.url) }
  } catch (error) {
    return { why: `it cannot be loaded: ${reasonOf(error, found.url)}` }
  }
}

type Found = { readonly url: string } | { readonly why: string }

function fileOf(type: string): Found {
  const path = resolve(type)
  return existsSync(path)
    ? { url: pathToFileURL(path).href }
    : { why: `there is no file ${path} (paths are from the current directory)` }
}

/** Where Node.js would find it: in the node_modules of a folder or of one above it. */
function packageAt(type: string): Found {
  const name = packageOf(type)
  const from = [join(process.cwd(), 'pipeline'), HERE].find(place => isBelow(dirname(place), name))
  if (!from)
    return {
      why: `there is no package ${name} in node_modules of ${process.cwd()}, of a folder above it, or beside Millrace; npm install ${name}`,
    }
  try {
    return { url: resolveModule(type, pathToFileURL(from).href) }
  } catch (error) {
    return { why: `it cannot be loaded: ${(error as Error).message}` }
  }
}

function isBelow(folder: string, name: string): boolean {
  for (let here = folder; ; here = dirname(here)) {
    if (existsSync(join(here, 'node_modules', name))) return true
    if (here === dirname(here)) return false
  }
}

function reasonOf(error: unknown, url: string): string {
  if (!(error instanceof Error)) return String(error)
  const { name, message, stack = '' } = error
  const [, missing] = /^Cannot find package '([^']+)'/.exec(message) ?? []
  if (missing) return `${message}; npm install ${missing}`
  const path = fileURLToPath(url)
  const at = [`${url}:`, `${path}:`].map(place => stack.split(place)[1]).find(rest => rest !== undefined)
  const where = at === undefined ? '' : ` (line ${Number.parseInt(at, 10)} of ${path})`
  // Of what it cannot parse Node.js tells the place only to who runs it.
  const more = where === '' && name === 'SyntaxError' ? `; see where: node --check ${path}` : ''
  return `${name}: ${message.split('\n')[0]}${where}${more}`
}
