/** The embedded log on the real disk: the kits of logs. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { missingCompression } from '../../../core/log/codec.ts'
import { openEntryLog, openFileLog } from '../../../core/log/file.ts'
import { nodeDisk } from '../../../core/log/node-disk.ts'
import { realClock } from '../../../core/worker/clock.ts'
import { entryLogConformance } from '../../conform/entry-log.ts'
import { changeLogConformance, type LogTarget } from '../../conform/log.ts'

const options = {
  disk: nodeDisk,
  clock: realClock,
  log: { debug() {}, info() {}, warn() {}, error() {} },
  limitBytes: Number.POSITIVE_INFINITY,
  lingerMs: 0,
  batchBytes: 1e6,
}

function inFolder<L>(open: (directory: string) => Promise<L>): LogTarget<L> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-log-'))
  return {
    open: () => open(join(folder, 'log')),
    async [Symbol.asyncDispose]() {
      rmSync(folder, { recursive: true })
    },
  }
}

const KITS = [
  ['file', 'lz4', 128 << 20],
  ['file, in small segments', 'none', 2_000],
  ['file of gzip', 'gzip', 128 << 20],
  ['file of zstd', 'zstd', 128 << 20],
  ['file of snappy', 'snappy', 128 << 20],
] as const

// Not skipped where Node.js has no zstd: that it is refused there is golden.test.ts's.
for (const [name, compression, segmentBytes] of KITS.filter(kit => !missingCompression(kit[1]))) {
  changeLogConformance({
    name,
    target: async partitions =>
      inFolder(directory =>
        openFileLog({ ...options, directory, name: 'kit', partitions, compression, segmentBytes }),
      ),
  })
  entryLogConformance({
    name,
    target: async () =>
      inFolder(directory =>
        openEntryLog({ ...options, directory, name: 'kit.dead', compression, segmentBytes }),
      ),
  })
}
