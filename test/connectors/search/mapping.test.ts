/** Mappings by type, against golden files (UPDATE=1 rewrites them), and what an index lacks. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type SearchConfig, shared } from '../../../connectors/search/config.ts'
import { differenceOf, flat, isSame } from '../../../connectors/search/difference.ts'
import { countFields, definitionFor, fieldFor, type Mapping } from '../../../connectors/search/mapping.ts'
import { refuseUnfit } from '../../../connectors/search/plan.ts'
import type { Table } from '../../../core/record.ts'
import { KIT_TABLE } from '../../conform/kit-table.ts'

const GOLDEN = fileURLToPath(new URL('../../golden/search/mappings.json', import.meta.url))
const configOf = (options: object = {}): SearchConfig => z.strictObject(shared).parse(options)

const TYPES = [
  'bool int2 int4 int8 float4 float8 numeric text varchar bpchar name char uuid json jsonb date time timetz timestamp',
  'timestamptz interval bytea inet point geometry geography int4[] text[] numeric[] jsonb[] timestamptz[][] unheard_of',
].flatMap(line => line.split(' '))

describe('mappings', () => {
  it('each type has the mapping of the golden file', () => {
    const made = Object.fromEntries(
      TYPES.map(type => [
        type,
        {
          elasticsearch: fieldFor(type, configOf(), 'elasticsearch'),
          opensearch: fieldFor(type, configOf(), 'opensearch'),
        },
      ]),
    )
    if (process.env.UPDATE) {
      mkdirSync(dirname(GOLDEN), { recursive: true })
      writeFileSync(GOLDEN, `${JSON.stringify(made, null, 2)}\n`)
    }
    expect(made).toEqual(JSON.parse(readFileSync(GOLDEN, 'utf8')))
  })

  it('numeric and json as they are declared; a field as it is declared, by the longest name', () => {
    const scaled = configOf({ mapping: { numeric: 'scaled_float', scaling_factor: 1000, json: 'object' } })
    expect(fieldFor('numeric', scaled, 'elasticsearch')).toMatchObject({
      type: 'scaled_float',
      scaling_factor: 1000,
    })
    expect(fieldFor('jsonb', scaled, 'opensearch')).toEqual({ type: 'object', dynamic: 'true' })
    expect(fieldFor('numeric', configOf({ mapping: { numeric: 'keyword' } }), 'elasticsearch')).toMatchObject(
      {
        type: 'keyword',
      },
    )
    const fields = {
      name: { type: 'wildcard' },
      'kit.name': { type: 'text', analyzer: 'english' },
      'other.id': {},
    }
    const { mappings } = definitionFor(KIT_TABLE, configOf({ mapping: { fields } }), 'elasticsearch', [])
    expect(mappings.properties.name).toEqual({ type: 'text', analyzer: 'english' })
    expect(mappings.properties.id).toMatchObject({ type: 'long' })
  })

  it('settings by the cluster’s own names, deletes remembered for ten minutes unless the file says otherwise (P4)', () => {
    const { settings, aliases } = definitionFor(
      KIT_TABLE,
      configOf({
        settings: { refresh_interval: '5s', 'index.number_of_shards': 3, analysis: { analyzer: {} } },
      }),
      'elasticsearch',
      ['current'],
    )
    expect(settings).toEqual({
      'index.gc_deletes': '10m',
      'index.mapping.total_fields.limit': 1000,
      'index.refresh_interval': '5s',
      'index.number_of_shards': 3,
      'index.analysis': { analyzer: {} },
    })
    expect(aliases).toEqual({ current: {} })
    const other = definitionFor(KIT_TABLE, configOf({ settings: { gc_deletes: '1h' } }), 'elasticsearch', [])
    expect(other.settings['index.gc_deletes']).toBe('1h')
  })
})

describe('difference', () => {
  const wanted = definitionFor(KIT_TABLE, configOf({ aliases: ['kit-now'] }), 'elasticsearch', ['kit-now'])
  const same = {
    name: 'kit',
    properties: wanted.mappings.properties,
    dynamic: 'strict',
    aliases: ['kit-now'],
    settings: Object.fromEntries(
      Object.entries(flat(wanted.settings)).map(([name, value]) => [name, String(value)]),
    ),
  }

  it('none where it stands as it would be made', () => {
    expect(isSame(differenceOf(wanted, same))).toBe(true)
  })

  it('tells what can be added from what cannot be changed, and from what does no harm', () => {
    const { price, _millrace, ...rest } = same.properties as Record<string, Mapping>
    const found = differenceOf(wanted, {
      name: 'kit',
      properties: {
        ...rest,
        id: { type: 'keyword' },
        name: { type: 'boolean' },
        more: { type: 'long' },
        _millrace: { properties: { origin: { type: 'keyword' } } },
      },
      dynamic: undefined,
      aliases: [],
      settings: { 'index.gc_deletes': '60s' },
    })
    expect(found.missing).toEqual({ price, _millrace })
    expect(found.missingAliases).toEqual(['kit-now'])
    expect(found.conflicts).toEqual(['name is boolean there, and would be text'])
    expect(found.remarks).toEqual([
      'id is keyword there, and would be long',
      'mapping.dynamic is true there, and strict in the file',
      'index.gc_deletes is 60s there, and 10m in the file',
      'index.mapping.total_fields.limit is not set there, and 1000 in the file',
    ])
  })
})

describe('what no index can be made of', () => {
  const refused = (options: object, table: Table = KIT_TABLE): string => {
    try {
      refuseUnfit(configOf(options), [table], 'elasticsearch')
    } catch (error) {
      return (error as Error).message
    }
    return 'taken'
  }

  it('is refused with all that is wrong', () => {
    expect(refused({})).toBe('taken')
    expect(refused({ routing: '${name}' })).toContain('routing: ${name} is no column of the key of test.kit')
    expect(refused({ id: '${nothing}', mapping: { fields: { nam: { type: 'text' } } } })).toMatch(
      /id: \$\{nothing\} .*; "nam" in mapping\.fields matches no column/,
    )
    const column = (name: string) => ({
      ...KIT_TABLE,
      columns: [...KIT_TABLE.columns, { name, type: 'text' }],
    })
    for (const name of ['a.b', ' ', '_millrace'])
      expect(refused({}, column(name)), name).toContain(`the column "${name}" of test.kit cannot be a field`)
  })

  it('counts fields as the cluster does, and refuses more than the budget', () => {
    const { mappings } = definitionFor(KIT_TABLE, configOf(), 'elasticsearch', [])
    expect(countFields(mappings.properties), 'id, name, name.keyword, price, _millrace and its two').toBe(7)
    const wide = {
      ...KIT_TABLE,
      columns: Array.from({ length: 600 }, (_, i) => ({ name: `c${i}`, type: 'text' })),
    }
    expect(refused({}, wide)).toContain('test.kit needs 1203 fields, and mapping.max_fields is 1000')
    expect(refused({ mapping: { max_fields: 2000 } }, wide)).toBe('taken')
  })
})
