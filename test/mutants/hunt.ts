/** Runs seeds of a simulation until one fails: exit 1 and what it found, else 0. `node hunt.js sim|fleet|handoff SEEDS`, in a copy of dist/. */
import { runFleetSeed } from '../sim/fleet.ts'
import { runHandoff } from '../sim/handoff.ts'
import { runSeed } from '../sim/run.ts'

const [which, seeds] = process.argv.slice(2)
const run: (seed: number) => Promise<unknown> =
  which === 'handoff' ? runHandoff : which === 'fleet' ? runFleetSeed : runSeed
for (let seed = 1; seed <= Number(seeds); seed++) {
  try {
    await run(seed)
  } catch (error) {
    process.stdout.write(`${(error as Error).message.split('\n')[0]!.slice(0, 300)}\n`)
    process.exit(1)
  }
}
process.exit(0)
