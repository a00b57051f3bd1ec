import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { shared } from '../../../connectors/search/config.ts'
import { propertiesFor } from '../../../connectors/search/mapping.ts'
import { rendererOf } from '../../../connectors/search/render.ts'
import { KIT_TABLE, recordOf } from '../../conform/kit-table.ts'

const config = z.strictObject(shared).parse({})

function documentOf(columns: Record<string, string>, row: string): unknown {
  const table = { ...KIT_TABLE, columns: Object.entries(columns).map(([name, type]) => ({ name, type })) }
  const renderer = rendererOf(table, propertiesFor(table, config, 'elasticsearch'), config)
  const { _millrace, ...document } = JSON.parse(
    renderer.document({ ...recordOf({ version: 7, row }), table }),
  ) as Record<string, unknown>
  expect(_millrace).toEqual({ origin: 'kit.test.kit/0', version: 7 })
  return document
}

describe('documents', () => {
  it('hold numeric as numbers with all their digits', () => {
    const renderer = rendererOf(KIT_TABLE, propertiesFor(KIT_TABLE, config, 'elasticsearch'), config)
    const row = '{"id":9223372036854775807,"price":"12345678901234567890.10"}'
    expect(renderer.document(recordOf({ version: 7, row }))).toBe(
      '{"id":9223372036854775807,"price":12345678901234567890.10,"_millrace":{"origin":"kit.test.kit/0","version":7}}',
    )
    expect(renderer.document(recordOf({ version: 7, row: '{}' }))).toBe(
      '{"_millrace":{"origin":"kit.test.kit/0","version":7}}',
    )
  })

  it('put JSON that is no object under `value`, since a flattened field takes objects alone', () => {
    const of = (json: string) => (documentOf({ j: 'jsonb' }, `{"j":${json}}`) as { j: unknown }).j
    expect(of('{"a":[1,{"b":2}]}')).toEqual({ a: [1, { b: 2 }] })
    expect(of('[{"a":1},{"a":2}]')).toEqual([{ a: 1 }, { a: 2 }])
    expect(of('null')).toBeNull()
    for (const json of ['[1,"a"]', '[{"a":1},2]', '[[{}]]', '"text"', '17', 'true', '[]'].filter(
      one => one !== '[]',
    ))
      expect(of(json), json).toEqual({ value: JSON.parse(json) })
    expect(of('[]')).toEqual([])
  })

  it('read points and EWKB as places, and leave anything else as it is', () => {
    const columns = { p: 'point', g: 'geometry' }
    // SELECT ST_SetSRID(ST_MakePoint(13.4, 52.5), 4326)
    const ewkb = '0101000020E6100000CDCCCCCCCCCC2A400000000000404A40'
    expect(documentOf(columns, `{"p":"(13.4,52.5)","g":"${ewkb}"}`)).toEqual({
      p: 'POINT (13.4 52.5)',
      g: expect.objectContaining({ type: 'Point', coordinates: [13.4, 52.5] }),
    })
    expect(documentOf(columns, '{"p":null,"g":"POINT (1 2)"}')).toEqual({ p: null, g: 'POINT (1 2)' })
    expect(documentOf(columns, '{"p":"north","g":"0123456789"}')).toEqual({ p: 'north', g: '0123456789' })
  })
})
