import { afterEach, describe, expect, it, vi } from 'vitest'
import { stdout } from '../../../connectors/stdout/sink.ts'
import { Fenced } from '../../../core/errors.ts'
import { testContext } from '../../conform/context.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { batchOf, recordOf } from '../../conform/sink.ts'

definitionConformance(stdout as never)

describe('stdout', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })
  const caught = () => {
    const lines: string[] = []
    vi.spyOn(process.stdout, 'write').mockImplementation(text => {
      lines.push(...String(text).split('\n').filter(Boolean))
      return true
    })
    return lines
  }

  it('prints {topic, partition, offset, version, key, value} a line, key and value as JSON', async () => {
    const lines = caught()
    const writer = await stdout.open({}, testContext())
    await writer.write(
      batchOf([recordOf({ id: 1, version: 7 }), recordOf({ op: 'sweep', version: 8, below: 8 })]),
    )
    vi.restoreAllMocks()
    const [first, second] = lines.map(line => JSON.parse(line) as Record<string, unknown>)
    expect(Object.keys(first!)).toEqual(['topic', 'partition', 'offset', 'version', 'key', 'value'])
    expect(first).toMatchObject({
      offset: 7,
      version: 7,
      key: { id: 1 },
      value: { op: 'u', before: null, after: { id: 1, price: '1.50' } },
    })
    expect(second).toMatchObject({ key: { sweep: 'test.kit' }, value: { op: 'sweep', below: 8 } })
  })

  it('prints nothing once its lease has run out (L1)', async () => {
    const lines = caught()
    const writer = await stdout.open({}, testContext({ deadlineMs: () => 0 }))
    const refused = await writer.write(batchOf([recordOf({ version: 1 })])).catch(error => error as Error)
    vi.restoreAllMocks()
    expect(refused).toBeInstanceOf(Fenced)
    expect(lines).toEqual([])
  })
})
