/**
 * What the change log brings, as records in a feed: replication messages in, `Feed` calls out. Keeps the shape of each table,
 * looks a changed one up in the catalog (the stream stands still meanwhile), and knows the messages that are ours.
 */
import type pg from 'pg'
import type { Context } from '../../core/connector.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { type CatalogTable, describeTables, planOf, resolveTypes, widenXid } from './catalog.ts'
import { tableName } from './chunks.ts'
import type { PostgresConfig } from './config.ts'
import type { RowPlan } from './encode.ts'
import type { Feed } from './feed.ts'
import type { Handoff } from './handoff.ts'
import { type Change, type Handlers, pgOutputDecoder, type Relation } from './pgoutput.ts'
import type { Unchanged } from './toast.ts'
import type { PgType } from './values.ts'

export interface StreamParts {
  readonly config: PostgresConfig
  readonly context: Context
  readonly prefix: string
  readonly feed: Feed
  readonly handoff: Handoff
  readonly tables: readonly CatalogTable[]
  /** For the catalog. */
  readonly client: pg.Client
  readonly xidReference: () => bigint
  /** The message after which everything that stood upstream at the start has been read. */
  readonly endToken: string
  /** Holds the stream until the promise settles. */
  readonly hold: (until: Promise<void>) => void
}

export interface Stream {
  decode(buffer: Buffer, start: number, end: number, lsn: bigint): void
  /** Records whose big columns must be read again before they go out. */
  readonly gaps: Map<ChangeRecord, Unchanged>
}

interface State extends StreamParts {
  readonly catalog: Map<string, CatalogTable>
  readonly types: Map<number, PgType>
  readonly heads: WeakMap<RowPlan, string>
  readonly gaps: Map<ChangeRecord, Unchanged>
  /** Columns as the last Relation had them. */
  readonly shapes: Map<string, string>
  xid: bigint
  xidShort: number
  commitUs: number
  commitMs: number
}

const columnsText = (columns: readonly { readonly name: string; readonly oid: number }[]): string =>
  JSON.stringify(columns.map(({ name, oid }) => [name, oid]))

export function streamOf(parts: StreamParts): Stream {
  const { tables } = parts
  const state: State = {
    ...parts,
    catalog: new Map(tables.map(table => [tableName(table), table])),
    types: new Map(),
    heads: new WeakMap(),
    gaps: new Map(),
    shapes: new Map(tables.map(table => [tableName(table), columnsText(table.columns)])),
    xid: 0n,
    xidShort: 0,
    commitUs: 0,
    commitMs: 0,
  }
  const planFor = (relation: Relation): RowPlan | null => {
    const known = state.catalog.get(tableName(relation))
    return known ? planOf(known, state.config.columns, relation.columns, state.types) : null
  }
  return { decode: pgOutputDecoder(planFor, handlersOf(state)).decode, gaps: state.gaps }
}

function handlersOf(state: State): Handlers {
  const { feed, handoff, prefix, endToken } = state
  return {
    begin(xid, commitLsn, commitUs) {
      state.xid = widenXid(xid, state.xidReference())
      state.xidShort = xid
      state.commitUs = commitUs
      state.commitMs = Math.floor(commitUs / 1000)
      feed.begin(state.xid, commitLsn)
    },
    commit: (_, endLsn) => feed.commit(endLsn),
    relation: relation => shaped(state, relation),
    change: change => changed(state, change),
    truncate: relations => truncated(state, relations),
    message(_, of, content) {
      if (of !== prefix) return
      handoff.message(content)
      if (content === endToken) feed.reachedEnd()
    },
  }
}

/** A table that is followed and looks otherwise than before: what was read of it under the old shape is thrown away (H4). */
function shaped(state: State, relation: Relation): void {
  const name = tableName(relation)
  const known = state.catalog.get(name)
  if (!known) return
  const shape = columnsText(relation.columns)
  if (state.shapes.get(name) === shape) return
  state.shapes.set(name, shape)
  state.handoff.disturbed(name)
  state.hold(lookUp(state, relation, name))
}

async function lookUp(state: State, relation: Relation, name: string): Promise<void> {
  const [table] = await describeTables(state.client, [relation.oid])
  if (table) state.catalog.set(name, table)
  for (const [oid, type] of await resolveTypes(state.client, [
    ...new Set(relation.columns.map(column => column.oid)),
  ]))
    state.types.set(oid, type)
}

function sourceOf(state: State, plan: RowPlan, lsn: bigint): string {
  let head = state.heads.get(plan)
  if (head === undefined) {
    head = headOf(state.context.pipeline, plan.table)
    state.heads.set(plan, head)
  }
  return `${head},"txId":${state.xidShort},"lsn":${lsn},"ts_us":${state.commitUs},"snapshot":false}`
}

export const headOf = (pipeline: string, { schema, name }: Table): string =>
  `{"connector":"postgres","name":${JSON.stringify(pipeline)},"schema":${JSON.stringify(schema)},"table":${JSON.stringify(name)}`

function recordOf(
  state: State,
  op: ChangeRecord['op'],
  plan: RowPlan,
  key: string,
  before: string | null,
  after: string | null,
  source: string,
): ChangeRecord {
  return {
    op,
    table: plan.table,
    key,
    before,
    after,
    source,
    commitMs: state.commitMs,
    readMs: Math.floor(state.context.clock.nowUs() / 1000),
    below: null,
  }
}

function changed(state: State, change: Change): void {
  const { feed } = state
  if (feed.isSkipping()) {
    feed.skip()
    return
  }
  const { plan, key, oldKey, before, after, lsn, op } = change
  const source = sourceOf(state, plan, lsn)
  const table = tableName(plan.table)
  const bytes = (before?.length ?? 0) + (after?.length ?? 0) + key.length
  if (oldKey === null) {
    const record = recordOf(state, op, plan, key, op === 'd' ? (before ?? key) : before, after, source)
    gap(state, record, change)
    feed.change([record], table, [key], bytes)
    return
  }
  // A key change is the old row's delete and the new one's insert (V7).
  const gone = recordOf(state, 'd', plan, oldKey, before ?? oldKey, null, source)
  const come = recordOf(state, 'c', plan, key, null, after, source)
  gap(state, come, change)
  feed.change([gone, come], table, [oldKey, key], bytes)
}

function gap({ gaps, xid }: State, record: ChangeRecord, { unchanged, plan }: Change): void {
  if (unchanged) gaps.set(record, { columns: unchanged, plan, xid })
}

function truncated(state: State, relations: readonly Relation[]): void {
  const { feed } = state
  if (feed.isSkipping()) {
    feed.skip()
    return
  }
  const known = relations
    .map(relation => state.catalog.get(tableName(relation)))
    .filter(table => table !== undefined)
  const records = known.map(table => {
    const plan = planOf(table, state.config.columns)
    const sweep = recordOf(
      state,
      'sweep',
      plan,
      `{"sweep":${JSON.stringify(tableName(table))}}`,
      null,
      null,
      sourceOf(state, plan, 0n),
    )
    return { ...sweep, below: -1 } // "my own number": everything before it (S1)
  })
  feed.truncate(records, known.map(tableName))
}
