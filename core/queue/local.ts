/**
 * The embedded queue: leases in the state file. One process owns the data directory (J5), so the clock that ends leases is
 * that process's monotonic clock; leases of an earlier process ended with its lock (`forgetOwners`), their epochs stay.
 */
import type { Clock } from '../connector.ts'
import { Fenced } from '../errors.ts'
import type { Lease, Queue } from './queue.ts'
import type { StateFile } from './state.ts'

export interface LocalQueueOptions {
  readonly state: StateFile
  readonly clock: Clock
  readonly leaseMs: number
}

/** To be called once by the process that took the directory's lock: nobody before it can still write. */
export const forgetOwners = (state: StateFile): void =>
  void state.prepare('UPDATE leases SET owner = NULL, until_ms = 0').run()

export function localQueue({ state, clock, leaseMs }: LocalQueueOptions): Queue {
  const take = state.prepare(
    `INSERT INTO leases (task, owner, epoch, until_ms) VALUES (@task, @owner, @above + 1, @until)
     ON CONFLICT (task) DO UPDATE SET owner = @owner, epoch = max(leases.epoch, @above) + 1, until_ms = @until
     WHERE leases.owner IS NULL OR leases.until_ms <= @now RETURNING epoch`,
  )
  const extend = state.prepare(
    'UPDATE leases SET until_ms = @until WHERE task = @task AND owner = @owner AND epoch = @epoch AND until_ms > @now',
  )
  const giveBack = state.prepare(
    'UPDATE leases SET owner = NULL, until_ms = 0 WHERE task = @task AND owner = @owner AND epoch = @epoch',
  )
  return {
    async lease(task, owner, above = 0) {
      const now = clock.monotonicMs()
      const until = now + leaseMs
      const row = take.get({ task, owner, above, until, now }) as { epoch: number } | undefined
      return row ? { task, owner, epoch: row.epoch, deadlineMs: until } : null
    },
    async renew({ task, owner, epoch }) {
      const now = clock.monotonicMs()
      const until = now + leaseMs
      if (extend.run({ task, owner, epoch, until, now }).changes === 0)
        throw new Fenced(`the lease of ${task} went to somebody else`)
      return { task, owner, epoch, deadlineMs: until }
    },
    async release({ task, owner, epoch }: Lease) {
      giveBack.run({ task, owner, epoch })
    },
    async [Symbol.asyncDispose]() {},
  }
}
