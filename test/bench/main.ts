/** `npm run bench -- NAME [--rows N] [--minutes N]`: one question each, with the raw limit beside it in the same run. */
import { parseArgs } from 'node:util'
import { fleet } from './fleet.ts'
import { formats } from './formats.ts'
import { benchLog } from './log.ts'
import { logToMariadb } from './log-to-mariadb.ts'
import { logToPostgres } from './log-to-postgres.ts'
import { logToObjects } from './object.ts'
import { postgresToLog, postgresToSqlite } from './postgres.ts'
import { postgresToKafka } from './postgres-to-kafka.ts'
import { logToRedis } from './redis.ts'
import { postgresToSearch } from './search.ts'
import { stoppedSink } from './stopped-sink.ts'

const BENCHES: Readonly<Record<string, (rows: number | undefined, minutes: number) => Promise<void>>> = {
  log: () => benchLog(),
  'postgres-to-log': (rows = 1_000_000) => postgresToLog(rows),
  'postgres-to-sqlite': (rows = 1_000_000) => postgresToSqlite(rows),
  'postgres-to-kafka': (rows = 400_000) => postgresToKafka(rows),
  'postgres-to-elasticsearch': (rows = 200_000) => postgresToSearch('elasticsearch-9', rows),
  'postgres-to-opensearch': (rows = 200_000) => postgresToSearch('opensearch-2', rows),
  'log-to-postgres': (rows = 300_000) => logToPostgres(rows),
  'log-to-mariadb': (rows = 200_000) => logToMariadb(rows),
  'log-to-redis': (rows = 300_000) => logToRedis(rows),
  'log-to-objects': (rows = 1_000_000) => logToObjects(rows),
  formats: (rows = 300_000) => formats(rows),
  fleet: (_, minutes) => fleet(Math.min(60, minutes * 2)),
  'stopped-sink': (_, minutes) => stoppedSink(minutes),
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rows: { type: 'string' }, minutes: { type: 'string', default: '10' } },
})
const bench = BENCHES[positionals[0] ?? '']
if (!bench) {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [--rows N] [--minutes N]\n`)
  process.exit(2)
}
await bench(values.rows === undefined ? undefined : Number(values.rows), Number(values.minutes))
