/** `npm run soak -- failover --minutes 15 [--seed 1]`, `npm run soak -- kills --rounds 200 [--seed 1] [--sink sqlite|postgres|mariadb|redis|elasticsearch-9|…]`: what takes longer than a test may. Exit 1 when anything was found. */
import { parseArgs } from 'node:util'
import { SEARCH_SERVERS } from '../servers/search.ts'
import { faultsOf } from './check.ts'
import { failover, failoverSummary } from './failover.ts'
import { killRounds, summaryOf } from './kills.ts'
import { mariadbSink, postgresSink, redisSink, searchSink, sqliteSink } from './sinks.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    keep: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '15' },
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    sink: { type: 'string', default: 'sqlite' },
  },
})
const SINKS = ['sqlite', 'postgres', 'mariadb', 'redis', ...SEARCH_SERVERS] as const
const kind = SINKS.find(one => one === values.sink)
const say = (text: string) => process.stdout.write(`${text}\n`)
if (positionals[0] === 'failover') {
  const report = await failover(Number(values.minutes), Number(values.seed), say, values.keep)
  for (const what of ['lost', 'backwards', 'doubled', 'different'] as const)
    for (const line of report[what].slice(0, 10)) say(`${what}: ${line}`)
  say(failoverSummary(report))
  process.exit(faultsOf(report) > 0 ? 1 : 0)
}
if (positionals[0] !== 'kills' || !kind) {
  process.stderr.write(
    `usage: npm run soak -- kills --rounds 200 [--seed 1] [--sink ${SINKS.join('|')}]\n       npm run soak -- failover --minutes 15 [--seed 1] [--keep]\n`,
  )
  process.exit(2)
}
const open = () => {
  if (kind === 'sqlite') return sqliteSink()
  if (kind === 'postgres') return postgresSink()
  if (kind === 'mariadb') return mariadbSink()
  return kind === 'redis' ? redisSink() : searchSink(kind)
}
const sink = await open()
const report = await killRounds(Number(values.rounds), Number(values.seed), say, sink)
for (const what of ['lost', 'backwards', 'doubled', 'different'] as const)
  for (const line of report[what].slice(0, 10)) process.stdout.write(`${what}: ${line}\n`)
for (const line of report.gaveUp.slice(0, 5)) process.stdout.write(`gave up: ${line}\n`)
process.stdout.write(`${summaryOf(report)}\n`)
await sink[Symbol.asyncDispose]()
process.exit(faultsOf(report) > 0 ? 1 : 0)
