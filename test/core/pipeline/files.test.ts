/** The files people copy are valid, what is generated is not stale, and editors are told the same as the parser tells. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { connectors } from '../../../connectors/index.ts'
import { jsonSchemaOf } from '../../../core/pipeline/json-schema.ts'
import { mistakeText, parsePipelines } from '../../../core/pipeline/parse.ts'
import { pipelineSchema } from '../../../core/pipeline/schema.ts'
import { generated } from '../../../scripts/reference.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const read = (path: string) => readFileSync(`${ROOT}${path}`, 'utf8')
const files = readdirSync(`${ROOT}pipelines`)
  .filter(name => name.endsWith('.yaml'))
  .map(name => ({ path: `pipelines/${name}`, text: read(`pipelines/${name}`) }))

const accepts = new Ajv2020({ strict: false }).compile(jsonSchemaOf(pipelineSchema(connectors)) as object)
const isAccepted = (yaml: string): boolean => accepts(parse(yaml)) as boolean
const noFiles = () => {
  throw new Error('no file is read')
}

describe('pipelines/', () => {
  it('holds no mistake, also without any environment, and no two of one name', () => {
    expect(files.length).toBeGreaterThanOrEqual(5)
    const { mistakes, pipelines } = parsePipelines(files, { connectors, env: {}, readFile: noFiles })
    expect(mistakes.map(mistakeText)).toEqual([])
    expect(pipelines.map(one => `pipelines/${one.name}.yaml`)).toEqual(files.map(one => one.path))
  })

  it.each(files)('$path names the schema for editors, which accepts it', ({ text }) => {
    expect(text).toMatch(/^# yaml-language-server: \$schema=\.\/pipeline\.schema\.json\n/)
    expect(isAccepted(text), JSON.stringify(accepts.errors)).toBe(true)
  })
})

describe('pipeline.schema.json', () => {
  const [text] = files.filter(one => one.path.endsWith('shop-search.yaml')).map(one => one.text)

  it.each([
    ['a misspelt key at the top', 'sinks:', 'sink:'],
    ['a misspelt key of the source', 'tables:', 'tabels:'],
    ['a misspelt key of a sink', 'path:', 'paht:'],
    ['an unknown connector', 'type: sqlite', 'type: sqlight'],
    ['a key of another connector', 'path:', 'url: x\n    path:'],
    ['a missing key', /url: .*\n/, '\n'],
    ['a text for a list', /tables: .*/, 'tables: shop.products'],
    ['a text for a number', 'tables:', 'heartbeat_ms: soon\n  tables:'],
    [
      'two verbs in one step',
      'sinks:',
      'transforms: [{ drop: { fields: [a] }, mask: { fields: [b] } }]\nsinks:',
    ],
    ['what is not built', 'sinks:', 'documents: {}\nsinks:'],
  ])('refuses %s', (_, from, to) => {
    expect(isAccepted(text!)).toBe(true)
    expect(isAccepted(text!.replace(from, to))).toBe(false)
  })

  it('takes references where a number, a boolean or a word stands', () => {
    const more = 'heartbeat_ms: ${env:MS:-1000}\n  tables:'
    const log =
      'log: { compression: "${env:C}", partitions: "${env:P}" }\nlimits: { log_bytes: "${file:b}" }\nsinks:'
    const yaml = text!.replace('tables:', more).replace('sinks:', log)
    expect(isAccepted(yaml), JSON.stringify(accepts.errors)).toBe(true)
  })

  it('takes connectors of somebody else, by file or package, with whatever keys they have', () => {
    for (const type of ['./connectors/fax.mjs', '../fax.mjs', '/opt/fax.mjs', 'millrace-fax', '@acme/fax'])
      expect(isAccepted(text!.replace('type: sqlite', `type: "${type}"\n    number: 12`)), type).toBe(true)
    expect(isAccepted(text!.replace('type: sqlite', 'type: fax'))).toBe(false)
  })

  it('holds no mark of secrets, and describes every key', () => {
    const without: string[] = []
    const walk = (schema: unknown, path: string): void => {
      if (typeof schema !== 'object' || schema === null) return
      for (const [keyword, value] of Object.entries(schema)) {
        expect(keyword).not.toBe('secret')
        if (keyword === 'properties' && !path.endsWith('if'))
          for (const [key, one] of Object.entries(
            value as Record<string, { title?: string; description?: string }>,
          ))
            if (!one.title || !one.description) without.push(`${path}.${key}`)
        walk(value, `${path}.${keyword}`)
      }
    }
    walk(jsonSchemaOf(pipelineSchema(connectors)), '')
    expect(without).toEqual([])
  })
})

describe('what is generated', () => {
  const texts = generated(connectors)

  it.each([...texts.keys()])('%s is as the definitions are: else `npm run generate`', path => {
    expect(existsSync(`${ROOT}${path}`), `${path} is missing`).toBe(true)
    expect(read(path)).toBe(texts.get(path))
  })

  it('leaves no page behind of what is gone', () => {
    const pages = readdirSync(`${ROOT}docs/reference`, { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.md'))
      .map(name => `docs/reference/${name}`)
    expect(pages.sort()).toEqual([...texts.keys()].filter(path => path.endsWith('.md')).sort())
  })

  const references = (text: string): string[] =>
    [...text.matchAll(/\$\{env:(\w+)\}/g)].map(([, name]) => name!)

  it('documents each example of each connector as a pipeline that is valid', () => {
    for (const [kind, all] of [
      ['source', connectors.sources],
      ['sink', connectors.sinks],
    ] as const)
      for (const { name, examples } of all.values())
        for (const { config } of examples) {
          const section = { type: name, ...(config as object) }
          const pipeline = {
            name: 'x',
            source: kind === 'source' ? section : { type: 'generate' },
            sinks: kind === 'sink' ? [section] : [],
          }
          const { mistakes } = parsePipelines([{ path: 'x.yaml', text: JSON.stringify(pipeline) }], {
            connectors,
            env: Object.fromEntries(
              references(JSON.stringify(config)).map(name => [name, 'http://localhost']),
            ),
            readFile: noFiles,
          })
          expect(mistakes.map(mistakeText)).toEqual([])
          expect(accepts(pipeline), JSON.stringify(accepts.errors)).toBe(true)
        }
  })
})
