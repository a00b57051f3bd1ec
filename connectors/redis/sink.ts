/** Rows as keys of Redis: a cache that never goes backwards, sets, streams of changes, or the mere invalidation of somebody else's. */
import { type Context, defineSink, type SinkTarget } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { fillTable } from '../../core/format/template.ts'
import { config, isKept, isOneSlot, problemsOf, type RedisConfig, tagOf, targetText } from './config.ts'
import { connect, redisError } from './connection.ts'
import { positionName } from './names.ts'
import { openRedisWriter } from './writer.ts'

/** Small enough that a script keeps others waiting for milliseconds only. */
const BATCH = { records: 4_000, bytes: 4 << 20 }

export const redis = defineSink({
  name: 'redis',
  summary:
    'Keeps rows as keys of Redis (JSON, hashes, strings, sets), writes streams of changes, or deletes the keys of what changed.',
  config,
  examples: [
    { title: 'A key for each row, as JSON', config: { url: 'redis://localhost:6379' } },
    {
      title: 'Hashes that expire, with a password and TLS',
      config: {
        url: '${env:REDIS_URL}',
        structure: 'hash',
        key: 'product:${id}',
        ttl_seconds: 86_400,
        tls: { ca: '/etc/ssl/redis-ca.pem' },
      },
    },
    {
      title: 'Products of a category by price',
      config: {
        url: 'redis://localhost:6379',
        structure: 'sorted_set',
        key: 'category:${category_id}',
        member: '${id}',
        score: 'price',
      },
    },
    {
      title: 'The last million changes, as a stream',
      config: {
        url: 'redis://localhost:6379',
        structure: 'stream',
        key: 'changes:${table}',
        max_length: 1_000_000,
      },
    },
    {
      title: 'Somebody else fills the cache: delete what has changed, in a cluster',
      config: {
        url: 'rediss://app:secret@redis.example.com:6379',
        cluster: ['redis-1.example.com:6379', 'redis-2.example.com:6379'],
        structure: 'invalidate',
        key: 'page:${table}:${id}',
      },
    },
  ],
  batch: BATCH,
  keyed: ({ structure }) => isKept(structure),
  delivery: options =>
    isOneSlot(options) ? 'exactly_once' : options.structure === 'stream' ? 'at_least_once' : 'idempotent',
  target: (options, table) =>
    isKept(options.structure)
      ? `${targetText(options, table)}${options.structure.endsWith('set') ? ` ${fillTable(options.member.replace(/\$\{(?!table\}|schema\}|topic\})[^}]*\}/g, '*'), table, '')}` : ''}`
      : `${targetText(options, table)} ${table.schema}.${table.name}`,
  async check(options, context) {
    await using connection = await connect(options, context.log)
    try {
      await connection.client.exists(positionName(context.task, slotTag(options)))
    } catch (error) {
      throw redisError(error, connection.target)
    }
  },
  async plan(options, tables): Promise<readonly SinkTarget[]> {
    const problems = tables.flatMap(({ table }) => problemsOf(options, table))
    if (problems.length > 0)
      throw new ConnectorError(
        'config',
        `Redis cannot take the tables: ${[...new Set(problems)].join('; ')}`,
        {
          hint: 'Mend the sink in the file, or give it a part of the tables with `only`.',
        },
      )
    const { structure, key } = options
    return tables.map(({ table, topic }) => ({
      name: key.replace(/\$\{(table|schema|topic)\}/g, whole => fillTable(whole, table, topic)),
      tables: [`${table.schema}.${table.name}`],
      exists: false,
      definition: definitionOf(options, structure),
      differences: [],
    }))
  },
  async open(options: RedisConfig, context: Context) {
    return openRedisWriter(await connect(options, context.log), options, context)
  },
  async forget(options, tasks, context) {
    if (!isOneSlot(options)) return
    await using connection = await connect(options, context.log)
    try {
      for (const task of tasks) await connection.client.unlink(positionName(task, slotTag(options)))
    } catch (error) {
      throw redisError(error, connection.target)
    }
  },
})

const slotTag = ({ cluster, key }: RedisConfig): string => {
  const tag = cluster ? tagOf(key) : null
  return tag === null ? '' : `{${tag}}`
}

const definitionOf = (
  { member, score, value, ttl_seconds, expire_at, max_length }: RedisConfig,
  structure: string,
) => ({
  structure,
  ...(structure.endsWith('set') ? { member } : {}),
  ...Object.fromEntries(
    Object.entries({ score, value, ttl_seconds, expire_at, max_length }).filter(
      ([, one]) => one !== undefined,
    ),
  ),
})
