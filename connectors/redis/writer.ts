/**
 * Batches into Redis. Where everything stands in one slot (one server, Sentinel, a cluster with a tag in the key) the task's position is
 * compared, the rows are written and the position moves in one script: exactly once (P1, P2), also over a failover, which takes rows
 * and position back together. Else, in a cluster, each slot has its script, rows are refused by their version (V4) and progress stands
 * beside the log.
 *
 *   write   render ─▶ nothing is written when one is bad ─▶ parts between two sweeps (S3), of bounded size ─▶ the last moves the position
 *
 * Parts before the last are safe to come again: rows by their versions. A stream's entries have none, so that its batch is one part.
 * Where no record can be bad, a part is on its way while the next is rendered; the last waits for all of them.
 */
import { pack } from 'msgpackr'
import {
  assertLease,
  type Batch,
  type Context,
  type Offset,
  type Rejected,
  type Writer,
} from '../../core/connector.ts'
import { asConnectorError, ConnectorError, Fenced } from '../../core/errors.ts'
import { unseen } from '../../core/log/log.ts'
import type { LogRecord } from '../../core/record.ts'
import { type Command, type Render, renderer } from './commands.ts'
import { isKept, isOneSlot, isRow, mayRefuse, problemsOf, type RedisConfig, tagOf } from './config.ts'
import { type Client, type Connection, redisError } from './connection.ts'
import { positionName, slotOf, type TableNames, tableNames, tagOfSlot, versionsPattern } from './names.ts'
import { CLAIM, SWEEP, WRITE } from './scripts.ts'
import { invalidateAll, scan } from './sweep.ts'

/** Deletes are remembered for as long as search indexes remember them (P4, S5). */
const KEEP_MS = 600_000
/** Of one script, during which Redis does nothing else. */
const PART_COMMANDS = 1_000
/** Bounds the rows of a part where these have many columns. */
const PART_TEXTS = 20_000
const SWEEP_ROWS = 500

interface Scripts {
  claim(...args: unknown[]): Promise<unknown[]>
  write(...args: unknown[]): Promise<unknown[]>
  sweep(...args: unknown[]): Promise<unknown[]>
}

interface State {
  readonly connection: Connection
  readonly scripts: Scripts
  readonly options: RedisConfig
  readonly context: Context
  readonly render: Render
  /** In one slot: its tag with braces, or nothing. null: a slot for each row. */
  readonly tag: string | null
  readonly names: Map<string, TableNames>
  readonly fit: WeakSet<object>
  /** Text of the position as it stands there; '': none. */
  previous: string
}

export async function openRedisWriter(
  connection: Connection,
  options: RedisConfig,
  context: Context,
): Promise<Writer> {
  const oneTag = connection.isCluster ? tagOf(options.key) : null
  const state: State = {
    connection,
    scripts: scriptsOf(connection.client),
    options,
    context,
    render: renderer(options),
    tag: isOneSlot(options) ? (oneTag === null ? '' : `{${oneTag}}`) : null,
    names: new Map(),
    fit: new WeakSet(),
    previous: '',
  }
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      throw redisError(error, connection.target)
    }
  }
  const writer: Writer = {
    write: batch => guarded(() => write(state, batch)),
    highest: () => guarded(() => highest(state)),
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  }
  if (state.tag === null) return writer
  try {
    await guarded(() => claim(state))
    if (connection.evicts !== null)
      context.log.warn(
        { task: context.task },
        `Redis ${connection.target} gives up keys when it is full (maxmemory-policy ${connection.evicts}), the position of ${context.task} among them: it then begins anew. volatile-lru leaves it alone.`,
      )
  } catch (error) {
    await connection[Symbol.asyncDispose]()
    throw error
  }
  return {
    ...writer,
    position: async () => positionOf(state),
  }
}

const positionOf = ({ previous }: State): Offset | null =>
  previous === '' ? null : (JSON.parse(previous) as Offset)

function scriptsOf(client: Client): Scripts {
  client.defineCommand('claim', { lua: CLAIM })
  client.defineCommand('write', { lua: WRITE })
  client.defineCommand('sweep', { lua: SWEEP })
  return client as unknown as Scripts
}

/** Stores our epoch before the first write (L1), and learns the position. */
async function claim(state: State): Promise<void> {
  const { scripts, context, tag } = state
  assertLease(context)
  const answer = await scripts.claim(1, positionName(context.task, tag!), context.epoch)
  state.previous = accepted(answer, context)
}

/** What stands behind "OK". */
function accepted([said, what]: readonly unknown[], { task }: Context): string {
  if (said === 'OK') return String(what)
  throw new Fenced(`${task} was moved by another writer, epoch ${what}`, Number(what))
}

async function write(state: State, batch: Batch): Promise<readonly Rejected[]> {
  const { context, options, tag } = state
  assertLease(context)
  const rejected: Rejected[] = []
  // Rows have their versions; entries of a stream have nothing by which one could be refused.
  const records = options.structure === 'stream' ? unseen(batch.records, positionOf(state)) : batch.records
  const rendering = partsOf(state, records, rejected)
  const parts = mayRefuse(options) ? [...rendering] : rendering
  if (rejected.length > 0) return rejected
  const next = JSON.stringify(batch.offset)
  const bad = await writeParts(state, parts, next)
  if (bad.length > 0) return bad
  if (tag !== null) state.previous = next
  if (options.replicas > 0) await replicated(state)
  return []
}

/** A sweep, or commands. */
interface Part {
  readonly sweep: LogRecord | null
  readonly commands: Command[]
}

/** At least one, and the last is no sweep: it moves the position. */
function* partsOf(state: State, records: readonly LogRecord[], rejected: Rejected[]): Generator<Part> {
  const { options, context } = state
  const nowMs = context.clock.nowUs() / 1000
  const isStream = options.structure === 'stream'
  let commands: Command[] = []
  let texts = 0
  for (const record of records) {
    if (record.op === 'sweep' && !isStream) {
      if (commands.length > 0) yield { sweep: null, commands }
      yield { sweep: record, commands: [] }
      commands = []
      texts = 0
      continue
    }
    try {
      refuseUnfit(state, record)
      for (const command of state.render(record, nowMs)) {
        texts += 7 + command.parts.length
        commands.push(command)
      }
    } catch (error) {
      const told = asConnectorError(error)
      if (told.kind !== 'data') throw error
      rejected.push({ record, stage: 'redis', error: told })
    }
    if (!isStream && (commands.length >= PART_COMMANDS || texts > PART_TEXTS)) {
      yield { sweep: null, commands }
      commands = []
      texts = 0
    }
  }
  yield { sweep: null, commands }
}

async function writeParts(state: State, parts: Iterable<Part>, next: string): Promise<readonly Rejected[]> {
  const { context, options } = state
  const underWay: Promise<readonly Rejected[]>[] = []
  const settled = async () => {
    const bad: Rejected[] = []
    for (const one of await Promise.allSettled(underWay.splice(0))) {
      if (one.status === 'rejected') throw one.reason
      bad.push(...one.value)
    }
    return bad
  }
  let held: Part | null = null
  for (const part of parts) {
    if (held) {
      assertLease(context)
      underWay.push(writePart(state, held, ''))
      if (part.sweep || held.sweep || mayRefuse(options)) {
        const bad = await settled()
        if (bad.length > 0) return bad
      }
    }
    held = part
  }
  const bad = await settled()
  if (bad.length > 0) return bad
  assertLease(context)
  return writePart(state, held!, next)
}

/** A table whose shape the options do not fit: the file is to be mended, not the record. */
function refuseUnfit({ options, fit }: State, { table }: LogRecord): void {
  if (fit.has(table)) return
  const problems = problemsOf(options, table)
  if (problems.length > 0)
    throw new ConnectorError(
      'config',
      `Redis cannot take ${table.schema}.${table.name}: ${problems.join('; ')}`,
      {
        hint: 'Mend the sink in the file, or give it a part of the tables with `only`.',
      },
    )
  fit.add(table)
}

async function writePart(
  state: State,
  { sweep, commands }: Part,
  next: string,
): Promise<readonly Rejected[]> {
  const { options, connection, tag } = state
  if (sweep) {
    if (isKept(options.structure)) await sweepRows(state, sweep)
    else await invalidateAll(connection.client, options, sweep)
    return []
  }
  if (tag !== null) return writeIn(state, tag, commands, next)
  const bySlot = new Map<number, Command[]>()
  for (const command of commands) {
    // A row that leaves a set has no key of its own; sets have their slot fixed.
    const slot = slotOf(command.key)
    const own = bySlot.get(slot)
    if (own) own.push(command)
    else bySlot.set(slot, [command])
  }
  const written = await Promise.allSettled(
    [...bySlot].map(([slot, own]) => writeIn(state, `{${tagOfSlot(slot)}}`, own, '')),
  )
  const failed = written.find(one => one.status === 'rejected')
  if (failed) throw failed.reason
  return written.flatMap(one => (one.status === 'fulfilled' ? one.value : []))
}

function namesOf({ names, context }: State, topic: string, tag: string): TableNames {
  const found = names.get(topic + tag) ?? tableNames(context.task, topic, tag)
  names.set(topic + tag, found)
  return found
}

async function writeIn(
  state: State,
  tag: string,
  commands: readonly Command[],
  next: string,
): Promise<readonly Rejected[]> {
  const { context, scripts, previous, options } = state
  const position = positionName(context.task, tag)
  const tables = new Map<string, number>()
  for (const { record } of commands) if (!tables.has(record.topic)) tables.set(record.topic, tables.size)
  const keys = [position]
  for (const topic of tables.keys()) {
    const { versions, forget, places, members } = namesOf(state, topic, tag)
    keys.push(versions, forget, places, members)
  }
  const isKeeping = state.tag !== null
  const args: (string | number | Buffer)[] = isKeeping ? [context.epoch, previous, next] : ['', '', '']
  args.push(
    Math.floor(context.clock.nowUs() / 1000),
    KEEP_MS,
    tables.size,
    isRow(options.structure) ? '0' : '1',
  )
  const packed = commands.map(({ kind, row, expiresAtMs, parts, record }) => [
    kind,
    tables.get(record.topic)!,
    String(record.version),
    row,
    expiresAtMs,
    ...parts,
  ])
  // What leaves a set is found by its place; a cluster needs a name of the right slot all the same.
  for (const { key } of commands) keys.push(key === '' ? position : key)
  args.push(pack(packed))
  const [said, ...rest] = await scripts.write(keys.length, keys, args)
  if (said === 'TYPE') return rest.map(at => otherType(commands[Number(at)]!))
  const refused = Number(accepted([said, ...rest], context))
  if (refused > 0) context.metrics.add('refused', refused)
  return []
}

const otherType = ({ key, record }: Command): Rejected => ({
  record,
  stage: 'redis',
  error: new ConnectorError('data', `the key ${key} of Redis holds something of another kind`, {
    hint: 'Delete it, or choose another `key`.',
  }),
})

async function sweepRows(state: State, record: LogRecord): Promise<void> {
  const { tag } = state
  if (tag !== null) return sweepIn(state, record, tag)
  // A slot for each row: wherever versions of this origin stand.
  const { client } = state.connection
  const prefix = namesOf(state, record.topic, '').versions
  for await (const name of scan(client, `${prefix}{*}`))
    await sweepIn(state, record, name.slice(prefix.length))
}

async function sweepIn(state: State, { topic, below }: LogRecord, tag: string): Promise<void> {
  const { context, scripts, previous, options } = state
  const { versions, forget, places, members } = namesOf(state, topic, tag)
  for (;;) {
    assertLease(context)
    const keys = [positionName(context.task, tag), versions, forget, places, members]
    const position = state.tag === null ? ['', ''] : [context.epoch, previous]
    const nowMs = Math.floor(context.clock.nowUs() / 1000)
    const answer = await scripts.sweep(keys.length, keys, [
      ...position,
      nowMs,
      KEEP_MS,
      below!,
      SWEEP_ROWS,
      isRow(options.structure) ? '1' : '0',
    ])
    if (Number(accepted(answer, context)) < SWEEP_ROWS) return
  }
}

/** The highest version of this pipeline's rows, whoever wrote them. */
async function highest({ connection: { client }, context }: State): Promise<number> {
  let most = 0
  for await (const name of scan(client, versionsPattern(context.pipeline))) {
    const [, score] = await client.zrevrange(name, 0, 0, 'WITHSCORES')
    most = Math.max(most, Number(score ?? 0))
  }
  return most
}

const WAIT_MS = 5_000

/** WAIT counts what this connection wrote. */
async function replicated({ connection, options }: State): Promise<void> {
  const { client, target, isCluster } = connection
  const masters = isCluster ? (client as Extract<Client, { nodes: unknown }>).nodes('master') : [client]
  const counts = await Promise.all(masters.map(one => (one as Client).wait(options.replicas, WAIT_MS)))
  const fewest = Math.min(...counts)
  if (fewest < options.replicas)
    throw new ConnectorError(
      'unavailable',
      `Redis ${target}: ${fewest} replicas had the batch within ${WAIT_MS / 1000} s, and ${options.replicas} are asked for`,
      { hint: 'See to the replicas, or lower `replicas`.' },
    )
}
