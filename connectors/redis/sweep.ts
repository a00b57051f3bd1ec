/** Going through all keys: for a sweep of what keeps no rows, and for what nothing else knows of. */
import type { Redis } from 'ioredis'
import { partsOf } from '../../core/format/template.ts'
import type { LogRecord } from '../../core/record.ts'
import type { RedisConfig } from './config.ts'
import type { Client } from './connection.ts'

const SCANNED = 1_000

/** Keys that match a pattern, of every master; some perhaps twice. */
export async function* scan(client: Client, pattern: string): AsyncGenerator<string> {
  const masters: readonly Redis[] = client.isCluster
    ? (client as Extract<Client, { nodes: unknown }>).nodes('master')
    : [client as Redis]
  for (const master of masters) {
    let cursor = '0'
    do {
      const [next, keys] = await master.scan(cursor, 'MATCH', pattern, 'COUNT', SCANNED)
      cursor = next
      yield* keys
    } while (cursor !== '0')
  }
}

/** Every key that the template can give for the table. */
export async function invalidateAll(
  client: Client,
  options: RedisConfig,
  { table, topic }: LogRecord,
): Promise<void> {
  const known: Readonly<Record<string, string>> = { table: table.name, schema: table.schema, topic }
  const pattern = partsOf(options.key)
    .map((part, i) => {
      const text = i % 2 === 0 ? part : known[part]
      return text === undefined ? '*' : text.replace(/[\\*?[\]]/g, '\\$&')
    })
    .join('')
  for await (const key of scan(client, pattern)) await client.unlink(key)
}
