/** The three checks, against the ledger's own account: log, sinks, dead letters. Each throws with what it found. */
import { existsSync } from 'node:fs'
import Database from 'libsql'
import { partitionOf } from '../../core/kafka/partition.ts'
import type { ChangeLog, EntryLog } from '../../core/log/log.ts'
import type { LogRecord } from '../../core/record.ts'
import { readDeadLetters } from '../../core/worker/dead-letters.ts'
import type { Ground } from './ground.ts'
import { expectedRows, isBad, type LedgerOptions, ledgerRecord, nOf } from './ledger.ts'
import { PIPELINE } from './plan.ts'

/** What is looked at of a run. */
export type Looked = Pick<Ground, 'plan' | 'memory' | 'sqlitePath'>
export interface Standing {
  readonly dead: EntryLog
  readonly detached: { has(task: string): boolean }
}

const fail = (what: string): never => {
  throw new Error(what)
}

export async function readLog({ log }: { readonly log: ChangeLog }): Promise<LogRecord[]> {
  const all: LogRecord[] = []
  for (let partition = 0; partition < log.partitions; partition++) {
    const reader = await log.reader({
      consumer: 'check',
      partition,
      from: null,
      signal: new AbortController().signal,
      untilEnd: true,
    })
    for await (const batch of reader) all.push(...batch.records)
    await reader[Symbol.asyncDispose]()
  }
  return all
}

/** Every change exactly once, numbered in order; a sweep once in every partition, with one and the same `below`. */
export function checkLog(
  records: readonly LogRecord[],
  options: LedgerOptions,
  partitions: number,
  isDense = true,
): void {
  const copies = new Map<number, LogRecord[]>()
  for (const record of records) copies.set(nOf(record), [...(copies.get(nOf(record)) ?? []), record])
  for (let n = 0; n < options.changes; n++) {
    const expected = ledgerRecord(options, n)
    const found = copies.get(n) ?? []
    const times = expected.op === 'sweep' ? partitions : 1
    if (found.length !== times)
      fail(`change ${n} (${expected.op}) stands ${found.length} times in the log, expected ${times}`)
    for (const record of found)
      if (record.key !== expected.key || record.after !== expected.after || record.op !== expected.op)
        fail(`change ${n} is altered in the log`)
    if (expected.op !== 'sweep') continue
    if (new Set(found.map(one => one.partition)).size !== partitions)
      fail(`sweep ${n} is not in every partition`)
    if (new Set(found.map(one => one.below)).size !== 1) fail(`the copies of sweep ${n} differ in below`)
    if (found.some(one => one.below! > one.version)) fail(`sweep ${n} sweeps what comes after it`)
  }
  const byVersion = [...records].sort((a, b) => a.version - b.version)
  for (let i = 1; i < byVersion.length; i++) {
    if (byVersion[i]!.version === byVersion[i - 1]!.version)
      fail(`version ${byVersion[i]!.version} was given twice`)
    if (nOf(byVersion[i]!) < nOf(byVersion[i - 1]!))
      fail(`change ${nOf(byVersion[i]!)} has a higher version than ${nOf(byVersion[i - 1]!)}`)
  }
  checkPlaces(records, isDense)
}

/** Offsets are dense (but on Kafka, where markers take some) and versions rise in every topic-partition; a key stays in one partition. */
export function checkPlaces(records: readonly LogRecord[], isDense = true): void {
  const last = new Map<string, LogRecord>()
  const home = new Map<string, number>()
  for (const record of records) {
    const place = `${record.topic}/${record.partition}`
    const before = last.get(place)
    if (before && (isDense ? record.offset !== before.offset + 1 : record.offset <= before.offset))
      fail(`${place}: offset ${record.offset} follows ${before.offset}`)
    if (before && record.version <= before.version)
      fail(`${place}: version ${record.version} follows ${before.version}`)
    last.set(place, record)
    if (record.op === 'sweep') continue
    const key = `${record.topic} ${record.key}`
    if ((home.get(key) ?? record.partition) !== record.partition) fail(`${key} stands in two partitions`)
    home.set(key, record.partition)
  }
}

export function sqliteRows(path: string): Map<string, { n: number; version: number }> {
  const rows = new Map<string, { n: number; version: number }>()
  if (!existsSync(path)) return rows
  const database = new Database(path, { timeout: 1_000 })
  try {
    for (const table of ['accounts', 'orders']) {
      if (!database.prepare('SELECT 1 FROM sqlite_master WHERE name = ?').get(table)) continue
      for (const row of database
        .prepare(`SELECT id, json_extract(document, '$.n') AS n, version FROM ${table}`)
        .all() as { id: string; n: number; version: number }[])
        rows.set(`${table}/${row.id}`, { n: row.n, version: row.version })
    }
  } finally {
    database.close()
  }
  return rows
}

function same(what: string, found: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>): void {
  for (const [key, n] of expected)
    if (found.get(key) !== n) fail(`${what}: ${key} holds ${found.get(key)}, the source ${n}`)
  for (const key of found.keys())
    if (!expected.has(key)) fail(`${what}: ${key} is a ghost (change ${found.get(key)})`)
}

/** Of the key's partition: a sink task that was detached stands still somewhere. */
const isFollowed = ({ plan }: Looked, { detached }: Standing, sink: string, key: string): boolean =>
  !detached.has(`${PIPELINE}/${sink}/${partitionOf(key, plan.partitions)}`)

export function checkSinks(world: Looked, process: Standing): void {
  const { plan, memory, sqlitePath } = world
  const expected = expectedRows(plan.ledger)
  const followed = (sink: string, rows: Iterable<readonly [string, number]>) =>
    new Map([...rows].filter(([row]) => isFollowed(world, process, sink, `{"id":${row.split('/')[1]}}`)))
  const look = (sink: string, rows: Iterable<readonly [string, number]>) =>
    same(`${sink} sink`, followed(sink, rows), followed(sink, expected))
  if (plan.sinks.includes('memory')) look('memory', memory.rows())
  if (plan.sinks.includes('sqlite'))
    look(
      'sqlite',
      [...sqliteRows(sqlitePath())].map(([key, row]) => [key, row.n] as const),
    )
}

/** dead letters + sink = input: every bad record once for each sink, and no other. */
export async function checkDead(
  world: Looked,
  process: Standing,
  records: readonly LogRecord[] | null,
): Promise<void> {
  const { plan } = world
  const letters = await readDeadLetters(process.dead)
  const isDue = (sink: string, n: number) =>
    isFollowed(world, process, sink, ledgerRecord(plan.ledger, n).key)
  const found = letters
    .map(letter => ({ sink: letter.sink, n: (JSON.parse(letter.source) as { n: number }).n }))
    .filter(({ sink, n }) => isDue(sink, n))
    .map(({ sink, n }) => `${sink} ${n}`)
    .sort()
  const bad: number[] = []
  for (let n = 0; n < plan.ledger.changes; n++) if (ledgerRecord(plan.ledger, n).isBad) bad.push(n)
  const expected = plan.sinks.flatMap(sink => bad.filter(n => isDue(sink, n)).map(n => `${sink} ${n}`)).sort()
  if (found.join() !== expected.join())
    fail(`dead letters: found ${found.join() || 'none'}, expected ${expected.join() || 'none'}`)
  const places = new Map(
    (records ?? []).filter(isBad).map(one => [`${one.topic}/${one.partition}/${one.offset}`, one]),
  )
  for (const letter of records ? letters : []) {
    const at = places.get(`${letter.topic}/${letter.partition}/${letter.offset}`)
    if (at?.source !== letter.source || !letter.topic?.startsWith(`${PIPELINE}.`))
      fail(`a dead letter names a place that is not its record's: ${JSON.stringify(letter)}`)
  }
}

/** Polled while running: no row of a sink ever goes back. */
export function versionWatch({ plan, memory, sqlitePath }: Looked): () => void {
  const highest = new Map<string, number>()
  const look = (sink: string, rows: Iterable<readonly [string, { version: number }]>) => {
    for (const [key, { version }] of rows) {
      const seen = highest.get(`${sink} ${key}`) ?? 0
      if (version < seen) fail(`${sink}: ${key} fell from version ${seen} to ${version}`)
      highest.set(`${sink} ${key}`, version)
    }
  }
  return () => {
    if (plan.sinks.includes('memory')) look('memory', memory.cells)
    if (plan.sinks.includes('sqlite')) look('sqlite', sqliteRows(sqlitePath()))
  }
}
