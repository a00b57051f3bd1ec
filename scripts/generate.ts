/** `npm run generate`: writes pipelines/pipeline.schema.json and docs/reference from the definitions. Runs in the root. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { connectors } from '../connectors/index.ts'
import { generated } from './reference.ts'

for (const [path, text] of generated(connectors)) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  console.log(path)
}
