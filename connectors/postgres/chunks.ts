/**
 * PostgreSQL as the handoff needs it (`ChunkServer`): chunks on connections of their own, W by a logical message, plans from the
 * catalog. Each chunk's transaction takes the lock first and the snapshot second (H2); LOCK takes no snapshot.
 */
import type pg from 'pg'
import type { Context } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { Table } from '../../core/record.ts'
import { type CatalogTable, describeTables, planOf, snapshotOf } from './catalog.ts'
import type { ChunkRows, ChunkServer, ChunkSession } from './chunk.ts'
import type { PostgresConfig } from './config.ts'
import { connect, query, quoteTable, quoteText } from './connect.ts'
import { copyRows, selectOf } from './copy.ts'
import type { RowPlan } from './encode.ts'
import { codeOf } from './error.ts'
import { blockStart, type Fill, type TidRange, tidText } from './position.ts'
import { emitMessage } from './upstream.ts'

export interface Chunks extends ChunkServer, AsyncDisposable {
  /** Of rows that a session copied: their shape, and when their snapshot was taken. */
  infoOf(rows: ChunkRows): { readonly table: Table; readonly takenMs: number }
  /** The newest 64-bit transaction id seen: what 32-bit ones are widened by. */
  readonly xidReference: bigint
}

export const tableName = ({ schema, name }: { readonly schema: string; readonly name: string }): string =>
  `${schema}.${name}`

export const shapeOf = ({ key, columns }: CatalogTable): string =>
  JSON.stringify([key, columns.map(({ name, oid }) => [name, oid])])

/** All rows of a table as they lie now. The plan's end is its size: what comes later is in the stream. */
export const fillOf = (table: CatalogTable): Fill => ({
  nodes: Object.fromEntries(table.leaves.map(leaf => [leaf.oid, leaf.filenode])),
  shape: shapeOf(table),
  left: table.leaves
    .filter(leaf => leaf.kind === 'r')
    .map(leaf => [leaf.oid, 0, blockStart(Math.max(1, leaf.blocks))] as const),
})

interface State {
  readonly config: PostgresConfig
  readonly context: Context
  readonly prefix: string
  readonly names: ReadonlyMap<string, CatalogTable>
  readonly idle: pg.Client[]
  readonly all: Set<pg.Client>
  readonly plans: Map<string, RowPlan>
  readonly infos: WeakMap<ChunkRows, { table: Table; takenMs: number }>
  emitter: Promise<pg.Client> | null
  emitting: Promise<unknown>
  xidReference: bigint
  isOver: boolean
}

export function chunksOf(
  config: PostgresConfig,
  context: Context,
  prefix: string,
  tables: readonly CatalogTable[],
  xidReference: bigint,
): Chunks {
  const state: State = {
    config,
    context,
    prefix,
    names: new Map(tables.map(table => [tableName(table), table])),
    idle: [],
    all: new Set(),
    plans: new Map(),
    infos: new WeakMap(),
    emitter: null,
    emitting: Promise.resolve(),
    xidReference,
    isOver: false,
  }
  return {
    begin: table => begin(state, table),
    emit: token => emit(state, token),
    plan: table => plan(state, table),
    nowMs: () => context.clock.monotonicMs(),
    sleep: ms => context.clock.sleep(ms, context.signal),
    infoOf: rows => state.infos.get(rows)!,
    get xidReference() {
      return state.xidReference
    },
    async [Symbol.asyncDispose]() {
      state.isOver = true
      const emitter = await state.emitter?.catch(() => null)
      // A statement may hang on a lock: the sockets are closed, and the server ends what it was doing.
      for (const client of [...state.all, ...(emitter ? [emitter] : [])]) void client.end().catch(() => {})
      for (const client of state.all)
        (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
    },
  }
}

async function take(state: State): Promise<pg.Client> {
  const idle = state.idle.pop()
  if (idle) return idle
  const client = await connect(state.config, {
    applicationName: `millrace ${state.context.pipeline} snapshot`,
  })
  if (state.isOver) {
    await client.end()
    throw new ConnectorError('unavailable', 'the snapshot was stopped')
  }
  state.all.add(client)
  return client
}

/** One after another: several workers and the heartbeat share the connection, and a client takes one query at a time. */
function emit(state: State, token: string): Promise<void> {
  const emitting = state.emitting.then(async () => {
    state.emitter ??= connect(state.config, {
      applicationName: `millrace ${state.context.pipeline} messages`,
    })
    await emitMessage(await state.emitter, true, state.prefix, token)
  })
  state.emitting = emitting.catch(() => {}) // told to whoever sent it
  return emitting
}

const oidOf = async (client: pg.Client, table: CatalogTable): Promise<number | null> => {
  const [row] = await query<{ oid: number | null }>(
    client,
    `SELECT to_regclass(${quoteText(quoteTable(table))})::oid AS oid`,
  )
  return row?.oid ?? null
}

async function describe(client: pg.Client, table: CatalogTable): Promise<CatalogTable | null> {
  const oid = await oidOf(client, table)
  return oid === null ? null : ((await describeTables(client, [oid]))[0] ?? null)
}

async function plan(state: State, name: string): Promise<Fill | null> {
  const client = await take(state)
  const table = await describe(client, state.names.get(name)!)
  state.idle.push(client)
  return table && fillOf(table)
}

const UNDEFINED_TABLE = '42P01'

async function begin(state: State, name: string): Promise<ChunkSession> {
  const client = await take(state)
  const end = async () => {
    await query(client, 'ROLLBACK')
    state.idle.push(client)
  }
  await query(client, 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  try {
    await client.query(`LOCK TABLE ${quoteTable(state.names.get(name)!)} IN ACCESS SHARE MODE`)
  } catch (error) {
    if (codeOf(error) !== UNDEFINED_TABLE) throw error
    return { snapshot: { sees: () => true }, found: null, copy: async () => null, end }
  }
  const [row] = await query<{ snapshot: string; now: string }>(
    client,
    'SELECT pg_current_snapshot()::text AS snapshot, (extract(epoch FROM clock_timestamp()) * 1000)::int8 AS now',
  )
  const snapshot = snapshotOf(row!.snapshot)
  if (snapshot.xmax > state.xidReference) state.xidReference = snapshot.xmax
  const table = await describe(client, state.names.get(name)!)
  return {
    snapshot,
    found: table && fillOf(table),
    copy: (range, maxRows, maxBytes) =>
      copy(state, client, table!, Number(row!.now), range, [maxRows, maxBytes]),
    end,
  }
}

async function copy(
  state: State,
  client: pg.Client,
  table: CatalogTable,
  takenMs: number,
  [relation, from, to]: TidRange,
  [maxRows, maxBytes]: readonly [number, number],
): Promise<ChunkRows | null> {
  const leaf = table.leaves.find(one => one.oid === relation)
  if (!leaf) throw new ConnectorError('bug', `${tableName(table)} has no part ${relation}`)
  const rowPlan = planFor(state, table)
  // ONLY and the leaf's own name: a parent's SELECT would read every leaf. A range of ctids is a TID range scan since 14.
  const sql = `SELECT ${selectOf(rowPlan)} FROM ONLY ${quoteTable(leaf)} WHERE ctid >= '${tidText(from)}' AND ctid < '${tidText(to)}'`
  const { keys, rows, bytes, tooBig } = await copyRows(client, sql, rowPlan, {
    maxRows,
    maxBytes,
    signal: state.context.signal,
  })
  if (tooBig) return null
  const found: ChunkRows = { keys, rows, bytes }
  state.infos.set(found, { table: rowPlan.table, takenMs })
  return found
}

/** One plan for all chunks of a shape, so that their records share one Table. */
function planFor(state: State, table: CatalogTable): RowPlan {
  const id = `${tableName(table)} ${shapeOf(table)}`
  const known = state.plans.get(id) ?? planOf(table, state.config.columns)
  state.plans.set(id, known)
  return known
}
