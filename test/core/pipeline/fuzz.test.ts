/** Whatever stands in a file: the parser never throws, every mistake has a place in the file, and a slip is found where it is. */
import { describe, expect, it } from 'vitest'
import { parsePipelines } from '../../../core/pipeline/parse.ts'
import { type Random, randomOf } from '../../sim/random.ts'
import { readFile, stubs } from './stubs.ts'

const VALID = `name: shop-search
description: "A shop, \${env:NAME} ü"
source:
  type: shopdb
  url: postgres://me:hunter22@db/shop
  tables: [shop.products, "shop.review*"]
  port: \${env:PORT:-4000}
  columns: { "shop.products": [id, "!cost"] }
  transforms:
    - mask: { fields: [shop.customers.email], with: null }
log: { partitions: 3, retention: { hours: 24, bytes: 1GiB } }
transforms:
  - rename: { fields: { descr: description } }
sinks:
  - &s
    name: search
    type: shelf
    path: .millrace/shop.db
    table: \${schema}_\${table}
    only: [shop.products]
  - <<: *s
    name: other
    password: \${file:secrets/password}
errors: { retry: { max_attempts: 3 }, on_reject: halt }
limits: { log_bytes: 500MB, policy: detach_sink }
`
const parse = (text: string) =>
  parsePipelines([{ path: 'f.yaml', text }], { connectors: stubs, env: { NAME: 'x' }, readFile })

const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 1500)
const SCRAPS = [
  '${',
  '${env:',
  '}',
  '*x',
  '&x ',
  '!x ',
  ': ',
  '- ',
  '\t',
  '\n',
  '\r\n',
  '"',
  "'",
  '[',
  '{',
  ']',
  '#',
  '|\n',
  '>\n',
  '---\n',
  '%A\n',
  '<<: ',
  '? ',
  '\u0000',
  '\ufeff',
  '😀',
  '~',
  '0x',
  '.inf',
  '2026-01-01',
  '\ud800',
  ' '.repeat(5),
  '[['.repeat(50),
  '*s',
  '&s',
]

function mutated(text: string, random: Random): string {
  const at = random.int(0, text.length)
  const to = Math.min(text.length, at + random.int(1, 12))
  switch (random.int(0, 5)) {
    case 0:
      return text.slice(0, at) + random.pick(SCRAPS) + text.slice(at)
    case 1:
      return text.slice(0, at) + text.slice(to)
    case 2:
      return text.slice(0, at) + text.slice(at, to).repeat(random.int(2, 4)) + text.slice(to)
    case 3:
      return text.slice(0, at) + String.fromCharCode(random.int(0, 300)) + text.slice(at + 1)
    case 4:
      return text.slice(0, at)
    default: {
      const lines = text.split('\n')
      const [i, j] = [random.int(0, lines.length - 1), random.int(0, lines.length - 1)]
      ;[lines[i], lines[j]] = [lines[j]!, lines[i]!]
      return lines.join('\n')
    }
  }
}

describe('the parser', () => {
  it('takes the text that is mutated', () => {
    expect(parse(VALID).mistakes).toEqual([])
  })

  it('never throws, and never loses the place', () => {
    for (let seed = 1; seed <= ROUNDS; seed++) {
      const random = randomOf(seed)
      let text = VALID
      for (let n = random.int(1, 4); n > 0; n--) text = mutated(text, random)
      const { mistakes, pipelines } = parse(text)
      expect(mistakes.length + pipelines.length, `seed ${seed}`).toBeGreaterThan(0)
      const lines = text.replace(/^\ufeff/, '').split('\n')
      for (const { line, column, message } of mistakes) {
        expect(line, `seed ${seed}: ${message}`).toBeLessThanOrEqual(lines.length)
        expect(line).toBeGreaterThanOrEqual(1)
        expect(column).toBeGreaterThanOrEqual(1)
        expect(column, `seed ${seed}: ${message}`).toBeLessThanOrEqual(lines[line - 1]!.length + 1)
        expect(message, `seed ${seed}`).not.toMatch(/hunter22|p4ssw0rd|undefined|\[object|\u0000$/)
      }
    }
  })

  it('finds a misspelt key where it stands', () => {
    for (const { index, 1: key } of VALID.matchAll(/(?<=^|[\s{])([a-z_]{4,}):(?=\s)/g)) {
      // Names of columns are free.
      if (key === 'descr') continue
      const text = `${VALID.slice(0, index)}x${key}${VALID.slice(index + key!.length)}`
      const before = text.slice(0, index).split('\n')
      const place = { line: before.length, column: before.at(-1)!.length + 1 }
      const unknown = parse(text).mistakes.filter(one => one.message.startsWith(`unknown key "x${key}"`))
      // In what another sink merges, it is one mistake, at its one place.
      expect(unknown.length > 0 || key === 'type', key).toBe(true)
      for (const mistake of unknown) expect(mistake).toMatchObject({ ...place, file: 'f.yaml' })
    }
  })
})
