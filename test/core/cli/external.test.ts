/** Connectors that are not built in: what is loaded, and what a person reads when it cannot be. Real modules, real files. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { connectors } from '../../../connectors/index.ts'
import { withExternal } from '../../../core/cli/external.ts'
import { parseText, readPipelines, type Setting } from '../../../core/cli/session.ts'
import { jsonSchemaOf } from '../../../core/pipeline/json-schema.ts'
import { mistakeText } from '../../../core/pipeline/parse.ts'
import { pipelineSchema } from '../../../core/pipeline/schema.ts'
import { Secrets } from '../../../core/secrets.ts'
import { generated } from '../../../scripts/reference.ts'

const ZOD = fileURLToPath(new URL('../../../node_modules/zod', import.meta.url))
const before = process.cwd()
let folder: string

function write(name: string, text: string): void {
  mkdirSync(dirname(join(folder, name)), { recursive: true })
  writeFileSync(join(folder, name), text)
}

/** `more` comes last, and so replaces what it names. */
const sinkText = (name: string, more = ''): string => `import { z } from 'zod'
export const ${name} = {
  name: '${name}',
  summary: 'Sends.',
  config: z.strictObject({
    number: z.int().min(1).meta({ title: 'Number', description: 'Whom to call.' }),
    pin: z.string().optional().meta({ title: 'Pin', description: 'Of the line.', secret: true }),
  }),
  examples: [],
  delivery: () => 'at_least_once',
  keyed: () => false,
  async check() {},
  async open() { throw new Error('not opened here') },
  ${more}
}
`
const SOURCE = `import { z } from 'zod'
export default {
  name: 'ear',
  summary: 'Listens.',
  config: z.strictObject({ rooms: z.array(z.string()).default([]) }),
  examples: [],
  async check() {},
  async plan() { return { tables: [], upstream: [] } },
  async open() { throw new Error('not opened here') },
}
`

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-external-'))
  // A copy of its own, as a package may have one.
  cpSync(ZOD, join(folder, 'node_modules/zod'), { recursive: true })
  process.chdir(folder)
})
afterAll(() => {
  process.chdir(before)
  rmSync(folder, { recursive: true, force: true })
})

let files = 0
async function read(yaml: string, env: NodeJS.ProcessEnv = {}) {
  const file = `${++files}.yaml`
  write(file, `name: p\n${yaml}`)
  const secrets = new Secrets()
  const setting: Setting = { connectors, secrets, env }
  const { pipelines, mistakes } = await readPipelines(setting, [file])
  return { pipelines, secrets, said: mistakes.map(one => mistakeText(one).replace(file, 'p.yaml')) }
}
const withSink = (type: string, keys = ''): string =>
  `source: { type: generate }\nsinks:\n  - type: "${type}"\n${keys}`

describe('a connector of somebody else', () => {
  it('is loaded from a file, whose path is from the current directory', async () => {
    write('connectors/fax.mjs', sinkText('fax'))
    write('connectors/ear.mjs', SOURCE)
    const { pipelines, said } = await read(
      `source: { type: ./connectors/ear.mjs, rooms: [a] }\nsinks: [{ type: ./connectors/fax.mjs, number: 12 }]\n`,
    )
    expect(said).toEqual([])
    const [{ source, sinks }] = pipelines as [(typeof pipelines)[0]]
    expect([source.connector.name, source.config]).toEqual(['ear', { rooms: ['a'] }])
    // Named as the connector names itself: a path cannot be in the name of a task.
    expect([sinks[0]!.name, sinks[0]!.connector.name, sinks[0]!.config]).toEqual([
      'fax',
      'fax',
      { number: 12 },
    ])
  })

  it('is loaded from a package, by what the package exports to import', async () => {
    for (const [name, sink] of [
      ['millrace-fax', 'fax'],
      ['@acme/telex', 'telex'],
    ] as const) {
      const exports = { '.': { import: './index.mjs' }, './second': './second.mjs' }
      write(`node_modules/${name}/package.json`, JSON.stringify({ name, version: '1.0.0', exports }))
      write(`node_modules/${name}/index.mjs`, sinkText(sink))
      write(`node_modules/${name}/second.mjs`, sinkText(`${sink}2`))
    }
    const { pipelines, said } = await read(
      `source: { type: generate }
sinks:
  - { type: millrace-fax, number: 1 }
  - { type: "@acme/telex", number: 2 }
  - { type: "@acme/telex/second", number: 3, name: other }
`,
    )
    expect(said).toEqual([])
    expect(pipelines[0]!.sinks.map(one => [one.name, one.connector.name])).toEqual([
      ['fax', 'fax'],
      ['telex', 'telex'],
      ['other', 'telex2'],
    ])
  })

  it('keeps its own keys: mistakes in them have their place, and its secrets are none in any output', async () => {
    write('connectors/fax.mjs', sinkText('fax'))
    const wrong = await read(withSink('./connectors/fax.mjs', '    numbr: 12\n'))
    expect(wrong.said).toEqual([
      'p.yaml:4:5: sinks[0] (./connectors/fax.mjs) has no "number", which it needs',
      'p.yaml:5:5: unknown key "numbr" in sinks[0] (./connectors/fax.mjs); did you mean "number"?',
    ])
    const right = await read(withSink('./connectors/fax.mjs', '    number: 1\n    pin: "4711 4712"\n'))
    expect(right.said).toEqual([])
    expect(right.secrets.redact('the pin is 4711 4712')).toBe('the pin is ***')
  })

  it('is in the JSON Schema and the reference like the others, though its zod is another copy', async () => {
    write('connectors/fax.mjs', sinkText('fax'))
    const all = await withExternal(connectors, [{ kind: 'sink', type: './connectors/fax.mjs' }])
    const { version } = all.sinks.get('./connectors/fax.mjs')!.config._zod
    expect(version).toEqual(z.string()._zod.version)
    expect(version, 'the same version of another copy').not.toBe(z.string()._zod.version)
    const sinks = jsonSchemaOf(pipelineSchema(all)).properties as unknown as {
      sinks: { items: { allOf: { if: unknown; then: { properties: unknown } }[] } }
    }
    const branch = sinks.sinks.items.allOf.find(one => JSON.stringify(one.if).includes('fax.mjs'))
    expect(branch?.then.properties).toMatchObject({
      number: { title: 'Number', description: 'Whom to call.' },
      pin: { title: 'Pin', type: 'string' },
      only: { title: 'Only' },
    })
    expect(JSON.stringify(branch)).not.toContain('"secret"')
    expect(generated(all).get('docs/reference/sinks/fax.md')).toContain(
      '| `number` | whole number, from 1 | required | Whom to call. |',
    )
  })

  it('comes by reference, too, and two of one name in a pipeline need names', async () => {
    write('connectors/fax.mjs', sinkText('fax'))
    write('connectors/fax2.mjs', sinkText('fax'))
    const { said } = await read(
      `source: { type: generate }
sinks:
  - { type: "\${env:FAX}", number: 1 }
  - { type: ./connectors/fax2.mjs, number: 1 }
`,
      { FAX: './connectors/fax.mjs' },
    )
    expect(said).toEqual([
      'p.yaml:5:13: sinks[1] is named "fax", as sinks[0] is: without a "name" a sink is named by its type; give it one',
    ])
  })

  it('is loaded by a worker that is offered its pipeline', async () => {
    write('connectors/fax.mjs', sinkText('fax'))
    const setting: Setting = { connectors, secrets: new Secrets(), env: {} }
    const text = `name: p\n${withSink('./connectors/fax.mjs', '    number: 1\n')}`
    expect((await parseText(setting, { file: 'p.yaml', text })).sinks[0]!.connector.name).toBe('fax')
    const gone = { file: 'p.yaml', text: text.replace('fax.mjs', 'gone.mjs') }
    await expect(parseText(setting, gone)).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining(
        'p.yaml:4:11: sinks[0].type is "./connectors/gone.mjs": there is no file',
      ),
      hint: 'A worker needs the environment, the files and the connectors that its pipelines name.',
    })
  })
})

describe('mistakes, told at the place of the type', () => {
  const said = async (type: string, text?: string, kind = 'sinks[0]'): Promise<string> => {
    if (text !== undefined) write(type, text)
    const yaml = kind === 'source' ? `source:\n  type: ${type}\n` : withSink(type, '    number: 1\n')
    const [first, ...rest] = (await read(yaml)).said
    expect(rest).toEqual([])
    const place = kind === 'source' ? 'p.yaml:3:9: source.type' : 'p.yaml:4:11: sinks[0].type'
    expect(first).toContain(`${place} is "${type}": `)
    return first!.slice(`${place} is "${type}": `.length)
  }
  const at = (name: string) => join(process.cwd(), name)

  it('a file that is not there', async () => {
    expect(await said('./no/fax.mjs')).toBe(
      `there is no file ${at('no/fax.mjs')} (paths are from the current directory)`,
    )
  })

  it('a file without its ./', async () => {
    expect(await said('connectors/fax.mjs')).toBe(
      'there is no such sink; a file begins with ./: "./connectors/fax.mjs"',
    )
  })

  it('a package that is not there: where it was looked for, and what to do', async () => {
    for (const [type, name] of [
      ['millrace-telegraph', 'millrace-telegraph'],
      ['@acme/telegraph/sink', '@acme/telegraph'],
    ])
      expect(await said(type!)).toBe(
        `there is no package ${name} in node_modules of ${process.cwd()}, of a folder above it, or beside Millrace; npm install ${name}`,
      )
  })

  it('a misspelt name of one that is built in is no package', async () => {
    expect(await said('elasticsaerch')).toBe('there is no such sink; did you mean "elasticsearch"?')
    expect(await said('postgress', undefined, 'source')).toBe(
      'there is no such source; did you mean "postgres"?',
    )
  })

  it('an address is never loaded', async () => {
    for (const type of [
      'https://example.org/fax.mjs?x',
      'data:text/javascript,export{}',
      'file:///fax',
      'node:fs',
    ])
      expect(await said(type)).toMatch(/^there is no such sink/)
  })

  it('a module that throws, or lacks a package of its own', async () => {
    expect(await said('./throws.mjs', `const a = 1\nthrow new TypeError('out of paper')\n`)).toBe(
      `it cannot be loaded: TypeError: out of paper (line 2 of ${at('throws.mjs')})`,
    )
    expect(await said('./lacking.mjs', `import 'no-such-package'\n`)).toBe(
      `it cannot be loaded: Cannot find package 'no-such-package' imported from ${at('lacking.mjs')}; npm install no-such-package`,
    )
  })

  it('a part of a package that it does not export', async () => {
    write('node_modules/millrace-tube/package.json', `{"name":"millrace-tube","exports":{".":"./index.mjs"}}`)
    expect(await said('millrace-tube/inner')).toMatch(
      /^it cannot be loaded: Package subpath '\.\/inner' is not defined by "exports"/,
    )
  })

  it('a module that exports nothing of the kind', async () => {
    expect(await said('./empty.mjs', 'export const config = {}\n')).toBe(
      'it exports no sink; make one with defineSink of "millrace", and export it',
    )
    expect(await said('./empty-source.mjs', 'export default 7\n', 'source')).toBe(
      'it exports no source; make one with defineSource of "millrace", and export it',
    )
  })

  it('a sink used as a source, and the other way round', async () => {
    expect(await said('./asource.mjs', SOURCE)).toBe('it exports a source, and no sink')
    expect(await said('./asink.mjs', sinkText('fax'), 'source')).toBe('it exports a sink, and no source')
  })

  it('several of one kind', async () => {
    expect(await said('./two.mjs', `${sinkText('fax')}${sinkText('telex').replace(/^import.*\n/, '')}`)).toBe(
      'it exports several sinks (fax, telex); give each a module of its own',
    )
  })

  it('the name of one that is built in', async () => {
    expect(await said('./sqlite.mjs', sinkText('sqlite'))).toBe(
      'its sink is named "sqlite", as one that is built in; give it a name of its own',
    )
    expect(await said('./Fax.mjs', sinkText('fax', `name: 'Fax/2',`))).toBe(
      'its sink is named "Fax/2": must be of a-z and 0-9, begin with a letter, and be at most 40 long',
    )
  })

  it('a contract that lacks a member, or has it as something else', async () => {
    expect(await said('./lacks.mjs', sinkText('fax', 'keyed: undefined, check: undefined,'))).toBe(
      'its sink lacks check, keyed; a sink has name, summary, config, examples, check, open, delivery, keyed (docs/connectors.md)',
    )
    const source = SOURCE.replace(/ {2}async plan.*\n/, '')
    expect(await said('./lacks-plan.mjs', source, 'source')).toBe(
      'its source lacks plan; a source has name, summary, config, examples, check, open, plan (docs/connectors.md)',
    )
    for (const [i, [more, why]] of (
      [
        [`delivery: 'at_least_once',`, 'delivery of its sink fax must be a function'],
        [`forget: true,`, 'forget of its sink fax must be a function'],
        [`summary: 7,`, 'summary of its sink fax must be a text'],
        [`examples: {},`, 'examples of its sink fax must be a list'],
        [`config: {},`, 'config of its sink fax must be a z.strictObject of zod 4.2 or newer'],
        [`config: null,`, 'config of its sink fax must be a z.strictObject of zod 4.2 or newer'],
        [`config: z.object({}),`, 'config of its sink fax must be a z.strictObject'],
        [`config: z.string(),`, 'config of its sink fax must be a z.strictObject'],
        [
          `config: z.strictObject({ only: z.string() }),`,
          'config of its sink fax has "only", which is a key of pipelines: type, name, only or transforms cannot be its own',
        ],
      ] as const
    ).entries())
      expect(await said(`./bad${i}.mjs`, sinkText('fax', more))).toBe(why)
  })

  it('a config made by an older zod', async () => {
    expect(await said('./three.mjs', sinkText('fax').replace(`'zod'`, `'zod/v3'`))).toMatch(
      /int is not a function/,
    )
    const three = sinkText('fax', 'config: three.object({}).strict(),')
    expect(await said('./three-config.mjs', `import { z as three } from 'zod/v3'\n${three}`)).toBe(
      'config of its sink fax must be a z.strictObject of zod 4.2 or newer',
    )
    const old = `${sinkText('fax')}fax.config._zod.version = { major: 4, minor: 1, patch: 12 }\n`
    expect(await said('./old.mjs', old)).toBe(
      'config of its sink fax is made by zod 4.1, and must be by 4.2 or newer',
    )
  })
})
