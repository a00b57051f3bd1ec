/**
 * What stands upstream before the stream begins: publication, then slot, then the plan of the chunks; and whether a position
 * still fits what is there (H11, V3).
 */
import type pg from 'pg'
import type { Context } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import {
  type CatalogTable,
  describeTables,
  identifySystem,
  matchTables,
  relationNames,
  runningTransactions,
  serverFacts,
} from './catalog.ts'
import { fillOf, tableName } from './chunks.ts'
import type { PostgresConfig } from './config.ts'
import { connect, query, targetOf } from './connect.ts'
import { type Following, firstPosition, lsnOf } from './position.ts'
import { createSlot, tellingWaits } from './slot.ts'
import { ensurePublication, freeSlot, slotState } from './upstream.ts'

const DAY_US = 86_400_000_000

/** Slot = publication = prefix of messages. */
export const upstreamName = (pipeline: string): string => `millrace_${pipeline.replaceAll('-', '_')}`

async function withControl<T>(
  config: PostgresConfig,
  { pipeline }: Context,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(config, { applicationName: `millrace ${pipeline}` })
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** A slot of our name before we ever made one belongs to somebody else. */
export const refuseForeignSlot = (config: PostgresConfig, context: Context): Promise<void> =>
  withControl(config, context, async client => {
    const name = upstreamName(context.pipeline)
    if (!(await slotState(client, name))) return
    throw new ConnectorError(
      'config',
      `PostgreSQL ${targetOf(client).text} already has a replication slot "${name}" that this data directory knows nothing of`,
      {
        hint: `Another hub may run this pipeline. If none does: SELECT pg_drop_replication_slot('${name}');  Else give the pipeline another name.`,
      },
    )
  })

/** Tables by the patterns of the config, as they are now. */
export async function followedTables(
  client: pg.Client,
  config: PostgresConfig,
): Promise<readonly CatalogTable[]> {
  const { tables } = matchTables(await relationNames(client), config.tables)
  return describeTables(
    client,
    tables.map(table => table.oid),
  )
}

/** A slot that is there already was left by a start that was cut short. */
export async function create(config: PostgresConfig, context: Context): Promise<Following> {
  const { systemId, timeline } = await identifySystem(config)
  return withControl(config, context, async client => {
    const name = upstreamName(context.pipeline)
    const waiting = { sleep: (ms: number) => context.clock.sleep(ms, context.signal) }
    if (await slotState(client, name)) {
      await freeSlot(client, name, waiting)
      await query(client, 'SELECT pg_drop_replication_slot($1)', [name])
    }
    await ensurePublication(client, name, await followedTables(client, config))
    const connectAnew = () => connect(config, { applicationName: `millrace ${context.pipeline}` })
    const { lsn } = await tellingWaits(connectAnew, context, createSlot(client, name, context))
    const running = await runningTransactions(client)
    const tables = await followedTables(client, config)
    const fill = Object.fromEntries(tables.map(table => [tableName(table), fillOf(table)]))
    context.log.info(
      { pipeline: context.pipeline, slot: name, tables: tables.length },
      `made slot and publication ${name}`,
    )
    return firstPosition({ system: systemId, timeline, lsn, fill }, running)
  })
}

/** V3, H11: another clock, another server, a slot that is gone or has let go of what comes next. */
export async function refuseLost(
  config: PostgresConfig,
  { clock }: Context,
  client: pg.Client,
  name: string,
  position: Following,
): Promise<void> {
  const at = `PostgreSQL ${targetOf(client).text}`
  const lost = (what: string) =>
    new ConnectorError('offset_lost', `${at}: ${what}`, {
      hint: 'A new snapshot is needed: millrace delete NAME --yes, then start again.',
    })
  const { nowUs } = await serverFacts(client)
  if (Math.abs(nowUs - clock.nowUs()) > DAY_US)
    throw new ConnectorError('config', `${at}: its clock and this machine's differ by more than a day`, {
      hint: 'Set the clocks: versions are taken from this one.',
    })
  const system = await identifySystem(config)
  if (system.systemId !== position.system)
    throw lost(
      `it is another server (system ${system.systemId}) than the one that was followed (${position.system})`,
    )
  if (system.timeline < position.timeline)
    throw lost(`its timeline went back from ${position.timeline} to ${system.timeline}`)
  const slot = await slotState(client, name)
  if (!slot) throw lost(`the replication slot "${name}" is gone`)
  if (slot.lost) throw lost(`the replication slot "${name}" is invalidated (${slot.lost})`)
  if (slot.confirmedLsn && lsnOf(slot.confirmedLsn) > lsnOf(position.lsn))
    throw lost(
      `the slot "${name}" has let go of changes up to ${slot.confirmedLsn}, and the log ends at ${position.lsn}`,
    )
}
