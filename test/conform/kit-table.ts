/** The one table that the kits write: its records, as they are read from the log, batches of them, and texts that are easily broken. */
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
/** The same after a column was added. */
export const WIDER_TABLE: Table = {
  ...KIT_TABLE,
  columns: [...KIT_TABLE.columns, { name: 'more', type: 'text' }],
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

export const NASTY_TEXTS: readonly string[] = [
  '',
  ' ',
  '"\\/\b\f\n\r\t',
  '\u0000',
  '\u2028\u2029',
  '😀 \ud83d\ude00',
  'ß ı İ ﷺ',
  `'); DROP TABLE kit; --`,
  '{"a":[1]}',
  'x'.repeat(100_000),
]
