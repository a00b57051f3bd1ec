/**
 * The log into a store of objects: JSON Lines, Parquet, and a thousand open folders at once; to a real S3 server and to files. Beside them,
 * in the same run, the limit: the same client sends as many bytes, made beforehand, in objects of the same size.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { s3 } from '../../connectors/s3/sink.ts'
import { connect } from '../../connectors/s3/store.ts'
import { type S3Server, startS3 } from '../servers/s3.ts'
import { line, thousands } from './report.ts'

const CHILD = fileURLToPath(new URL('object-child.js', import.meta.url))
interface Drained {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly peakMb: number
}

function child(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const started = spawn(process.execPath, [CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    let told = ''
    started.stdout.on('data', text => {
      told += text
    })
    started.once('exit', code =>
      code === 0 ? resolve(told) : reject(new Error(`${args[0]} ended with ${code}`)),
    )
  })
}

const placeOf = (server: S3Server) => ({
  bucket: server.bucket(),
  endpoint: server.endpoint,
  access_key_id: server.accessKeyId,
  secret_access_key: server.secretAccessKey,
})

const OBJECT_BYTES = 24_000_000
const ROTATE = { records: 100_000, bytes: 1_000_000_000, idle_ms: 200 }

async function drain(log: string, rows: number, what: string, sink: string, config: object): Promise<void> {
  const told = await child('drain', log, sink, JSON.stringify(config))
  const { seconds, cpuSeconds, peakMb } = JSON.parse(told) as Drained
  line(what, rows / seconds, `${((cpuSeconds / rows) * 1e6).toFixed(1)} CPU s a million, peak ${peakMb} MB`)
}

/** Parts of 8 MB, four at once, as the sink does; nothing is read and nothing made. */
async function ceiling(server: S3Server, rows: number): Promise<void> {
  const config = s3.config.parse(placeOf(server)) as never as Parameters<typeof connect>[0]
  const client = connect(config)
  const part = Buffer.alloc(8 << 20, 'a line of text that stands for many\n')
  const bytes = (rows / ROTATE.records) * OBJECT_BYTES
  let left = Math.ceil(bytes / part.length)
  const from = performance.now()
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      while (left-- > 0)
        await client.send(
          new PutObjectCommand({ Bucket: config.bucket, Key: `x/${left}`, Body: part, IfNoneMatch: '*' }),
        )
    }),
  )
  const seconds = (performance.now() - from) / 1000
  client.destroy()
  line(
    '  limit: the same bytes by the same client, to s3',
    rows / seconds,
    `${(bytes / seconds / 1e6).toFixed(0)} MB/s`,
  )
}

export async function logToObjects(rows: number): Promise<void> {
  await using server = await startS3()
  const folder = mkdtempSync(join(process.env.MILLRACE_BENCH_DIR ?? tmpdir(), 'millrace-bench-'))
  const log = join(folder, 'log')
  try {
    await child('fill', log, String(rows))
    process.stdout.write(
      `${thousands(rows)} rows of about 200 bytes, objects of ${thousands(ROTATE.records)}\n`,
    )
    const rotate = ROTATE
    for (const run of [1, 2]) {
      const again = run === 1 ? '' : ', again'
      await drain(log, rows, `log to s3, jsonl${again}`, 's3', { ...placeOf(server), rotate })
      await ceiling(server, rows)
      await drain(log, rows, `log to s3, parquet${again}`, 's3', {
        ...placeOf(server),
        rotate,
        format: 'parquet',
      })
    }
    const files = (name: string) => ({ directory: join(folder, name), rotate })
    await drain(log, rows, 'log to files, jsonl', 'file', files('jsonl'))
    await drain(log, rows, 'log to files, jsonl gzipped', 'file', { ...files('gzip'), compression: 'gzip' })
    await drain(log, rows, 'log to files, csv', 'file', { ...files('csv'), format: 'csv' })
    await drain(log, rows, 'log to files, avro', 'file', { ...files('avro'), format: 'avro' })
    await drain(log, rows, 'log to files, parquet', 'file', { ...files('parquet'), format: 'parquet' })
    const partition = { by: 'field', fields: ['stock'] }
    for (const format of ['jsonl', 'parquet'])
      await drain(log, rows, `log to files, 1,000 folders open, ${format}`, 'file', {
        ...files(`open-${format}`),
        format,
        partition,
      })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
