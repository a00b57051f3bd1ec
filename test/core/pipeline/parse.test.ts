/** What a person reads when a pipeline file is wrong: every mistake, its place, its value, the name that was meant. */
import { describe, expect, it } from 'vitest'
import { isHubFile, parsePipelines } from '../../../core/pipeline/parse.ts'
import { least, parsed, readFile, source, stubs } from './stubs.ts'

describe('mistakes', () => {
  const one: readonly (readonly [what: string, yaml: string, said: string])[] = [
    [
      'an unknown key',
      `name: a\nsource:\n  type: shopdb\n  url: x\n  tables: [s.t]\n  tabels: [s.t]\n`,
      'a.yaml:6:3: unknown key "tabels" in source (shopdb); did you mean "tables"?',
    ],
    [
      'an unknown key at the top',
      `${least}sink: []\n`,
      'a.yaml:3:1: unknown key "sink"; did you mean "sinks"?',
    ],
    [
      'an unknown key far from all',
      `${least}log: { zzzzzzz: 1 }\n`,
      'a.yaml:3:8: unknown key "zzzzzzz" in log; known are partitions, compression, retention',
    ],
    [
      'a key in another style',
      `${least}errors: { onReject: halt }\n`,
      'a.yaml:3:11: unknown key "onReject" in errors; did you mean "on_reject"?',
    ],
    [
      'a missing key',
      `name: a\nsource:\n  type: shopdb\n  tables: [s.t]\n`,
      'a.yaml:3:3: source (shopdb) has no "url", which it needs',
    ],
    ['a missing source', 'name: a\n', 'a.yaml:1:1: the file has no "source", which it needs'],
    ['a missing name', source, 'a.yaml:1:1: the file has no "name", which it needs'],
    [
      'a missing type',
      `name: a\nsource: { url: x, tables: [s.t] }\n`,
      'a.yaml:2:9: source has no "type", which it needs',
    ],
    [
      'an unknown source',
      'name: a\nsource: { type: shopbd }\n',
      'a.yaml:2:17: source.type is "shopbd": there is no such source; did you mean "shopdb"?',
    ],
    [
      'an unknown sink',
      `${least}sinks: [{ type: fax }]\n`,
      'a.yaml:3:17: sinks[0].type is "fax": there is no such sink; there is shelf, printer',
    ],
    [
      'a connector that is not built',
      `${least}sinks: [{ type: http, url: x }]\n`,
      'a.yaml:3:17: sinks[0].type is "http": not built yet; there is shelf, printer',
    ],
    [
      'half the name of one',
      `${least}sinks: [{ type: htt }]\n`,
      'a.yaml:3:17: sinks[0].type is "htt": "http" is not built yet; there is shelf, printer',
    ],
    [
      'a bad name',
      `name: Shop\n${source}`,
      'a.yaml:1:7: name is "Shop": must be of a-z, 0-9 and -, begin with a letter, and be at most 40 long',
    ],
    [
      'a number as text',
      `name: 12\n${source}`,
      'a.yaml:1:7: name is 12: must be a text; in quotes it is one: "12"',
    ],
    [
      'a text as list',
      `name: a\nsource: { type: shopdb, url: x, tables: s.t }\n`,
      'a.yaml:2:41: source.tables is "s.t": must be a list',
    ],
    ['a list as mapping', `${least}log: [1]\n`, 'a.yaml:3:6: log is a list: must be a mapping'],
    [
      'nothing where a mapping stands',
      'name: a\nsource:\n',
      'a.yaml:2:8: source is empty: must be a mapping',
    ],
    [
      'a number that is none',
      `name: a\nsource: { type: shopdb, url: x, tables: [s.t], port: many }\n`,
      'a.yaml:2:54: source.port is "many": must be a number',
    ],
    [
      'a fraction',
      `${least}log: { partitions: 1.5 }\n`,
      'a.yaml:3:20: log.partitions is 1.5: must be a whole number',
    ],
    [
      'a number too small',
      `${least}log: { partitions: 0 }\n`,
      'a.yaml:3:20: log.partitions is 0: must be at least 1',
    ],
    [
      'a number too big',
      `${least}log: { partitions: 1000 }\n`,
      'a.yaml:3:20: log.partitions is 1000: must be at most 256',
    ],
    [
      'no true or false',
      `name: a\nsource: { type: shopdb, url: x, tables: [s.t], follow: yes }\n`,
      'a.yaml:2:56: source.follow is "yes": must be true or false',
    ],
    [
      'a word of few',
      `${least}log: { compression: lz5 }\n`,
      'a.yaml:3:21: log.compression is "lz5": must be lz4, gzip, zstd, snappy or none; did you mean "lz4"?',
    ],
    [
      'an empty list',
      'name: a\nsource: { type: shopdb, url: x, tables: [] }\n',
      'a.yaml:2:41: source.tables must not be empty',
    ],
    [
      'a pattern',
      'name: a\nsource: { type: shopdb, url: x, tables: [s.t, products] }\n',
      'a.yaml:2:47: source.tables[1] is "products": must be schema.table',
    ],
    [
      'a key of a record',
      'name: a\nsource: { type: shopdb, url: x, tables: [s.t], columns: { "s.t": id } }\n',
      'a.yaml:2:66: source.columns["s.t"] is "id": must be a list',
    ],
    [
      'a bad glob in only',
      `${least}sinks: [{ type: printer, only: ["s.[ab]"] }]\n`,
      'a.yaml:3:33: sinks[0].only[0] is "s.[ab]": must be schema.table; only * is a wildcard',
    ],
    [
      'a glob that is no text',
      `${least}sinks: [{ type: printer, only: [5] }]\n`,
      'a.yaml:3:33: sinks[0].only[0] is 5: must be a text; in quotes it is one: "5"',
    ],
    [
      'an alias that was a glob',
      `${least}sinks: [{ type: printer, only: [*.products] }]\n`,
      'a.yaml:3:33: *.products is an alias in YAML, and no anchor (&) of that name comes before it; a text that begins with * stands in quotes: "*.products"',
    ],
    [
      'a tag that was an exclusion',
      `name: a\nsource: { type: shopdb, url: x, tables: [s.t], columns: { s.t: [!cost] } }\n`,
      'a.yaml:2:65: !cost is a tag in YAML, and there is none of that name; a text that begins with ! stands in quotes: "!cost"',
    ],
    [
      'a sink named source',
      `${least}sinks: [{ type: printer, name: source }]\n`,
      'a.yaml:3:32: sinks[0].name is "source": cannot be "source": that is what the task of the source is called',
    ],
    [
      'two sinks of one type',
      `${least}sinks:\n  - type: printer\n  - type: printer\n`,
      'a.yaml:5:11: sinks[1] is named "printer", as sinks[0] is: without a "name" a sink is named by its type; give it one',
    ],
    [
      'two sinks of one name',
      `${least}sinks:\n  - type: printer\n    name: x\n  - type: printer\n    name: x\n`,
      'a.yaml:7:11: sinks[1] is named "x", as sinks[0] is: give it another name',
    ],
    [
      'a key twice',
      `${least}log: {}\nlog: {}\n`,
      'a.yaml:4:1: "log" is written twice; the first is on line 3',
    ],
    [
      'an unknown verb',
      `${least}transforms:\n  - renam: {}\n`,
      'a.yaml:4:5: unknown key "renam" in transforms[0]; did you mean "rename"?',
    ],
    [
      'two verbs in one step',
      `${least}transforms:\n  - drop: { fields: [a] }\n    mask: { fields: [b] }\n`,
      'a.yaml:4:5: transforms[0] must be one verb with its options: rename, drop, mask',
    ],
    [
      'a verb alone',
      `${least}transforms: [drop]\n`,
      'a.yaml:3:14: transforms[0] is "drop": must be a mapping',
    ],
    [
      'a field with too many parts',
      `${least}transforms: [{ drop: { fields: [a.b.c.d] } }]\n`,
      'a.yaml:3:33: transforms[0].drop.fields[0] is "a.b.c.d": must be column, table.column or schema.table.column: it has more than three parts',
    ],
    [
      'a glob of another kind',
      `${least}transforms: [{ drop: { fields: ["a?"] } }]\n`,
      'a.yaml:3:33: transforms[0].drop.fields[0] is "a?": must be column, table.column or schema.table.column: "?" cannot stand there: only * is a wildcard; put a name that holds it in double quotes',
    ],
    [
      'many columns to one name',
      `${least}transforms: [{ rename: { fields: { "a*": b } } }]\n`,
      'a.yaml:3:42: transforms[0].rename.fields["a*"] is "b": "a*" can stand for several columns, which would all get one name',
    ],
    [
      'a new name with the table',
      `${least}transforms: [{ rename: { fields: { s.t.a: s.t.b } } }]\n`,
      `a.yaml:3:43: transforms[0].rename.fields["s.t.a"] is "s.t.b": must be the new column's name alone: "b"`,
    ],
    ['a list instead of a mapping', '- name: a\n', 'a.yaml:1:1: the file is a list: must be a mapping'],
    ['an empty file', '# nothing\n', 'a.yaml:1:1: the file is empty: a pipeline begins with "name: …"'],
    [
      'a second document',
      `${least}---\nname: b\n`,
      'a.yaml:4:1: a second document (after ---) in one file: write it to a file of its own',
    ],
    ['a tab', 'name: a\nsource:\n\ttype: shopdb\n', 'a.yaml:3:1: a tab cannot indent in YAML: use spaces'],
    ['an open quote', 'name: "a\nsource: x\n', 'a.yaml:1:7: a quote is opened here and never closed'],
    ['a missing space', 'name:a\n', 'a.yaml:1:1: the file is "name:a": must be a mapping'],
    [
      'a reference in braces',
      'name: a\nsource: { type: shopdb, url: ${env:URL} }\n',
      'a.yaml:2:31: cannot be read: inside [ ] or { } a text with ${ } stands in quotes: "${env:URL}"',
    ],
    [
      'an anchor inside itself',
      `${least}log: &x { retention: *x }\n`,
      'a.yaml:3:22: *x stands inside what it names',
    ],
    [
      'a merge of no mapping',
      `${least}log: { <<: 5 }\n`,
      'a.yaml:3:8: << takes a mapping, or a list of mappings',
    ],
  ]
  it.each(one)('says where and what: %s', (_, yaml, said) => {
    expect(parsed(yaml).said).toEqual([said])
  })

  const notBuilt: readonly (readonly [yaml: string, said: string])[] = [
    ['documents: {}', '3:1: "documents" is not built yet'],
    ['limits: { wal_bytes: 10GB }', '3:11: "wal_bytes" in limits is not built yet'],
    [
      'limits: { policy: drop_and_resnapshot }',
      '3:19: limits.policy is "drop_and_resnapshot": not built yet; there is alert, detach_sink',
    ],
    ['transforms: [{ drop: { fields: [a] }, when: x }]', '3:39: "when" in transforms[0] is not built yet'],
    ['transforms: [{ filter: x }]', '3:16: "filter" in transforms[0] is not built yet'],
    [
      'sinks: [{ type: printer, transforms: [{ set: {} }] }]',
      '3:41: "set" in sinks[0].transforms[0] is not built yet',
    ],
    [
      'sinks: [{ type: printer, only: [product] }]',
      '3:33: sinks[0].only[0] is "product": must be schema.table; documents are not built yet',
    ],
    [
      'sinks: [{ type: printer, only: { documents: [product] } }]',
      '3:32: sinks[0].only is a mapping: must be a list',
    ],
  ]
  it.each(notBuilt)('refuses by name what is not built yet: %s', (yaml, said) => {
    expect(parsed(`${least}${yaml}\n`).said).toEqual([`a.yaml:${said}`])
  })

  it('refuses on_offset_lost: resnapshot by name', () => {
    const yaml = 'name: a\nsource: { type: shopdb, url: x, tables: [s.t], on_offset_lost: resnapshot }\n'
    expect(parsed(yaml).said).toEqual([
      'a.yaml:2:64: source.on_offset_lost is "resnapshot": not built yet; there is halt',
    ])
  })

  it('reports all of all files, by file, line and column', () => {
    const { said, pipelines } = parsed([
      'name: B\nsource: { type: shopdb, url: x, tabels: [s.t] }\nlog: { partitions: 0, x: 1 }\n',
      'name: ok\n\tx: 1\n',
      `name: fine\n${source}`,
    ])
    expect(said.map(one => one.split(' ')[0])).toEqual([
      'a.yaml:1:7:',
      'a.yaml:2:9:',
      'a.yaml:2:33:',
      'a.yaml:3:20:',
      'a.yaml:3:23:',
      'b.yaml:2:1:',
    ])
    expect(pipelines.map(one => one.name)).toEqual(['fine'])
  })

  it('refuses one name in two files, also when one of them has other mistakes', () => {
    const { said } = parsed([`${least}x: 1\n`, least])
    expect(said).toEqual([
      expect.stringContaining('a.yaml:3:1: unknown key "x"'),
      'b.yaml:1:7: there is another pipeline "a", in a.yaml:1; each needs a name of its own',
    ])
  })

  it('never reads hub.yaml as a pipeline', () => {
    const options = { connectors: stubs, env: {}, readFile }
    const hub = { path: 'conf/hub.yaml', text: 'name: [' }
    expect(parsePipelines([hub, { path: 'a.yaml', text: least }], options)).toMatchObject({
      mistakes: [],
      pipelines: [{ name: 'a' }],
    })
    expect(parsePipelines([hub], options).mistakes).toEqual([
      { file: 'conf/hub.yaml', line: 1, column: 1, message: 'this is the file of the hub, not a pipeline' },
    ])
    expect(['hub.yaml', 'a/hub.yml', 'my-hub.yaml', 'hub.yaml.bak'].map(isHubFile)).toEqual([
      true,
      true,
      false,
      false,
    ])
  })
})
