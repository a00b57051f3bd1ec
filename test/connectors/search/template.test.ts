import { describe, expect, it } from 'vitest'
import { indexName, indexPattern } from '../../../connectors/search/template.ts'
import { badRowTemplate, badTableTemplate, fillRow, fillTable } from '../../../core/format/template.ts'
import { KIT_TABLE, recordOf } from '../../conform/kit-table.ts'

describe('templates', () => {
  it('fill table, schema, topic, key and columns of the key', () => {
    expect(fillTable('a-${schema}-${table}-${topic}', KIT_TABLE, 'kit.test.kit')).toBe(
      'a-test-kit-kit.test.kit',
    )
    const two = { ...KIT_TABLE, key: ['id', 'name'] }
    const record = { ...recordOf({ version: 1 }), table: two, key: '{"id":7,"name":"a\\"b"}' }
    expect(fillRow('${schema}.${table}/${key}/${name}/${id}', record)).toBe('test.kit/[7,"a\\"b"]/a"b/7')
  })

  it('refuse what may change, and what is not filled there', () => {
    expect(badTableTemplate('${table}')).toBeNull()
    expect(badTableTemplate('${key}')).toContain('${key} is not filled here')
    expect(badRowTemplate('${id}-${table}', KIT_TABLE)).toBeNull()
    expect(badRowTemplate('${price}', KIT_TABLE)).toContain('${price} is no column of the key of test.kit')
  })

  it('make names that an index may have', () => {
    expect(indexName('Shop-Products')).toBe('shop-products')
    expect(indexName('_a b/c:d*e"f,g#h')).toBe('a_b_c_d_e_f_g_h')
    expect(indexName('ünï-ß')).toBe('ünï-ß')
    expect(indexName('..')).toBe('table')
    expect(indexName('+-_')).toBe('table')
    const long = indexName('ä'.repeat(300))
    expect(Buffer.byteLength(long)).toBeLessThanOrEqual(255)
    expect(long).toMatch(/^ä+$/)
    expect(indexPattern('Shop ${schema}-${table}')).toBe('shop_*-*')
    expect(indexPattern('products')).toBe('products')
  })
})
