/**
 * A worker to be frozen: `node frozen-writer.js TYPE URL INDEX` opens the sink with a lease that it renews as long as it holds it, writes
 * documents one request each, says "writing" when some stand, and in the end what became of it.
 */
import { connectors } from '../../connectors/index.ts'
import type { Sink } from '../../core/connector.ts'
import { Fenced } from '../../core/errors.ts'
import { testContext } from './context.ts'
import { batchOf, recordOf } from './kit-table.ts'

const LEASE_MS = 3_000
const [type, url, index] = process.argv.slice(2)
const sink = connectors.sinks.get(type!) as Sink
let untilMs = performance.now() + LEASE_MS
setInterval(() => {
  // A lease that has run out is somebody else's.
  if (performance.now() < untilMs) untilMs = performance.now() + LEASE_MS
}, 100)
const context = testContext({ epoch: 1, deadlineMs: () => untilMs })
const options = { url, index, bulk: { actions: 1, parallel: 2 }, settings: { gc_deletes: '1s' } }
const writer = await sink.open(sink.config.parse(options) as never, context)
await writer.write(batchOf([recordOf({ id: 1, name: 'old', version: 1 })]))
process.stdout.write('writing\n')
try {
  const records = Array.from({ length: 20_000 }, (_, i) =>
    recordOf({ id: i + 1, name: 'old', version: i + 2 }),
  )
  await writer.write(batchOf(records))
  process.stdout.write('written\n')
} catch (error) {
  process.stdout.write(error instanceof Fenced ? 'fenced\n' : `failed: ${(error as Error).message}\n`)
}
process.exit(0)
