/**
 * Keeps a worker that lost its task from writing (L1). A deadline that is checked before a request cannot: frozen behind the check, or
 * with half a body on its way, it sends the rest when it thaws, and once the cluster has forgotten a delete (gc_deletes) the versions
 * do not refuse what comes. So each owner writes under a name of its own, and the next one takes that name away:
 *
 *   orders                           the index
 *   orders.MILLRACE.shop.search.0.7  alias for the owner of epoch 7 of task shop/search/0; that of epoch 6 goes in the same step
 *
 * The cluster looks a name up when a bulk request is whole, so that nothing sent under a lost name is done. Capitals are forbidden in the
 * names of indexes and not of aliases: a write under a lost name can never make an index of it.
 */
import { createHash } from 'node:crypto'
import { assertLease, type Context } from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'
import { call, type SearchClient } from './client.ts'
import type { StandingIndex } from './difference.ts'

/** Elasticsearch's and OpenSearch's limit for the name of an alias is 255 bytes. */
const LONGEST_BEFORE_EPOCH = 230

/** Of all owners of a task on an index, up to the epoch. */
export function fencePrefix(index: string, task: string): string {
  // A dot is no part of a pipeline's or a sink's name.
  const whole = `${index}.MILLRACE.${task.replaceAll('/', '.')}.`
  if (Buffer.byteLength(whole) <= LONGEST_BEFORE_EPOCH) return whole
  return `MILLRACE.${createHash('sha256').update(whole).digest('hex').slice(0, 32)}.`
}

/**
 * Takes every earlier owner's name away and gives the index this one's. Answers with the name to write to: the index itself where the
 * user may make no aliases. Throws as `call`, and `Fenced` when the lease ran out.
 */
export async function takeOver(
  client: SearchClient,
  standing: StandingIndex,
  context: Context,
): Promise<string> {
  const { task, epoch, log, signal } = context
  const prefix = fencePrefix(standing.name, task)
  const own = `${prefix}${epoch}`
  const earlier = standing.aliases.filter(alias => alias.startsWith(prefix) && alias !== own)
  if (earlier.length === 0 && standing.aliases.includes(own)) return own
  const { name: index } = standing
  assertLease(context)
  try {
    await call(client, `taking over index "${index}" by an alias`, {
      method: 'POST',
      path: '/_aliases',
      body: {
        actions: [
          ...earlier.map(alias => ({ remove: { index, alias, must_exist: false } })),
          { add: { index, alias: own, is_hidden: true } },
        ],
      },
      signal,
      retries: 0, // a second try would not look at the lease
    })
    return own
  } catch (error) {
    if (!(error instanceof ConnectorError) || error.kind !== 'auth') throw error
    log.warn(
      { task, index },
      `${error.message}: without the right to give index ${index} aliases (\`manage\` on ${index}*), a worker that was frozen for longer than index.gc_deletes could bring back a deleted document`,
    )
    return index
  }
}

/** Takes the names of all owners of these tasks away, from every index. Repeatable. */
export async function forget(
  client: SearchClient,
  tasks: readonly string[],
  { signal }: Context,
): Promise<void> {
  const all = await call<{ [index: string]: { aliases: object } }>(
    client,
    'looking at aliases',
    {
      method: 'GET',
      path: '/_alias/*MILLRACE.*',
      query: { expand_wildcards: 'all' },
      signal,
    },
    true,
  )
  const actions = Object.entries(all ?? {}).flatMap(([index, { aliases }]) =>
    Object.keys(aliases)
      .filter(alias => tasks.some(task => alias.startsWith(fencePrefix(index, task))))
      .map(alias => ({ remove: { index, alias, must_exist: false } })),
  )
  if (actions.length === 0) return
  const body = { actions }
  await call(client, 'taking aliases away', { method: 'POST', path: '/_aliases', body, signal })
}

/** Why the cluster knows the name no more, when it says so. */
export function whyLost(
  { product, target }: SearchClient,
  name: string,
  standing: StandingIndex | null,
  { task, epoch }: Context,
): Error {
  if (standing === null)
    return new ConnectorError(
      'unavailable',
      `${product} ${target}: index "${name}" was removed while it is written`,
      { hint: 'It is made again. What stood in it comes back only with a new snapshot.' },
    )
  return new Fenced(
    `${product} ${target}: the alias of ${task}, epoch ${epoch}, is gone from index "${name}": a newer owner writes, or somebody took it away`,
  )
}
