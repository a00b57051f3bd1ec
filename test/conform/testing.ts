/** What `import … from 'millrace/testing'` gives: the kits that our own connectors pass, for vitest. */
export { testContext } from './context.ts'
export { definitionConformance } from './definition.ts'
export { batchOf, KIT_TABLE, recordOf } from './kit-table.ts'
export {
  appendingSinkConformance,
  atLeastOnceSinkConformance,
  type Held,
  keyedSinkConformance,
  type SinkKit,
  type SinkTarget,
} from './sink.ts'
export { type SourceKit, type SourceUnderTest, sourceConformance } from './source.ts'
