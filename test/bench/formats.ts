/**
 * The log into a topic as JSON, Avro and Protobuf: the same rows by the same sink, into one broker; schemas from a real registry. What is
 * read beside it is bytes of the topic a row, as the broker stores them.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kafka } from '../../connectors/kafka/sink.ts'
import type { Sink } from '../../core/connector.ts'
import type { ChangeRecord, Table } from '../../core/record.ts'
import { startKafka } from '../servers/kafka.ts'
import { startRegistry } from '../servers/registry.ts'
import { drained, limitLine, shareLine } from './drained.ts'
import { filledLog } from './filled-log.ts'

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
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
