/**
 * The log into a topic as JSON, Avro and Protobuf: the same rows by the same sink, into one broker; schemas from a real registry. And these
 * topics by the source into a log.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kafka } from '../../connectors/kafka/sink.ts'
import { kafkaTopics } from '../../connectors/kafka/source.ts'
import type { Batch, Sink } from '../../core/connector.ts'
import { prefetched } from '../../core/flow.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { startKafka } from '../servers/kafka.ts'
import { startRegistry } from '../servers/registry.ts'
import { drained, limitLine, shareLine } from './drained.ts'
import { contextOf, filledLog, openIn, spend, type Took } from './filled-log.ts'

const TYPED: Table = {
  schema: 'shop',
  name: 'products',
  key: ['id'],
  columns: [
    { name: 'id', type: 'int8' },
    { name: 'name', type: 'text' },
    { name: 'description', type: 'text' },
    { name: 'price', type: 'text' },
    { name: 'updated_at', type: 'timestamptz' },
  ],
}
const typed = (record: ChangeRecord): ChangeRecord => ({ ...record, table: TYPED })

/** By the real source, pump and writer of the log. */
async function readIntoLog(directory: string, records: number, options: object): Promise<Took> {
  const log = await openIn(directory)
  const stop = new AbortController()
  const context = { ...contextOf(1), signal: stop.signal }
  const took = await spend(async () => {
    await using writer = await log.writer(context, 0)
    await using reader = await kafkaTopics.open(kafkaTopics.config.parse(options), null, context)
    let left = records
    const seen = prefetched(reader as never) as unknown as AsyncIterable<Batch<ChangeRecord>>
    for await (const batch of seen) {
      await writer.write(batch)
      left -= batch.records.length
      if (left <= 0) break
    }
    stop.abort()
  })
  await log[Symbol.asyncDispose]()
  return took
}

export async function formats(records: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  try {
    await using cluster = await startKafka({ heapMb: 1_024, javaOptions: ['-XX:TieredStopAtLevel=4'] })
    await using registry = await startRegistry()
    await using log = await filledLog(folder, records, typed)
    const into = (format: string, topic: string) =>
      drained(
        log,
        kafka as unknown as Sink,
        {
          brokers: cluster.bootstrap,
          topic,
          format,
          view: 'row',
          ...(format === 'json' ? {} : { registry: { url: registry.url } }),
        },
        records,
      )
    await into('json', 'warm')
    await into('avro', 'warm-avro')
    const json = await into('json', 'json')
    limitLine('rows as JSON', json, records)
    for (const format of ['avro', 'protobuf'])
      shareLine(`rows as ${format}`, await into(format, format), json, records, 'JSON')
    const from = (format: string) =>
      readIntoLog(join(folder, `from-${format}`), records, {
        brokers: cluster.bootstrap,
        topics: [format],
        format,
        ...(format === 'json' ? {} : { registry: { url: registry.url } }),
      })
    await from('json')
    rmSync(join(folder, 'from-json'), { recursive: true })
    const read = await from('json')
    limitLine('topic of JSON into the log', read, records)
    for (const format of ['avro', 'protobuf'])
      shareLine(`topic of ${format} into the log`, await from(format), read, records, 'JSON')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
