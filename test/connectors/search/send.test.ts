/** What the kits cannot time: requests are made while others are on their way. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { SearchAnswer, SearchClient } from '../../../connectors/search/client.ts'
import { shared } from '../../../connectors/search/config.ts'
import { halves, type Operations, packerOf, pick } from '../../../connectors/search/operations.ts'
import { paceOf } from '../../../connectors/search/pace.ts'
import { send } from '../../../connectors/search/send.ts'
import { testContext } from '../../conform/context.ts'
import { recordOf } from '../../conform/kit-table.ts'

const config = z.strictObject(shared).parse({})

const packed = (texts: readonly string[], actions = 1_000, bytes = 1_000): Operations[] => {
  const packer = packerOf(actions, bytes)
  const found: Operations[] = []
  for (const [i, text] of texts.entries()) {
    const record = recordOf({ id: i, version: i + 1 })
    if (packer.add(record, text)) continue
    found.push(packer.take())
    expect(packer.add(record, text)).toBe(true)
  }
  found.push(packer.take())
  return found
}
const textsOf = ({ ends, bytes }: Operations): string[] =>
  ends.map((end, i) => bytes.toString('utf8', i === 0 ? 0 : ends[i - 1]!, end))

describe('operations of a request', () => {
  it('are cut by number and by bytes, whatever their characters; one that is larger stands alone', () => {
    const texts = ['a'.repeat(400), 'ü'.repeat(300), '語'.repeat(200), '😀'.repeat(700), 'b', '', 'c']
    const found = packed(texts)
    expect(found.map(textsOf)).toEqual([[texts[0], texts[1]], [texts[2]], [texts[3]], ['b', '', 'c']])
    expect(packed(texts, 2, 1_000_000).map(one => one.ends.length)).toEqual([2, 2, 2, 1])
  })

  it('fill a request up to its last byte', () => {
    expect(packed(['a'.repeat(600), 'ü'.repeat(200), 'b']).map(one => one.bytes.length)).toEqual([1_000, 1])
  })

  it('can be picked and halved, with their records', () => {
    const [all] = packed(['one', 'zwei', '三', '😀', 'five'])
    expect(textsOf(pick(all!, [1, 3]))).toEqual(['zwei', '😀'])
    expect(pick(all!, [1, 3]).records).toEqual([all!.records[1], all!.records[3]])
    expect(halves(all!).map(textsOf)).toEqual([
      ['one', 'zwei', '三'],
      ['😀', 'five'],
    ])
  })
})

describe('sending', () => {
  const context = testContext()
  const parts = (request: () => Promise<SearchAnswer>) => ({
    client: { product: 'elasticsearch', target: 'http://a', request } as unknown as SearchClient,
    config,
    context,
    pace: paceOf({ parallel: 4, clock: context.clock, random: () => 0.5 }),
    index: 'kit',
    lost: async (error: Error) => error,
  })
  const DONE: SearchAnswer = { status: 200, body: { errors: false, items: [{ index: { status: 201 } }] } }

  it('leaves nothing in flight when the next request cannot be made', async () => {
    let answer = () => {}
    let isAnswered = false
    const answered = new Promise<void>(resolve => {
      answer = resolve
    })
    function* made(): Generator<Operations, void> {
      yield packed(['one'])[0]!
      setTimeout(answer, 20)
      throw new Error('no such renderer')
    }
    const sending = send(
      parts(async () => {
        await answered
        isAnswered = true
        return DONE
      }),
      made(),
    )
    await expect(sending).rejects.toThrow('no such renderer')
    expect(isAnswered).toBe(true)
  })

  it('makes no more than is on its way', async () => {
    let made = 0
    let most = 0
    let answers = 0
    function* many(): Generator<Operations, void> {
      for (; made < 50; made++) {
        most = Math.max(most, made - answers)
        yield packed(['one'])[0]!
      }
    }
    const sent = await send(
      parts(async () => {
        await new Promise(resolve => setTimeout(resolve, 1))
        answers++
        return DONE
      }),
      many(),
    )
    expect(sent).toEqual({ rejected: [], refused: 0 })
    expect(answers).toBe(50)
    expect(most).toBeLessThanOrEqual(4)
  })
})
