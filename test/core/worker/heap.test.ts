import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { HEAP_FLAG } from '../../../core/worker/heap.ts'

/** While it runs, as the program does. */
const SET = `
import { setFlagsFromString } from 'node:v8'
for (const flag of process.argv.slice(1)) setFlagsFromString(flag)
`
/** Much that lives until it is old, and then dies; prints the highest size of the heap. */
const CHURN = `
const live = Array.from({ length: 400_000 }, (_, i) => ({ i, text: 'x' + i }))
const ring = new Array(200_000)
let peak = 0
for (let i = 0; i < 6_000_000; i++) {
  ring[i % ring.length] = { i, pair: [i, i] }
  if (i % 50_000 === 0) peak = Math.max(peak, process.memoryUsage().heapTotal)
}
console.log(live.length > 0 && peak)
`
const peakOf = (...flags: string[]): number => {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `${SET}${CHURN}`, '--', ...flags],
    {
      encoding: 'utf8',
    },
  )
  expect(stderr, 'V8 knows the flag').toBe('')
  return Number(stdout)
}

it('the heap grows less over what lives in it than V8 lets it', () => {
  const [peak, without] = [peakOf(HEAP_FLAG), peakOf()]
  expect(peak).toBeGreaterThan(0)
  expect(peak).toBeLessThan(without)
})
