/** What a pipeline becomes, and what is refused once its tables are known. */

import { describe, expect, it } from 'vitest'
import type { ConnectorError } from '../../../core/errors.ts'
import { topicOf } from '../../../core/log/log.ts'
import {
  changesOf,
  type Fingerprint,
  fingerprintOf,
  refuseChanged,
  refuseMeeting,
  refuseUnsafe,
  takes,
  tasksOf,
  upstreamName,
} from '../../../core/pipeline/plan.ts'
import { pipelineOf, tableOf } from './stubs.ts'

const products = tableOf('shop', 'products', ['id'], ['id', 'name', 'descr', 'cost'])
const customers = tableOf('shop', 'customers', ['id'], ['id', 'email'])
const elsewhere = tableOf('sales', 'products', ['id'], ['id', 'name'])

const pipeline = (more: string, name = 'a', beforeLog = '') =>
  pipelineOf(
    `name: ${name}\nsource: { type: shopdb, url: x, tables: [s.t], transforms: [${beforeLog}] }\n${more}\n`,
  )

const refusal = (act: () => void): Pick<ConnectorError, 'kind' | 'message' | 'hint'> | null => {
  try {
    act()
    return null
  } catch (error) {
    const { kind, message, hint } = error as ConnectorError
    return { kind, message, hint }
  }
}
const unsafe = (...args: Parameters<typeof refuseUnsafe>) => refusal(() => refuseUnsafe(...args))

describe('names', () => {
  it('are made of the pipeline and the table', () => {
    expect(upstreamName('shop-search-2')).toBe('millrace_shop_search_2')
    expect(topicOf('shop', { schema: 'my schema', name: 'tä.ble-1_x' })).toBe('shop.my_schema.t__ble-1_x')
    const tasks = tasksOf(
      pipeline('log: { partitions: 2 }\nsinks: [{ type: printer }, { type: shelf, path: x, name: b }]'),
    )
    expect(tasks.source).toBe('a/source')
    expect(tasks.sinks.map(one => [one.name, one.sink.name, one.partition])).toEqual([
      ['a/printer/0', 'printer', 0],
      ['a/printer/1', 'printer', 1],
      ['a/b/0', 'b', 0],
      ['a/b/1', 'b', 1],
    ])
  })

  it('has no task of a source where people write the topics', () => {
    const read = pipeline('sinks: [{ type: printer }]')
    const connector = { ...read.source.connector, topics: () => [] }
    const { source, sinks } = tasksOf({ ...read, source: { ...read.source, connector } })
    expect(source).toBeNull()
    expect(sinks.map(one => one.name)).toEqual(['a/printer/0'])
  })

  it.each([
    [null, true],
    [['shop.products'], true],
    [['shop.*'], true],
    [['*.products'], true],
    [['shop.product'], false],
    [['shopxproducts'], false],
    [['x.y', 'sh*p.p*s'], true],
  ])('takes %j: %s', (only, expected) => {
    expect(takes(only, products)).toBe(expected)
  })
})

describe('refuseUnsafe', () => {
  it('lets pass what is right', () => {
    const yaml = `transforms: [{ rename: { fields: { descr: description } } }, { drop: { fields: [description] } }]
sinks: [{ type: shelf, path: x, table: "\${schema}_\${table}" }, { type: shelf, name: b, path: y, only: [shop.*] }]`
    expect(unsafe(pipeline(yaml), [products, customers, elsewhere])).toBeNull()
  })

  it('refuses two tables that meet in one topic', () => {
    const tables = [tableOf('s', 'a b', ['id'], ['id']), tableOf('s', 'a_b', ['id'], ['id'])]
    expect(unsafe(pipeline(''), tables)).toMatchObject({
      kind: 'config',
      message: 'a: s.a b and s.a_b meet in the topic a.s.a_b',
    })
  })

  it('refuses two tables that meet in one target, unless one of them goes elsewhere', () => {
    const meeting = { message: 'a: shop.products and sales.products meet in x#products of sink shelf' }
    expect(unsafe(pipeline('sinks: [{ type: shelf, path: x }]'), [products, elsewhere])).toMatchObject(
      meeting,
    )
    expect(
      unsafe(pipeline('sinks: [{ type: shelf, path: x, only: [shop.*] }]'), [products, elsewhere]),
    ).toBeNull()
    expect(
      unsafe(pipeline('sinks: [{ type: shelf, path: x, table: all }]'), [products, customers])?.message,
    ).toBe('a: shop.products and shop.customers meet in x#all of sink shelf')
  })

  it('refuses two sinks that write one target', () => {
    const two = 'sinks: [{ type: shelf, path: x }, { type: shelf, path: x, name: b }]'
    expect(unsafe(pipeline(two), [products])?.message).toBe(
      'a: sinks shelf and b both write x#products (shop.products, shop.products)',
    )
  })

  it('refuses two pipelines that write one target', () => {
    const sinks = 'sinks: [{ type: shelf, path: x }]'
    const planned = [
      { pipeline: pipeline(sinks), tables: [products] },
      { pipeline: pipeline(sinks, 'b'), tables: [elsewhere] },
      { pipeline: pipeline(sinks, 'c'), tables: [customers] },
    ]
    expect(refusal(() => refuseMeeting(planned))?.message).toBe(
      'pipelines meet: sink shelf of a and sink shelf of b both write x#products (shop.products, sales.products)',
    )
    expect(refusal(() => refuseMeeting(planned.slice(1)))).toBeNull()
  })

  it('refuses a table without a key for a sink that keeps rows by key', () => {
    const table = tableOf('shop', 'events', [], ['at'])
    expect(unsafe(pipeline('sinks: [{ type: shelf, path: x }]'), [table])?.message).toBe(
      'a: shop.events has no key, and sink shelf (shelf) keeps rows by key',
    )
    expect(unsafe(pipeline('sinks: [{ type: printer }]'), [table])).toBeNull()
  })

  it.each([
    ['drop: { fields: [id] }', 'drop'],
    ['mask: { fields: ["*"] }', 'mask'],
    ['rename: { fields: { shop.products.id: sku } }', 'rename'],
  ])('refuses to touch a key, before the log and after it: %s', (step, verb) => {
    const message = `a: ${verb} cannot touch "id": it is of the key (id) of shop.products`
    expect(unsafe(pipeline('', 'a', `{ ${step} }`), [products])?.message).toBe(message)
    expect(
      unsafe(pipeline(`sinks: [{ type: printer, transforms: [{ ${step} }] }]`), [products])?.message,
    ).toBe(message)
  })

  it('refuses two columns of one name', () => {
    const step = '{ rename: { fields: { descr: name } } }'
    expect(unsafe(pipeline('', 'a', step), [products])?.message).toBe(
      'a: rename would give shop.products two columns "name"',
    )
  })

  it('refuses a field that matches nothing: a mask would mask nothing', () => {
    const mask = (field: string) => `{ mask: { fields: [${field}] } }`
    expect(unsafe(pipeline('', 'a', mask('shop.customers.emial')), [products, customers])).toMatchObject({
      message: 'a: "shop.customers.emial" in mask matches no column; did you mean "shop.customers.email"?',
      hint: expect.stringContaining('a leak'),
    })
    const only = `sinks: [{ type: printer, only: [shop.products], transforms: [${mask('email')}] }]`
    expect(unsafe(pipeline(only), [products, customers])?.message).toContain(
      '"email" in mask matches no column',
    )
    // A step of the pipeline counts as used when one sink uses it; after a rename the new name counts.
    const shared = `transforms: [${mask('email')}]\nsinks: [{ type: printer, only: [shop.products] }, { type: printer, name: b }]`
    expect(unsafe(pipeline(shared), [products, customers])).toBeNull()
    const renamed = `transforms: [${mask('mail')}]\nsinks: [{ type: printer }]`
    expect(unsafe(pipeline(renamed, 'a', '{ rename: { fields: { email: mail } } }'), [customers])).toBeNull()
  })

  it('refuses an only that takes nothing', () => {
    expect(unsafe(pipeline('sinks: [{ type: printer, only: [shop.product] }]'), [products])?.message).toBe(
      'a: "shop.product" in "only" of sink printer matches no table of the source; did you mean "shop.products"?',
    )
  })

  it('says all at once', () => {
    const yaml = 'sinks: [{ type: shelf, path: x, table: all, transforms: [{ drop: { fields: [id] } }] }]'
    expect(unsafe(pipeline(yaml), [products, customers])?.message.split('\n')).toEqual([
      'a cannot run:',
      '- shop.products and shop.customers meet in x#all of sink shelf',
      '- drop cannot touch "id": it is of the key (id) of shop.products',
      '- drop cannot touch "id": it is of the key (id) of shop.customers',
    ])
  })
})

describe('fingerprint', () => {
  const made = fingerprintOf(pipeline('log: { partitions: 2 }'), [products, customers])

  it('survives JSON and the order of tables', () => {
    const again = fingerprintOf(pipeline('log: { partitions: 2 }\ndescription: other'), [customers, products])
    expect(changesOf(JSON.parse(JSON.stringify(made)) as Fingerprint, again)).toEqual([])
    expect(refusal(() => refuseChanged('a', made, again))).toBeNull()
  })

  it('tells what changed and how to start anew', () => {
    const now = fingerprintOf(pipeline('log: { partitions: 3 }'), [
      { ...products, key: ['id', 'name'] },
      elsewhere,
    ])
    expect(refusal(() => refuseChanged('a', made, now))).toEqual({
      kind: 'config',
      message:
        'a cannot go on, for its log and position were made for something else: the table sales.products is new; the key of shop.products was (id) and is (id, name); the table shop.customers is no longer read; log.partitions was 2 and is 3',
      hint: expect.stringContaining('millrace delete a --yes'),
    })
  })
})
