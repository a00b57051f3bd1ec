import { cpus } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Programs and servers that are killed at random, and workers that are measured by how long they stood still. */
const ALONE = ['test/soak/{failover,kills,kills-search}.slow.test.ts', 'test/core/cli/fleet*.slow.test.ts']

// fast: no server, no kill; part of `npm run check`.  slow: real servers and killed processes, which wait more than they compute.
export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: 'fast', include: ['test/**/*.test.ts'], exclude: ['test/**/*.slow.test.ts'] },
      },
      {
        extends: true,
        test: {
          name: 'slow',
          include: ['test/**/*.slow.test.ts'],
          exclude: ALONE,
          testTimeout: 240_000,
          // A first start may wait for another's downloads.
          hookTimeout: 400_000,
          maxWorkers: Math.min(2, cpus().length),
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'slow-alone',
          include: ALONE,
          testTimeout: 240_000,
          hookTimeout: 400_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
