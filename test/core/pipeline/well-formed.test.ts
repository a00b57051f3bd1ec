/** What a pipeline file that is right is read as. */
import { describe, expect, it } from 'vitest'
import { missingCompression } from '../../../core/log/log.ts'
import { FULL, least, parsed, pipelineOf, stubs } from './stubs.ts'

describe('a pipeline', () => {
  it('is read with every key', () => {
    const pipeline = pipelineOf(FULL)
    const { source: from, sinks, ...rest } = pipeline
    expect(rest).toEqual({
      name: 'shop-search',
      description: 'A shop.',
      file: 'a.yaml',
      log: { partitions: 3, compression: 'none', retention: { hours: 24, bytes: 2e9 } },
      errors: { retry: { maxAttempts: 3, backoffMs: 5, maxBackoffMs: 50 }, onReject: 'halt' },
      limits: { logBytes: 500_000_000, policy: 'detach_sink' },
    })
    expect(from.connector).toBe(stubs.sources.get('shopdb'))
    expect(from.config).toMatchObject({ tables: ['shop.products', 'shop.review*'], port: 5432 })
    expect(from.transforms.map(step => step.name)).toEqual(['mask'])
    expect(sinks.map(sink => [sink.name, sink.connector.name, sink.only])).toEqual([
      ['search', 'shelf', ['shop.products']],
      ['printer', 'printer', null],
    ])
    expect(sinks[0]!.config).toEqual({
      path: '.millrace/shop.db',
      table: '${schema}_${table}',
      mode: 'literals',
    })
    expect(sinks.map(sink => sink.transforms.map(step => step.name))).toEqual([
      ['rename', 'drop'],
      ['rename'],
    ])
  })

  it('has defaults for all but name and source', () => {
    expect(pipelineOf(least)).toMatchObject({
      description: '',
      log: { partitions: 1, compression: 'lz4', retention: { hours: 168 } },
      sinks: [],
      errors: { retry: { maxAttempts: 10, backoffMs: 200, maxBackoffMs: 30_000 }, onReject: 'dead_letter' },
      limits: { logBytes: 50e9, policy: 'alert' },
    })
  })

  it('takes every compression this Node.js has, and says what it takes to have zstd', () => {
    for (const compression of ['lz4', 'gzip', 'none'])
      expect(pipelineOf(`${least}log: { compression: ${compression} }`).log.compression).toBe(compression)
    const { said } = parsed(`${least}log: { compression: zstd }\n`)
    const missing = missingCompression('zstd')
    expect(said).toEqual(missing ? [`a.yaml:3:21: log.compression is "zstd": ${missing}`] : [])
    if (missing) expect(missing).toBe(`needs Node.js 22.15 or newer, and this is ${process.version}`)
  })

  it.each([
    ['10GB', 10e9],
    ['1.5 kB', 1500],
    ['2GiB', 2 ** 31],
    ['1048576', 1_048_576],
    ['7b', 7],
  ])('takes the size %s', (size, bytes) => {
    expect(pipelineOf(`${least}limits: { log_bytes: ${size} }`).limits.logBytes).toBe(bytes)
    expect(pipelineOf(`${least}log: { retention: { bytes: ${size} } }`).log.retention).toEqual({
      hours: 168,
      bytes,
    })
  })

  it.each(['10XB', '-1', 'GB', '0', '1e3 MB', '9999999TB'])('refuses the size %s', size => {
    for (const key of ['limits: { log_bytes:', 'log: { retention: { bytes:'])
      expect(parsed(`${least}${key} ${size} ${key.startsWith('log:') ? '} ' : ''}}`).said).toEqual([
        expect.stringContaining('must be a size, as 500MB, 10GB or 2GiB'),
      ])
  })
})

describe('YAML', () => {
  it('follows anchors, aliases and merge keys', () => {
    const pipeline = pipelineOf(`name: a
source: { type: shopdb, url: x, tables: &tables [s.t, s.u] }
sinks:
  - &first { type: shelf, path: x, only: *tables }
  - { <<: *first, name: second, path: y }
  - { <<: [{ path: z }, *first], name: third }
`)
    expect(
      pipeline.sinks.map(({ name, config, only }) => [name, (config as { path: string }).path, only]),
    ).toEqual([
      ['shelf', 'x', ['s.t', 's.u']],
      ['second', 'y', ['s.t', 's.u']],
      ['third', 'z', ['s.t', 's.u']],
    ])
  })

  it('reports a mistake in an anchor once, where it was written', () => {
    const yaml = `${least}sinks:\n  - &first { type: shelf, path: x, mod: y }\n  - { <<: *first, name: second }\n`
    expect(new Set(parsed(yaml).said.map(one => one.split(' ')[0]))).toEqual(new Set(['a.yaml:4:36:']))
  })

  it('refuses aliases that stand for too much', () => {
    const lines = Array.from({ length: 9 }, (_, i) => `x${i + 1}: &x${i + 1} [${Array(10).fill(`*x${i}`)}]`)
    const { said } = parsed(`x0: &x0 [${Array(10).fill('y')}]\n${lines.join('\n')}\n`)
    expect(said).toEqual(['a.yaml:1:1: stands for more than 100000 values'])
  })

  it('refuses what is nested too deep', () => {
    const { said } = parsed(`name: ${'['.repeat(300)}${']'.repeat(300)}\n`)
    expect(said.join()).toContain('is nested more than 100 deep')
  })

  it('reads a file with byte order mark and CRLF as any other', () => {
    const windows = `\ufeff${FULL.replaceAll('\n', '\r\n')}`
    expect(pipelineOf(windows)).toMatchObject({ name: 'shop-search', limits: { logBytes: 500_000_000 } })
    expect(parsed('\ufeffname: A\r\nsource:\r\n  type: x\r\n').said.map(one => one.split(' ')[0])).toEqual([
      'a.yaml:1:7:',
      'a.yaml:3:9:',
    ])
  })

  it('takes __proto__ and constructor for unknown keys', () => {
    expect(
      parsed(`${least}__proto__: { x: 1 }\nconstructor: 1\n`).said.map(one => one.split(';')[0]),
    ).toEqual(['a.yaml:3:1: unknown key "__proto__"', 'a.yaml:4:1: unknown key "constructor"'])
  })
})
