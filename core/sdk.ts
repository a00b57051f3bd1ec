/**
 * What `import … from 'millrace'` gives: all that a connector outside of this repository needs, and no more. What stands here is kept as it
 * is within a major version; `millrace/testing` has the kits (test/conform/testing.ts).
 */
export type {
  Batch,
  Clock,
  Context,
  Delivery,
  Log,
  LogFields,
  Metrics,
  Offset,
  PlannedTable,
  Reader,
  Rejected,
  SearchResult,
  Sink,
  SinkTarget,
  Source,
  SourcePlan,
  TableAtSink,
  Writer,
} from './connector.ts'
export { assertLease, defineSink, defineSource } from './connector.ts'
export { ConnectorError, type ConnectorErrorOptions, type ErrorKind, Fenced } from './errors.ts'
export {
  type ChangeRecord,
  type Column,
  isMissingColumns,
  type Json,
  type LogRecord,
  type Op,
  originOf,
  type Table,
} from './record.ts'
export { decodeRow, encodeValue, joinRow, plain, quote, type Row, splitRow } from './row.ts'
