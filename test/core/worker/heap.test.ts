import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'

const HEAP = new URL('../../../core/worker/heap.ts', import.meta.url)
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
/** The flag as it stands in the module, so that no loader of TypeScript is needed in the child. */
const flagOf = async (): Promise<string> => {
  const { readFile } = await import('node:fs/promises')
  return /'(--heap[^']+)'/.exec(await readFile(HEAP, 'utf8'))![1]!
}
const peakOf = (prelude: string): number => {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `${prelude}\n${CHURN}`],
    { encoding: 'utf8' },
  )
  expect(stderr, 'V8 knows the flag').toBe('')
  return Number(stdout)
}

it('the heap grows less over what lives in it than V8 lets it', async () => {
  const bounded = `import { setFlagsFromString } from 'node:v8'; setFlagsFromString('${await flagOf()}')`
  const [peak, without] = [peakOf(bounded), peakOf('')]
  expect(peak).toBeGreaterThan(0)
  expect(peak).toBeLessThan(without)
})
