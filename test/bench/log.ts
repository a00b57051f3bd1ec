/**
 * How fast is the embedded log, and how far is it from what the disk gives? Appends through the real writer, reads through the
 * real reader, and beside them, in the same run, a plain write + fdatasync of as many bytes as the log wrote. Rows of about
 * 200 bytes in their envelopes, 20 tables' worth of repetition as real rows have; not the speed of a source or a sink.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FileLog } from '../../core/log/file.ts'
import type { ChangeRecord } from '../../core/record.ts'
import { encodeValue } from '../../core/row.ts'
import { contextOf, forEver, openIn, rowOf, spend, type Took } from './filled-log.ts'

/** Peak of the whole process so far; 0 where there is no /proc. */
function peakMegabytes(): number {
  try {
    const line = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))
    return Math.round(Number(line?.[1] ?? 0) / 1024)
  } catch {
    return 0
  }
}

const short = (number: number): string =>
  number >= 1e6
    ? `${(number / 1e6).toFixed(2)} M`
    : number >= 1e4
      ? `${Math.round(number / 1e3)} k`
      : number.toFixed(0)

/** One line of the table: what, records/s, MB/s of values, CPU-seconds for a million records, peak memory. */
function print(what: string, records: number, bytes: number, { seconds, cpuSeconds }: Took): void {
  const columns = [
    what.padEnd(46),
    records > 0 ? `${short(records / seconds)} records/s`.padStart(18) : ''.padStart(18),
    `${(bytes / seconds / 1e6).toFixed(0)} MB/s`.padStart(10),
    records > 0 ? `${((cpuSeconds / records) * 1e6).toFixed(2)} CPU s/M`.padStart(14) : ''.padStart(14),
    `${peakMegabytes()} MB`.padStart(9),
  ]
  process.stdout.write(`${columns.join('')}\n`)
}

/** As many bytes, in as many writes, each synced: nothing can be faster on this disk. */
async function ceiling(path: string, bytes: number, writes: number): Promise<Took> {
  const file = await open(path, 'wx')
  const one = Buffer.alloc(Math.ceil(bytes / writes), 'millrace')
  try {
    return await spend(async () => {
      for (let i = 0; i < writes; i++) {
        await file.write(one, 0, one.length, i * one.length)
        await file.datasync()
      }
    })
  } finally {
    await file.close()
  }
}

async function append(folder: string, rows: readonly ChangeRecord[], batch: number): Promise<FileLog> {
  const bytes = rows.reduce((sum, row) => sum + Buffer.byteLength(encodeValue(row, 0)), 0)
  const log = await openIn(join(folder, `log-${batch}`))
  const writer = await log.writer(contextOf(1), 0)
  const before = log.sizeBytes()
  const spent = await spend(async () => {
    for (let at = 0; at < rows.length; at += batch)
      await writer.write({ records: rows.slice(at, at + batch), offset: { at } })
  })
  print(`append, batches of ${batch}, each synced`, rows.length, bytes, spent)
  const stored = log.sizeBytes() - before
  const writes = Math.ceil(rows.length / batch)
  const raw = await ceiling(join(folder, `raw-${batch}`), stored, writes)
  print(`  plain write + fdatasync of the same ${(stored / 1e6).toFixed(0)} MB`, 0, stored, raw)
  return log
}

async function read(log: FileLog, what: string): Promise<void> {
  let records = 0
  let bytes = 0
  const spent = await spend(async () => {
    await using reader = await log.reader({
      consumer: 'bench',
      partition: 0,
      from: null,
      signal: forEver,
      untilEnd: true,
    })
    for await (const batch of reader) {
      records += batch.records.length
      for (const record of batch.records) bytes += (record.after?.length ?? 0) + record.source.length
    }
  })
  print(what, records, bytes, spent)
}

const percentile = (sorted: readonly number[], share: number): string =>
  `${sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(2)} ms`

async function times(count: number, act: (i: number) => Promise<void>): Promise<string> {
  const took: number[] = []
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    await act(i)
    took.push(performance.now() - start)
  }
  took.sort((a, b) => a - b)
  return `p50 ${percentile(took, 0.5)}  p99 ${percentile(took, 0.99)}`
}

async function latency(folder: string, rows: readonly ChangeRecord[], count: number): Promise<FileLog> {
  const log = await openIn(join(folder, 'log-single'))
  const writer = await log.writer(contextOf(1), 0)
  const before = log.sizeBytes()
  const ours = await times(count, i =>
    writer.write({ records: [rows[i % rows.length]!], offset: { i } }).then(() => {}),
  )
  process.stdout.write(`${`append of one record, ${count} times`.padEnd(46)}  ${ours}\n`)
  const one = Buffer.alloc(Math.ceil((log.sizeBytes() - before) / count), 'x')
  const file = await open(join(folder, 'raw-single'), 'wx')
  const theirs = await times(count, async i => {
    await file.write(one, 0, one.length, i * one.length)
    await file.datasync()
  })
  await file.close()
  process.stdout.write(`${`  plain write + fdatasync of ${one.length} bytes`.padEnd(46)}  ${theirs}\n`)
  return log
}

/** What a restart costs: recovery of the last segment, and finding the place in it. */
async function reopen(folder: string, name: string): Promise<void> {
  let resumed: FileLog | null = null
  const opening = await spend(async () => {
    resumed = await openIn(join(folder, name))
  })
  const log = resumed! as FileLog
  const end = log.endsNow()[0]!
  const seeking = await spend(async () => {
    await using reader = await log.reader({
      consumer: 'resumed',
      partition: 0,
      from: { log: log.id, next: { [end.topic]: end.end - 1 } },
      signal: forEver,
      untilEnd: true,
    })
    for await (const batch of reader)
      if (batch.records.length !== 1) throw new Error('not where it should be')
  })
  process.stdout.write(
    `${`reopen ${name}, ${(log.sizeBytes() / 1e6).toFixed(0)} MB`.padEnd(46)}  ${(opening.seconds * 1000).toFixed(0)} ms, a reader at its end ${(seeking.seconds * 1000).toFixed(0)} ms\n`,
  )
  await log[Symbol.asyncDispose]()
}

export async function benchLog(records = 1_000_000): Promise<void> {
  const folder = mkdtempSync(join(process.env.MILLRACE_BENCH_DIR ?? tmpdir(), 'millrace-bench-'))
  try {
    const rows = Array.from({ length: 100_000 }, (_, id) => rowOf(id))
    const many = Array.from({ length: records }, (_, i) => rows[i % rows.length]!)
    process.stdout.write(
      `embedded log: rows of ${rows[0]!.after!.length} bytes, values of ${encodeValue(rows[0]!, 0).length}\n`,
    )
    for (const batch of [50_000, 1000]) {
      const log = await append(folder, many, batch)
      await read(log, `read, written in batches of ${batch}`)
      await log[Symbol.asyncDispose]()
    }
    const single = await latency(folder, rows, 5_000)
    await read(single, 'read, written one by one')
    await single[Symbol.asyncDispose]()
    for (const name of ['log-50000', 'log-single']) await reopen(folder, name)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
