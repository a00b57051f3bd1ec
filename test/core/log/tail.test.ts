import { expect, it } from 'vitest'
import { freshOf } from '../../../core/kafka/tail.ts'

const at = (...offsets: number[]) => offsets.map(offset => ({ offset: String(offset) }))

it('takes a fetch at what is due whole, cuts what was seen, and refuses one that begins beyond (K4, V5)', () => {
  const messages = at(5, 6, 8, 9)
  expect(freshOf(messages, 5, 5)).toBe(messages)
  // The coordinator went away, and a fetch of before comes behind the ones that were asked for afterwards.
  expect(freshOf(messages, 5, 8)).toEqual(at(8, 9))
  expect(freshOf(messages, 0, 20)).toEqual([])
  // Gaps are the markers of transactions.
  expect(freshOf(at(7), 6, 6)).toEqual(at(7))
  expect(freshOf(messages, 5, 4)).toBeNull()
})
