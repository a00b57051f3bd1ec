/**
 * The contract of the queue: long leases on tasks, never one job per record (L1). Whoever holds the lease of a task runs its
 * pump; everybody else leaves it alone. The queue holds hints only: losing it loses no progress, since every writer fences
 * by the epoch and the previous offset it keeps with its data (P2, L2). Drivers: local.ts (embedded), later bullmq.ts.
 */

export interface Lease {
  readonly task: string
  readonly owner: string
  /** One more than that of the owner before. */
  readonly epoch: number
  /** On the monotonic clock of the owner: after it the owner must not write. */
  readonly deadlineMs: number
}

export interface Queue extends AsyncDisposable {
  /** Takes a task that nobody holds or whose lease ran out; null: held. `above`: an epoch known from elsewhere (the sink's). */
  lease(task: string, owner: string, above?: number): Promise<Lease | null>
  /** Throws Fenced when the lease is no longer ours. */
  renew(lease: Lease): Promise<Lease>
  /** Gives it back; nothing when it is no longer ours. */
  release(lease: Lease): Promise<void>
}
