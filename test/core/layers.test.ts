/**
 * Who may import whom (core/ARCHITECTURE.md, "Layers"), and the house rules a tool can check: sizes, names, one vendor one
 * place, no cycles, no file nobody imports.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const CONTRACT = [
  ...['core/record.ts', 'core/errors.ts', 'core/row.ts', 'core/connector.ts', 'core/secrets.ts'],
  'core/zstd.ts',
  'core/sdk.ts',
]
/** Where this program is entered, and what plugins import as `millrace`. */
const ENTRIES = ['core/cli/main.ts', 'core/sdk.ts']

function filesBelow(folder: string): string[] {
  const path = join(ROOT, folder)
  return readdirSync(path).flatMap(name => {
    const below = `${folder}/${name}`
    if (statSync(join(ROOT, below)).isDirectory()) return filesBelow(below)
    return /\.(ts|mjs)$/.test(name) ? [below] : []
  })
}

const files = [...filesBelow('core'), ...filesBelow('connectors')]
const tests = [...filesBelow('test'), ...filesBelow('scripts')]
const parsed = new Map(
  [...files, ...tests].map(file => [
    file,
    ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.ES2023, true),
  ]),
)

/** Relative imports as paths from the root; others by package name. */
function importsOf(file: string): { local: string[]; packages: string[] } {
  const local: string[] = []
  const packages: string[] = []
  const note = (specifier: string) => {
    if (specifier.startsWith('.')) local.push(normalize(join(dirname(file), specifier)))
    else if (!specifier.startsWith('node:'))
      packages.push(
        specifier
          .split('/')
          .slice(0, specifier.startsWith('@') ? 2 : 1)
          .join('/'),
      )
  }
  const visit = (node: ts.Node): void => {
    if (
      (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) &&
      node.moduleSpecifier &&
      ts.isStringLiteral(node.moduleSpecifier)
    )
      note(node.moduleSpecifier.text)
    if (
      ts.isCallExpression(node) &&
      node.expression.kind === ts.SyntaxKind.ImportKeyword &&
      ts.isStringLiteral(node.arguments[0]!)
    )
      note(node.arguments[0].text)
    ts.forEachChild(node, visit)
  }
  visit(parsed.get(file)!)
  return { local, packages }
}

const layerOf = (file: string): string => {
  if (CONTRACT.includes(file)) return 'contract'
  if (file === 'core/pump.ts' || file === 'core/flow.ts') return 'flow'
  if (file.startsWith('connectors/')) return `connectors/${file.split('/')[1]}`
  return file.split('/')[1]!
}
/** What connectors of one kind share; such a folder defines none and imports no vendor's client. */
const FAMILIES = ['connectors/search', 'connectors/object', 'connectors/sql']
const PLANE = ['log', 'queue', 'pipeline', 'transform', 'format', 'document']
/** What a layer may import besides itself. */
function allowed(layer: string, target: string): boolean {
  if (target === 'contract') return true
  if (layer === 'contract') return false
  // The client of Kafka is the log's and a connector's.
  if (target === 'kafka') return ['log', 'hub', 'connectors/kafka'].includes(layer)
  if (layer === 'kafka') return false
  if (target === 'flow') return layer !== 'format' && !layer.startsWith('connectors/')
  if (layer === 'flow') return false
  if (layer.startsWith('connectors/'))
    return (
      target === 'format' ||
      layer === 'connectors/index.ts' ||
      (FAMILIES.includes(target) && !FAMILIES.includes(layer))
    )
  if (PLANE.includes(layer)) return false
  const order = [...PLANE, 'worker', 'hub', 'cli']
  return order.includes(target) && order.indexOf(target) < order.indexOf(layer)
}
/** Contract files of a folder, which other folders of the data plane may import. */
const CONTRACT_OF_FOLDER = ['core/log/log.ts', 'core/queue/queue.ts', 'core/transform/transform.ts']

describe('layers', () => {
  it('only imports what its layer may', () => {
    const broken: string[] = []
    for (const file of files)
      for (const target of importsOf(file).local) {
        const [from, to] = [layerOf(file), layerOf(target)]
        const isRoot = file === 'core/cli/main.ts' && target.startsWith('connectors/')
        if (from === to || isRoot || CONTRACT_OF_FOLDER.includes(target) || allowed(from, to)) continue
        broken.push(`${file} (${from}) imports ${target} (${to})`)
      }
    expect(broken).toEqual([])
  })

  it('has no cycles', () => {
    const state = new Map<string, 'open' | 'done'>()
    const visit = (file: string, path: readonly string[]): void => {
      if (state.get(file) === 'done' || !parsed.has(file)) return
      if (state.get(file) === 'open')
        throw new Error(`cycle: ${[...path.slice(path.indexOf(file)), file].join(' → ')}`)
      state.set(file, 'open')
      for (const target of importsOf(file).local) visit(target, [...path, file])
      state.set(file, 'done')
    }
    for (const file of [...files, ...tests]) visit(file, [])
  })

  it('keeps each vendor in one place', () => {
    const places = new Map<string, Set<string>>()
    for (const file of files)
      for (const name of importsOf(file).packages)
        places.set(
          name,
          (places.get(name) ?? new Set()).add(
            file.startsWith('connectors/')
              ? file.split('/').slice(0, 2).join('/')
              : file.split('/').slice(0, 2).join('/'),
          ),
        )
    // mysql2 speaks to two databases that are two connectors; libsql is both a sink's vendor and the state file's, ioredis a connector's
    // and the queue's, lz4-napi both logs', snappy theirs and Parquet's; zod is the language of every definition.
    const free = ['zod', 'libsql', 'ioredis', 'lz4-napi', 'mysql2', 'snappy']
    const many = [...places]
      .filter(([name, where]) => where.size > 1 && !free.includes(name))
      .map(([name, where]) => `${name}: ${[...where].join(', ')}`)
    expect(many).toEqual([])
  })

  it('has no file that nobody imports', () => {
    const imported = new Set([...files, ...tests].flatMap(file => importsOf(file).local))
    expect(files.filter(file => !imported.has(file) && !ENTRIES.includes(file))).toEqual([])
  })
})

const lineOf = (source: ts.SourceFile, at: number): number => source.getLineAndCharacterOfPosition(at).line
const linesOf = (node: ts.Node): number => {
  const source = node.getSourceFile()
  return lineOf(source, node.end) - lineOf(source, node.getStart()) + 1
}
const isFunction = (node: ts.Node): boolean => ts.isFunctionLike(node) && 'body' in node && !!node.body
/** What `describe` is given: tests, however many. */
const isList = ({ parent }: ts.Node): boolean =>
  ts.isCallExpression(parent) && parent.expression.getText().startsWith('describe')
/** Of the functions in it, which are not counted where tests are: a kit is its tests, a model its requests. */
function linesInside(node: ts.Node): number {
  let lines = 0
  ts.forEachChild(node, child => {
    lines += isFunction(child) ? linesOf(child) - 1 : linesInside(child)
  })
  return lines
}

describe('house rules', () => {
  it('keeps files within 400 lines and functions within 70', () => {
    const long: string[] = []
    for (const [file, source] of parsed) {
      const isTest = tests.includes(file)
      if (lineOf(source, source.end) > 400) long.push(`${file}: ${lineOf(source, source.end)} lines`)
      const visit = (node: ts.Node): void => {
        if (isFunction(node) && !(isTest && isList(node))) {
          const lines = linesOf(node) - (isTest ? linesInside(node) : 0)
          if (lines > 70)
            long.push(`${file}:${lineOf(source, node.getStart()) + 1}: a function of ${lines} lines`)
        }
        ts.forEachChild(node, visit)
      }
      visit(source)
    }
    expect(long).toEqual([])
  })

  it('opens each file with what it is for', () => {
    expect(
      files.filter(file => !/^(#!.*\n)?\s*(\/\*\*|\/\/)/.test(readFileSync(join(ROOT, file), 'utf8'))),
    ).toEqual([])
  })

  it('has no dumping ground by name and no left-over marks', () => {
    expect(
      files.filter(file => /(^|[/-])(util|helper|common|misc|manager|base|impl)s?\.ts$/i.test(file)),
    ).toEqual([])
    const marks = [...files, ...tests].filter(
      file =>
        /\b(TODO|FIXME|XXX)\b|\b(it|describe|test)\.only\(/.test(readFileSync(join(ROOT, file), 'utf8')) &&
        !file.endsWith('layers.test.ts'),
    )
    expect(marks).toEqual([])
  })

  it('has a conformance test for every connector', () => {
    const connectors = readdirSync(join(ROOT, 'connectors'), { withFileTypes: true })
      .filter(entry => entry.isDirectory() && !FAMILIES.includes(`connectors/${entry.name}`))
      .map(entry => entry.name)
    const tested = connectors.filter(name => {
      const folder = `test/connectors/${name}`
      try {
        return filesBelow(folder).some(file => readFileSync(join(ROOT, file), 'utf8').includes('onformance('))
      } catch {
        return false
      }
    })
    expect(tested).toEqual(connectors)
  })

  it('imports connectors in core/ from the composition root only', () => {
    expect(
      files.filter(
        file =>
          file.startsWith('core/') &&
          file !== 'core/cli/main.ts' &&
          importsOf(file).local.some(target => target.startsWith('connectors/')),
      ),
    ).toEqual([])
  })
})
