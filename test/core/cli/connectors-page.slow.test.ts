/**
 * docs/connectors.md, as its reader does it: the package is written as the page shows it, installed beside a packed Millrace, tested with the
 * kits and run in a pipeline. Installed by links instead of from the registry.
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { recordAt } from '../../../connectors/generate/source.ts'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const PAGE = readFileSync(join(ROOT, 'docs/connectors.md'), 'utf8')
const MODULES = join(ROOT, 'node_modules')

/** Blocks, by the file's name with which the line above begins. */
const files = new Map(
  [...PAGE.matchAll(/^`([\w.-]+)`.*\n\n```\w+\n([\s\S]*?)```/gm)].map(([, name, body]) => [name!, body!]),
)
const commands = [...PAGE.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, body]) => body!.trim().split('\n'))

/** A source of somebody's own: counts up to a number. */
const TICKS = `import { ConnectorError, defineSource } from 'millrace'
import { z } from 'zod'
const table = { schema: 'ticks', name: 'ticks', key: ['id'], columns: [{ name: 'id', type: 'int8' }] }
const tick = id => ({
  op: 'c', table, key: '{"id":' + id + '}', before: null, after: '{"id":' + id + '}',
  source: '{"connector":"ticks"}', commitMs: Date.now(), readMs: Date.now(), below: null,
})
async function* ticks(from, to, signal) {
  for (let id = from + 1; id <= to; id++) yield { records: [tick(id)], offset: id }
  yield { records: [], offset: to, caughtUp: true }
  await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
}
export const source = defineSource({
  name: 'ticks',
  summary: 'Counts.',
  config: z.strictObject({ to: z.int().min(1).meta({ title: 'To', description: 'The last number.' }) }),
  examples: [{ title: 'Ten', config: { to: 10 } }],
  async check() {},
  plan: async ({ to }) => ({ tables: [{ table, rows: to }], upstream: [] }),
  async open({ to }, from, { signal }) {
    if (from !== null && typeof from !== 'number') throw new ConnectorError('offset_lost', 'not a number')
    return { [Symbol.asyncIterator]: () => ticks(from ?? 0, to, signal), async [Symbol.asyncDispose]() {} }
  },
})
`

let folder: string
let tarball: string
let server: Server
let address: string
/** What the address does with lines, and what it got. */
let refuses: (line: Line) => boolean = () => false
let lines: Line[] = []
interface Line {
  readonly topic: string
  readonly key: { readonly id: number }
  readonly version: number
  readonly op: string
  readonly row: { readonly id: number } | null
}

const write = (name: string, body: string): void => {
  mkdirSync(dirname(join(folder, name)), { recursive: true })
  writeFileSync(join(folder, name), body)
}

/** What `npm install` makes of Millrace's dependencies, and Millrace from its package. */
function install(into: string): void {
  const modules = join(folder, into, 'node_modules')
  mkdirSync(modules, { recursive: true })
  for (const name of readdirSync(MODULES))
    if (!name.startsWith('.')) symlinkSync(join(MODULES, name), join(modules, name))
  unpack(modules)
}

function unpack(modules: string): void {
  mkdirSync(modules, { recursive: true })
  execFileSync('tar', ['xzf', tarball, '-C', modules])
  cpSync(join(modules, 'package'), join(modules, 'millrace'), { recursive: true })
  rmSync(join(modules, 'package'), { recursive: true })
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function node(cwd: string, ...args: string[]): Promise<Ended> {
  const { NODE_OPTIONS: _, VITEST: __, ...env } = process.env
  const child = spawn(process.execPath, args, {
    cwd: join(folder, cwd),
    env: { ...env, WEBHOOK_URL: address, NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const code = new Promise<number | null>(resolve => child.on('close', resolve))
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
  return { code: await code, stdout, stderr }
}

const millrace = (...args: string[]) => node('shop', 'node_modules/millrace/dist/core/cli/main.js', ...args)

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'millrace-page-'))
  const packed = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  tarball = join(folder, JSON.parse(packed)[0].filename)
  // Where the package is written, with what its developer has; and where it is used.
  install('webhook')
  for (const name of ['package.json', 'index.mjs', 'webhook.test.mjs'])
    write(`webhook/${name}`, files.get(name)!)
  install('shop')
  const installed = 'shop/node_modules/millrace-sink-webhook'
  for (const name of ['package.json', 'index.mjs']) write(`${installed}/${name}`, files.get(name)!)
  // As npm lays it when the versions differ: a copy of zod for this package alone.
  cpSync(join(MODULES, 'zod'), join(folder, installed, 'node_modules/zod'), { recursive: true })
  write('shop/pipeline.yaml', files.get('pipeline.yaml')!)
  server = createServer(async (request, response) => {
    const got = (await text(request))
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line) as Line)
    const isRefused = got.some(refuses)
    if (!isRefused) lines.push(...got)
    response.writeHead(isRefused ? 422 : 204).end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook/s3cr3t`
}, 240_000)
afterAll(() => {
  server?.closeAllConnections()
  server?.close()
  rmSync(folder, { recursive: true, force: true })
})

/** By key, what the newest version says. */
function newest(): Map<number, Line['row']> {
  const found = new Map<number, Line>()
  for (const line of lines)
    if (line.version >= (found.get(line.key.id)?.version ?? 0)) found.set(line.key.id, line)
  return new Map([...found].map(([id, { row }]) => [id, row]))
}

function expected(): Map<number, unknown> {
  const rows = new Map<number, unknown>()
  for (let n = 0; n < 1_500; n++) {
    const { key, after } = recordAt({ rows: 1000, changes: 500, rate: 0, batch_rows: 1000, seed: 1 }, n, 0)
    rows.set((JSON.parse(key) as { id: number }).id, JSON.parse(after ?? 'null'))
  }
  return rows
}

describe('docs/connectors.md', () => {
  it('shows a sink of at most 40 lines, and the commands that are run here', () => {
    const code = files
      .get('index.mjs')!
      .split('\n')
      .filter(line => line.trim() !== '')
    expect(code.length).toBeLessThanOrEqual(40)
    expect(Math.max(...code.map(line => line.length))).toBeLessThanOrEqual(120)
    expect([...files.keys()]).toEqual(['index.mjs', 'package.json', 'webhook.test.mjs', 'pipeline.yaml'])
    expect(commands).toEqual([
      'npm install',
      'npx vitest run',
      'npm install millrace millrace-sink-webhook',
      'npx millrace validate pipeline.yaml',
      'npx millrace run pipeline.yaml --until-caught-up',
    ])
  })

  it('passes the kits, run by its own vitest', async () => {
    const { code, stdout, stderr } = await node(
      'webhook',
      'node_modules/vitest/vitest.mjs',
      'run',
      '--reporter=verbose',
    )
    expect(code, `${stdout}\n${stderr}`).toBe(0)
    expect(stdout).toMatch(/Tests +10 passed \(10\)/)
  })

  it('has types that hold, by what the package declares', async () => {
    const options =
      '--noEmit --strict --allowJs --checkJs --module nodenext --target es2023 --lib es2023,esnext.disposable --types node'
    const tsc = join(MODULES, 'typescript/bin/tsc')
    write('webhook/wrong.mjs', files.get('index.mjs')!.replace(`=> 'at_least_once'`, `=> 'at_most_once'`))
    const { stdout } = await node('webhook', tsc, ...options.split(' '), 'index.mjs', 'wrong.mjs')
    const errors = stdout.split('\n').filter(line => /^\S.*error TS/.test(line))
    expect(errors, stdout).toEqual([
      expect.stringMatching(/^wrong\.mjs\(\d+,\d+\): error TS2322: .*at_most_once/),
    ])
  })

  it('delivers a pipeline whole, and tells no secret', async () => {
    lines = []
    const valid = await millrace('validate', 'pipeline.yaml')
    expect(valid).toMatchObject({ code: 0, stdout: 'pipeline.yaml: items is valid\n' })
    const { code, stdout, stderr } = await millrace('run', 'pipeline.yaml', '--until-caught-up', '--json')
    expect(code, stderr).toBe(0)
    expect(newest()).toEqual(expected())
    const [{ tasks }] = JSON.parse(stdout).pipelines
    expect(tasks.map((one: { name: string }) => one.name)).toEqual(['items/source', 'items/webhook/0'])
    expect(`${stdout}${stderr}`).not.toContain('s3cr3t')
  })

  it('has its errors known by their kind, also when it brings a copy of Millrace of its own', async () => {
    unpack(join(folder, 'shop/node_modules/millrace-sink-webhook/node_modules'))
    lines = []
    refuses = ({ key }) => key.id === 7
    const options = ['--data-dir', 'other']
    const { code, stderr } = await millrace('run', 'pipeline.yaml', '--until-caught-up', ...options)
    expect(code, stderr).toBe(0)
    const others = expected()
    others.delete(7)
    expect(newest()).toEqual(others)
    const letters = await millrace('dlq', 'list', 'items', '--json', ...options)
    const { dead_letters } = JSON.parse(letters.stdout)
    expect(dead_letters.length).toBeGreaterThan(0)
    expect(dead_letters.every((one: { key: string }) => one.key === '{"id":7}')).toBe(true)
    expect(dead_letters[0]).toMatchObject({ stage: 'webhook', error: 'the webhook answered 422: ' })
    // What is thrown, by a server that is away: not a fault of the program, with a stack.
    await new Promise(resolve => {
      server.closeAllConnections()
      server.close(resolve)
    })
    const check = await millrace('check', 'pipeline.yaml')
    expect(check).toMatchObject({ code: 1, stdout: 'items: not ready\n' })
    expect(check.stderr).toMatch(/^error: (.*: )?the webhook does not answer: fetch failed\n/)
  })

  it('runs a source in a file, which goes on where it was', async () => {
    write('shop/connectors/ticks.mjs', TICKS)
    const yaml = (to: number) =>
      `name: ticks\nsource: { type: ./connectors/ticks.mjs, to: ${to} }\nsinks: [{ type: stdout }]\n`
    const idsOf = ({ stdout }: Ended) =>
      stdout
        .split('\n')
        .filter(Boolean)
        .map(line => JSON.parse(line).key.id as number)
    write('shop/ticks.yaml', yaml(3))
    const first = await millrace('run', 'ticks.yaml', '--until-caught-up')
    expect(first.code, first.stderr).toBe(0)
    write('shop/ticks.yaml', yaml(5))
    const second = await millrace('run', 'ticks.yaml', '--until-caught-up')
    expect([idsOf(first), idsOf(second)]).toEqual([
      [1, 2, 3],
      [4, 5],
    ])
  })

  it('tells what is wrong with a module as a mistake of the file: place, and exit code 2', async () => {
    write('shop/connectors/broken.mjs', 'export const a = 1\nexport const = 2\n')
    write(
      'shop/wrong.yaml',
      'name: wrong\nsource: { type: generate }\nsinks:\n  - type: ./connectors/broken.mjs\n',
    )
    const { code, stdout, stderr } = await millrace('run', 'wrong.yaml')
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(
      /^wrong\.yaml:4:11: sinks\[0\]\.type is "\.\/connectors\/broken\.mjs": it cannot be loaded: SyntaxError: .*; see where: node --check .*\/shop\/connectors\/broken\.mjs\n$/,
    )
  })
})
