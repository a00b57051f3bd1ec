/**
 * The handoff under the seed: feed.ts and handoff.ts against the model, killed at any await and resumed at the last offset that
 * was "written". Checks, against the model's own account: every change after the slot exactly once and in order; no key ever
 * steps back in the log; in the end the log, replayed, is the table.
 */

import type { Chunk } from '../../connectors/postgres/chunk.ts'
import { feedOf } from '../../connectors/postgres/feed.ts'
import { handoffOf } from '../../connectors/postgres/handoff.ts'
import { type Following, firstPosition, lsnOf, lsnText } from '../../connectors/postgres/position.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { MODEL_TABLE, type Model, type ModelChange, modelOf } from './postgres-model.ts'
import { randomOf } from './random.ts'
import { type Life, schedulerOf } from './scheduler.ts'

const TABLE: Table = { schema: 'sim', name: 'rows', key: ['id'], columns: [] }

interface Entry {
  readonly key: number
  /** null: deleted. */
  readonly seq: number | null
  readonly from: 'stream' | 'chunk' | 'truncate'
  readonly change: ModelChange | null
}

const recordOf = (key: string, after: string | null, source: string): ChangeRecord => ({
  op: after === null ? 'd' : 'u',
  table: TABLE,
  key,
  before: null,
  after,
  source,
  commitMs: 0,
  readMs: 0,
  below: null,
})

const recordsOf = (chunk: Chunk): ChangeRecord[] =>
  chunk.rows!.rows.flatMap((row, i) => (row === '' ? [] : [recordOf(chunk.rows!.keys[i]!, row, 'chunk')]))

export async function runHandoff(seed: number): Promise<{ records: number; kills: number }> {
  const random = randomOf(seed)
  const scheduler = schedulerOf(random, 0)
  let life = { alive: true, frozenUntilMs: 0 }
  const ddl = random.chance(0.5)
  const model = modelOf({
    random,
    pause: () => scheduler.step(life),
    sleep: ms => scheduler.sleep(life, ms),
    nowMs: () => scheduler.nowMs(),
    keys: random.int(3, 40),
    ddl,
    slowCommits: random.chance(0.7),
  })
  for (let i = random.int(0, 5); i > 0; i--) model.shake()
  // Publication, then slot: decoding begins with what commits from now; some of what committed before is not visible yet.
  const slotAt = model.wal.length
  const lsn = lsnText((model.wal.at(-1)?.commitLsn ?? 1000n) + 1n)
  const fill = { [MODEL_TABLE]: model.firstPlan() }
  let saved = firstPosition({ system: '1', timeline: 1, lsn, fill }, model.running())
  const log: Entry[] = []
  const kills = random.int(0, 4)
  const plan = {
    chunkRows: random.int(1, 15),
    parallel: random.int(1, 3),
    busy: random.int(50, 400),
    slow: random.chance(0.5),
  }
  try {
    for (let i = 0; i <= kills; i++) {
      life = { alive: true, frozenUntilMs: 0 }
      const isLast = i === kills
      const killAt = isLast ? Number.POSITIVE_INFINITY : scheduler.steps + random.int(1, 250)
      const busyUntil = scheduler.steps + plan.busy
      scheduler.onTick = () => {
        if (scheduler.steps < busyUntil ? random.chance(0.5) : false) model.shake()
        else if (scheduler.steps >= busyUntil) model.settleDown()
      }
      const me = life
      const ending = endingOf(
        oneLife(
          model,
          saved,
          log,
          {
            ...plan,
            life: me,
            scheduler,
            random,
            session: `s${i}`,
            finish: () => scheduler.steps >= busyUntil,
          },
          position => {
            saved = position
          },
        ),
      )
      await scheduler.run(
        () => ending.isDone || ending.failure !== undefined || scheduler.steps >= killAt,
        scheduler.steps + 40_000,
      )
      me.alive = false
      model.disconnect()
      if (ending.failure) throw ending.failure
      if (ending.isDone && isLast) break
    }
    check(model, log, slotAt)
    if (!ddl) checkChunks(log)
    return { records: log.length, kills }
  } catch (error) {
    throw new Error(`handoff seed ${seed}: ${(error as Error).message}`, { cause: error })
  }
}

/** What became of a life, for who asks at each step. */
function endingOf(life: Promise<void>): { readonly isDone: boolean; readonly failure: Error | undefined } {
  const ending = { isDone: false, failure: undefined as Error | undefined }
  life.then(
    () => {
      ending.isDone = true
    },
    error => {
      ending.failure = error as Error
    },
  )
  return ending
}

interface LifeOptions {
  readonly chunkRows: number
  readonly parallel: number
  readonly slow: boolean
  readonly life: Life
  readonly scheduler: ReturnType<typeof schedulerOf>
  readonly random: ReturnType<typeof randomOf>
  readonly session: string
  readonly finish: () => boolean
}

async function oneLife(
  model: Model,
  from: Following,
  log: Entry[],
  options: LifeOptions,
  save: (position: Following) => void,
): Promise<void> {
  const { scheduler, life, random, finish, slow } = options
  const restored = JSON.parse(JSON.stringify(from)) as Following
  const handoff = handoffOf(restored.fill, restored.unseen.map(BigInt), {
    chunkRows: options.chunkRows,
    maxBytes: 1_000_000,
    parallel: options.parallel,
    firstBlocks: random.int(1, 40),
    session: options.session,
    nearMs: 1e9,
    maxRemembered: random.int(3, 1000),
  })
  const feed = feedOf(restored, handoff, { recordsOf, maxRecords: 20, maxBytes: 1e9 })
  let failure: Error | undefined
  handoff
    .run(
      model,
      () => {},
      () => false,
    )
    .catch(error => {
      failure = error as Error
    })
  const stream = decode(model, restored, handoff, feed)
  for (;;) {
    await scheduler.step(life)
    if (failure) throw failure
    for (let i = random.int(0, slow ? 1 : 6); i > 0 && !feed.isFull(); i--) stream.next()
    const isOver = finish() && Object.keys(handoff.fills()).length === 0 && stream.isAtEnd()
    if (!isOver && random.chance(0.5)) continue
    const batch = feed.take(isOver || random.chance(0.2))
    if (batch) {
      await scheduler.step(life) // the pump writes: rows and offset at once, or neither
      for (const record of batch.records) append(log, record)
      save(batch.offset as unknown as Following)
    } else if (isOver) return
  }
}

/** One step is one message of the replication protocol. */
function decode(
  model: Model,
  from: Following,
  handoff: ReturnType<typeof handoffOf>,
  feed: ReturnType<typeof feedOf>,
) {
  // The server begins at the first transaction whose commit lies behind the confirmed one, and sends it whole.
  let at = model.wal.findIndex(one => one.commitLsn >= lsnOf(from.lsn))
  if (at < 0) at = model.wal.length
  let step = -1
  return {
    isAtEnd: () => at >= model.wal.length,
    next() {
      const transaction = model.wal[at]
      if (!transaction) return
      const { xid, commitLsn, changes } = transaction
      if (step < 0) feed.begin(xid, commitLsn)
      else if (step === changes.length) {
        feed.commit(commitLsn + 1n)
        at++
        step = -2
      } else one(changes[step]!, feed, handoff)
      step++
    },
  }
}

function one(
  change: ModelChange,
  feed: ReturnType<typeof feedOf>,
  handoff: ReturnType<typeof handoffOf>,
): void {
  const source = JSON.stringify(change)
  if (change.kind === 'message') handoff.message(change.token)
  else if (change.kind === 'shape') handoff.disturbed(MODEL_TABLE)
  else if (feed.isSkipping()) feed.skip()
  else if (change.kind === 'truncate')
    feed.truncate([recordOf('{"sweep":"sim.rows"}', null, source)], [MODEL_TABLE])
  else {
    const key = `{"id":${change.key}}`
    const after = change.kind === 'set' ? `{"id":${change.key},"seq":${change.seq}}` : null
    feed.change([recordOf(key, after, source)], MODEL_TABLE, [key], 10)
  }
}

function append(log: Entry[], record: ChangeRecord): void {
  if (record.key.startsWith('{"sweep"'))
    return void log.push({ key: 0, seq: null, from: 'truncate', change: { kind: 'truncate' } })
  const { id } = JSON.parse(record.key) as { id: number }
  const seq = record.after === null ? null : (JSON.parse(record.after) as { seq: number }).seq
  const change = record.source === 'chunk' ? null : (JSON.parse(record.source) as ModelChange)
  log.push({ key: id, seq, from: change ? 'stream' : 'chunk', change })
}

function check(model: Model, log: readonly Entry[], slotAt: number): void {
  const expected = model.wal
    .slice(slotAt)
    .flatMap(({ changes }) =>
      changes.filter(one => one.kind === 'set' || one.kind === 'delete' || one.kind === 'truncate'),
    )
  const streamed = log.filter(entry => entry.change !== null)
  const found = streamed.map(entry => JSON.stringify(entry.change))
  expected.forEach((change, i) => {
    if (found[i] !== JSON.stringify(change))
      throw new Error(
        `change ${i} of the stream is ${found[i] ?? 'missing'}, expected ${JSON.stringify(change)}`,
      )
  })
  if (found.length !== expected.length)
    throw new Error(`${found.length} changes stand in the log, ${expected.length} were committed`)
  const highest = new Map<number, number>()
  const rows = new Map<number, number>()
  for (const { key, seq, from, change } of log) {
    if (from === 'truncate') rows.clear()
    else {
      const now = change && 'seq' in change ? change.seq : seq!
      if (now < (highest.get(key) ?? 0))
        throw new Error(`key ${key} steps back in the log from ${highest.get(key)} to ${now} (${from})`)
      if (now === highest.get(key) && from === 'chunk' && !rows.has(key))
        throw new Error(`key ${key} comes back by a chunk after its delete (seq ${now})`)
      highest.set(key, now)
      if (seq === null) rows.delete(key)
      else rows.set(key, seq)
    }
  }
  const table = model.rows()
  for (const [key, seq] of table)
    if (rows.get(key) !== seq)
      throw new Error(`key ${key} is ${rows.get(key)} in the log, ${seq} in the table`)
  for (const key of rows.keys())
    if (!table.has(key))
      throw new Error(`key ${key} is a ghost: ${rows.get(key)} in the log, gone from the table`)
}

/** Nothing moved the rows: what a chunk brought stands once in the log, kills or not (H5). */
function checkChunks(log: readonly Entry[]): void {
  const seen = new Set<string>()
  for (const { key, seq, from } of log) {
    if (from !== 'chunk') continue
    if (seen.has(`${key} ${seq}`)) throw new Error(`row ${key} with seq ${seq} was appended by two chunks`)
    seen.add(`${key} ${seq}`)
  }
}
