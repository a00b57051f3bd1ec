/** `npm run soak -- kills --rounds 200 [--seed 1]`: what takes longer than a test may. Exit 1 when anything was found. */
import { parseArgs } from 'node:util'
import { faultsOf, killRounds, summaryOf } from './kills.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '200' }, seed: { type: 'string', default: '1' } },
})
if (positionals[0] !== 'kills') {
  process.stderr.write('usage: npm run soak -- kills --rounds 200 [--seed 1]\n')
  process.exit(2)
}
const report = await killRounds(Number(values.rounds), Number(values.seed), text =>
  process.stdout.write(`${text}\n`),
)
for (const what of ['lost', 'backwards', 'doubled', 'different'] as const)
  for (const line of report[what].slice(0, 10)) process.stdout.write(`${what}: ${line}\n`)
for (const line of report.gaveUp.slice(0, 5)) process.stdout.write(`gave up: ${line}\n`)
process.stdout.write(`${summaryOf(report)}\n`)
process.exit(faultsOf(report) > 0 ? 1 : 0)
