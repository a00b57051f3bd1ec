/** PostgreSQL 14 and newer: a snapshot of the tables and every change after it, by logical replication (pgoutput). */
import { type Context, defineSource, type SourcePlan } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import { planOf } from './catalog.ts'
import { check } from './check.ts'
import { config, type PostgresConfig } from './config.ts'
import { connect, targetOf } from './connect.ts'
import { positionOf } from './position.ts'
import { openReader } from './reader.ts'
import { followedTables, upstreamName } from './setup.ts'
import { dropUpstream, findPublication, slotState } from './upstream.ts'

const namesOf = ({ pipeline }: Context) => ({
  slot: upstreamName(pipeline),
  publication: upstreamName(pipeline),
})

async function plan(options: PostgresConfig, context: Context): Promise<SourcePlan> {
  const client = await connect(options, { applicationName: 'millrace plan' })
  try {
    const tables = await followedTables(client, options)
    const keyless = tables.filter(table => table.key.length === 0)
    if (keyless.length > 0) {
      throw new ConnectorError(
        'config',
        `PostgreSQL ${targetOf(client).text}: no primary key: ${keyless.map(one => `${one.schema}.${one.name}`).join(', ')}`,
        {
          hint: 'Give each a PRIMARY KEY, or leave it out of `tables`: a table without a key is not built yet.',
        },
      )
    }
    const { slot, publication } = namesOf(context)
    return {
      tables: tables.map(table => ({ table: planOf(table, options.columns).table, rows: table.rows })),
      upstream: [
        {
          kind: 'publication',
          name: publication,
          exists: (await findPublication(client, publication)) !== null,
        },
        { kind: 'replication slot', name: slot, exists: (await slotState(client, slot)) !== null },
      ],
    }
  } finally {
    await client.end()
  }
}

export const postgres = defineSource({
  name: 'postgres',
  summary: 'Takes a snapshot of PostgreSQL tables and follows every change by logical replication.',
  config,
  examples: [
    {
      title: 'Two tables and all whose name begins with "review"',
      config: {
        url: 'postgres://millrace:secret@127.0.0.1:5432/shop',
        tables: ['shop.products', 'shop.categories', 'shop.review*'],
      },
    },
    {
      title: 'Without some columns',
      config: {
        url: 'postgres://millrace:secret@127.0.0.1:5432/shop',
        tables: ['shop.products'],
        columns: { 'shop.products': ['!cost', '!supplier_*'] },
      },
    },
  ],
  check: (options, context) => check(options, namesOf(context)),
  plan,
  async open(options, from, context) {
    return openReader(options, from === null ? null : positionOf(from), context)
  },
  async drop(options, context) {
    const client = await connect(options, { applicationName: 'millrace delete' })
    try {
      return await dropUpstream(client, namesOf(context), { sleep: ms => context.clock.sleep(ms) })
    } finally {
      await client.end()
    }
  },
})
