/** The one table that the kits write: its records, as they are read from the log, and batches of them. */
import type { Batch } from '../../core/connector.ts'
import type { LogRecord, Op, Table } from '../../core/record.ts'

export const KIT_TABLE: Table = {
  schema: 'test',
  name: 'kit',
  key: ['id'],
  columns: [
    { name: 'id', type: 'int8' },
    { name: 'name', type: 'text' },
    { name: 'price', type: 'numeric' },
  ],
}
export const KIT_TOPIC = 'kit.test.kit'

interface Shape {
  readonly op?: Op
  readonly id?: number
  readonly name?: string
  readonly version: number
  readonly partition?: number
  readonly below?: number
  readonly row?: string
}

export function recordOf({
  op = 'u',
  id = 1,
  name = 'a',
  version,
  partition = 0,
  below,
  row,
}: Shape): LogRecord {
  const isSweep = op === 'sweep'
  return {
    op,
    table: KIT_TABLE,
    key: isSweep ? '{"sweep":"test.kit"}' : `{"id":${id}}`,
    before: null,
    after:
      op === 'd' || isSweep ? null : (row ?? `{"id":${id},"name":${JSON.stringify(name)},"price":"1.50"}`),
    source: '{"connector":"kit"}',
    commitMs: 1_700_000_000_000,
    readMs: 1_700_000_000_001,
    below: below ?? null,
    topic: KIT_TOPIC,
    partition,
    offset: version,
    version,
  }
}

export const batchOf = (records: readonly LogRecord[], next = (records.at(-1)?.offset ?? 0) + 1): Batch => ({
  records,
  offset: { log: 'kit', next: { [KIT_TOPIC]: next } },
})
