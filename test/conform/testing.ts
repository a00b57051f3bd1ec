/** What `import … from 'millrace/testing'` gives: the kits that our own connectors pass, for vitest. */
export { testContext } from './context.ts'
export { definitionConformance } from './definition.ts'
export {
  appendingSinkConformance,
  atLeastOnceSinkConformance,
  batchOf,
  type Held,
  KIT_TABLE,
  keyedSinkConformance,
  recordOf,
  type SinkKit,
  type SinkTarget,
} from './sink.ts'
export { type SourceKit, type SourceUnderTest, sourceConformance } from './source.ts'
