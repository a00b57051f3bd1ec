/** `${env:…}` and `${file:…}`: what they become, what is said when they cannot, and that no secret comes out again. */
import { describe, expect, it } from 'vitest'
import { parseHub } from '../../../core/pipeline/hub-schema.ts'
import { masked } from '../../../core/pipeline/masked.ts'
import { mistakeText } from '../../../core/pipeline/mistake.ts'
import { fill } from '../../../core/pipeline/reference.ts'
import { parsed, pipelineOf, readFile } from './stubs.ts'

const env = {
  NAME: 'value',
  EMPTY: '',
  PORT: '6000',
  YES: 'true',
  URL: 'postgres://me:hunter%2F22@db:5432/shop',
  LEVEL: '2',
}
const filled = (text: string) => fill(text, { env, readFile })

describe('references', () => {
  it.each([
    ['${env:NAME}', 'value'],
    ['a ${env:NAME} b ${env:NAME}', 'a value b value'],
    ['${env:NONE:-default}', 'default'],
    ['${env:EMPTY:-default}', 'default'],
    ['${env:EMPTY}', ''],
    ['${env:NONE:-}', ''],
    ['${env:NONE:-${env:NAME}}', 'value'],
    ['${env:NONE:-a:-b}', 'a:-b'],
    ['${env:URL}', env.URL],
    ['${file:secrets/password}', 'p4ssw0rd'],
    ['${file:two}', 'a\nb\n'],
    ['${table}', '${table}'],
    ['${schema}-${table}', '${schema}-${table}'],
    ['$${env:NAME}', '${env:NAME}'],
    ['$${table}', '${table}'],
    ['a $$${env:NAME}', 'a $${env:NAME}'],
    ['$5 ${ x', '$5 ${ x'],
  ])('%s becomes %s', (text, expected) => {
    expect(filled(text)).toMatchObject({ text: expected, mistakes: [] })
  })

  it.each([
    ['${env:NONE}', 0, 'the environment variable NONE is not set; set it, or give a default: ${env:NONE:-…}'],
    ['x ${env:constructor}', 2, 'the environment variable constructor is not set'],
    ['${env:A-B}', 0, '"A-B" is no name of an environment variable'],
    [
      '${file:none}',
      0,
      'the file "none" cannot be read: there is none (paths are from the current directory)',
    ],
    ['ab ${env:NAME', 3, '"${env:…" has no closing }'],
    ['${ENV:NAME}', 0, '"${ENV:…}" is no reference'],
    ['${env:NONE:-${env:NONE}}', 12, 'the environment variable NONE is not set'],
  ])('%s is a mistake', (text, at, message) => {
    expect(filled(text).mistakes).toEqual([{ at, message: expect.stringContaining(message) }])
  })

  it('does not look for references in what was filled in', () => {
    expect(fill('${env:X}', { env: { X: '${env:NAME} $${' }, readFile }).text).toBe('${env:NAME} $${')
  })

  const source = (more: string) => `name: a\nsource:\n  type: shopdb\n  url: x\n  tables: [s.t]\n${more}`

  it('types a whole reference where a number or boolean is wanted, and nowhere else', () => {
    const yaml = source(
      '  port: ${env:PORT:-4000}\n  follow: ${env:YES}\n  level: "${env:LEVEL}"\n  ratio: ${env:NONE:-1e3}\n',
    )
    expect(pipelineOf(`${yaml}description: \${env:PORT}\n`, env)).toMatchObject({
      description: '6000',
      source: { config: { port: 6000, follow: true, level: 2, ratio: 1000 } },
    })
    expect(parsed(source('  port: "6000"\n')).said).toEqual([
      expect.stringContaining('source.port is "6000": must be a number'),
    ])
    expect(parsed(source('  port: 6${env:PORT}\n'), env).said).toEqual([
      'a.yaml:6:9: source.port is "66000" (from 6${env:PORT}): must be a number',
    ])
    expect(parsed(source('  port: ${env:PORT}\n'), { PORT: '99999' }).said).toEqual([
      'a.yaml:6:9: source.port is "99999" (from ${env:PORT}): must be at most 65535',
    ])
    expect(parsed(source('  follow: ${env:NAME}\n'), env).said).toEqual([
      'a.yaml:6:11: source.follow is "value" (from ${env:NAME}): must be true or false',
    ])
  })

  it('points at the reference inside the text', () => {
    expect(parsed(source('sinks:\n  - type: shelf\n    path: a/b/${env:NONE}/c\n')).said).toEqual([
      'a.yaml:8:15: the environment variable NONE is not set; set it, or give a default: ${env:NONE:-…}',
    ])
  })

  it('says so when ${NAME} is written for ${env:NAME}', () => {
    expect(parsed(source('  on_offset_lost: halt\n').replace('url: x', 'url: ${DATABASE_URL}')).said).toEqual(
      [
        'a.yaml:4:8: "${DATABASE_URL}" is filled by nobody; an environment variable is "${env:DATABASE_URL}", a ${ as it stands "$${"',
      ],
    )
    const sink = 'sinks:\n  - type: shelf\n    path: ${NAME}/${table}/${TABLE}\n'
    expect(parsed(source(sink), env).said).toEqual([
      expect.stringContaining('a.yaml:8:11: "${NAME}" is filled by nobody'),
    ])
  })
})

describe('secrets of a pipeline', () => {
  const yaml = `name: a
source: { type: shopdb, url: "\${env:URL}", tables: [s.t], tls: { key: "\${file:two}x" } }
sinks:
  - { type: shelf, path: "https://u:pass-in-path@h/x", password: "\${file:secrets/password}" }
`
  it('are redacted from any text', () => {
    const { secrets } = parsed(yaml, env)
    const texts = ['hunter%2F22', 'hunter/22', 'pass-in-path', 'p4ssw0rd', `"a\\nb\\nx"`]
    for (const text of texts) expect(secrets.redact(`say ${text}!`)).not.toContain(text)
    expect(secrets.redact(`cannot connect to ${env.URL}`)).toBe(
      'cannot connect to postgres://me:***@db:5432/shop',
    )
  })

  it('are masked where the configuration is printed', () => {
    const { secrets, pipelines } = parsed(yaml, env)
    const { source, sinks } = pipelines[0]!
    expect(masked(source.connector.config, source.config, secrets)).toMatchObject({
      url: 'postgres://me:***@db:5432/shop',
      tables: ['s.t'],
      tls: { key: '***' },
    })
    expect(masked(sinks[0]!.connector.config, sinks[0]!.config, secrets)).toMatchObject({
      path: 'https://u:***@h/x',
      table: '${table}',
      password: '***',
    })
  })

  it('do not stand in mistakes', () => {
    const { said } = parsed(
      `name: a
source: { type: shopdb, url: [1], tables: [s.t], tls: { key: 12345 } }
sinks:
  - { type: shelf, path: x, password: 987654, mode: "\${env:URL}" }
`,
      env,
    )
    expect(said).toHaveLength(4)
    expect(said.join('\n')).not.toMatch(/p4ssw0rd|12345|987654|hunter/)
    expect(said[0]).toBe('a.yaml:2:30: source.url is a list: must be a text')
  })
})

describe('hub.yaml', () => {
  const hub = (text: string) => {
    const { config, mistakes } = parseHub({ path: 'hub.yaml', text }, { env, readFile })
    return { config, said: mistakes.map(mistakeText) }
  }

  it('may be empty', () => {
    for (const text of ['', '# nothing\n', '{}'])
      expect(hub(text)).toEqual({
        said: [],
        config: {
          name: 'millrace',
          dataDir: '.millrace',
          api: { host: '127.0.0.1', port: 4000 },
          log: { lingerMs: 2, batchBytes: 1_000_000, kafka: null },
          queue: null,
        },
      })
  })

  it('is read with every key', () => {
    const text =
      'name: h\ndata_dir: /d\napi: { host: "::1", port: "${env:PORT}" }\nlog: { type: embedded, linger_ms: 0, batch_bytes: 4MiB }\nqueue: { type: embedded }\n'
    expect(hub(text)).toEqual({
      said: [],
      config: {
        name: 'h',
        dataDir: '/d',
        api: { host: '::1', port: 6000 },
        log: { lingerMs: 0, batchBytes: 2 ** 22, kafka: null },
        queue: null,
      },
    })
  })

  it('refuses what is wrong and what is not built', () => {
    expect(
      hub('port: 1\napi: { prot: 1 }\nlog: { type: kafca, brokers: [a] }\nqueue: { type: bullmq, urll: x }\n')
        .said,
    ).toEqual([
      'hub.yaml:1:1: unknown key "port"; known are name, data_dir, api, log, queue',
      'hub.yaml:2:8: unknown key "prot" in api; did you mean "port"?',
      'hub.yaml:3:14: log.type is "kafca": must be embedded or kafka; did you mean "kafka"?',
      'hub.yaml:3:21: "brokers" in log is of Kafka, and log.type is embedded',
      'hub.yaml:3:31: log.brokers[0] is "a": must be host:port',
      'hub.yaml:4:8: queue (bullmq) has no "url", which it needs',
      'hub.yaml:4:24: unknown key "urll" in queue (bullmq); did you mean "url"?',
    ])
    expect(hub('log: { type: kafka, producer: { acks: 1, linger.ms: -1 } }').said).toEqual([
      'hub.yaml:1:39: log.producer.acks is 1: must be all',
      'hub.yaml:1:53: log.producer["linger.ms"] is -1: must be at least 0',
    ])
    expect(hub('log: { type: kafka }').said).toEqual([
      'hub.yaml:1:6: log (kafka) has no "brokers", which it needs',
    ])
    expect(hub('log: { topic: { replication.factor: 3 } }').said).toEqual([
      'hub.yaml:1:8: "topic" in log is of Kafka, and log.type is embedded',
    ])
    expect(hub('queue: { type: bullmq }').said).toEqual([
      'hub.yaml:1:8: queue (bullmq) has no "url", which it needs',
    ])
    expect(hub('queue: { type: bullmq, url: "redis://:hunter2@r:6379" }').said).toEqual([
      'hub.yaml:1:16: queue.type is "bullmq": it needs log.type kafka, for workers on several machines share no files',
    ])
    expect(hub('- a').said).toEqual(['hub.yaml:1:1: the file is a list: must be a mapping'])
  })
})
