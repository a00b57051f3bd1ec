/** `npm run bench -- NAME [--rows N]`: one question each, with the raw limit beside it in the same run. */
import { parseArgs } from 'node:util'
import { benchLog } from './log.ts'
import { postgresToLog, postgresToSqlite } from './postgres.ts'

const BENCHES: Readonly<Record<string, (rows: number) => Promise<void>>> = {
  log: () => benchLog(),
  'postgres-to-log': postgresToLog,
  'postgres-to-sqlite': postgresToSqlite,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rows: { type: 'string', default: '1000000' } },
})
const bench = BENCHES[positionals[0] ?? '']
if (!bench) {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [--rows N]\n`)
  process.exit(2)
}
await bench(Number(values.rows))
