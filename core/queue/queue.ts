/**
 * The contract of the queue: long leases on tasks, never one job per record (L1). Whoever holds the lease of a task runs its
 * pump; everybody else leaves it alone. The queue holds hints only: losing it loses no progress, since every writer fences
 * by the epoch and the previous offset it keeps with its data (P2, L2).
 *
 *   Queue       leases of tasks that are known by name: one process that runs them all (local.ts)
 *   TaskQueue   tasks that hubs offer and any worker takes (bullmq.ts)
 *
 *              offer                 take                     release, at once or after a delay
 *   (nothing) ──────▶ waiting ─────────────▶ held ───────────────────────────────┐
 *                        ▲                    │ not renewed in time               │
 *                        └────────────────────┴───────────────────────────────────┘
 */
import type { Json } from '../record.ts'

export interface Lease {
  readonly task: string
  readonly owner: string
  /** One more than that of the owner before. */
  readonly epoch: number
  /** On the monotonic clock of the owner: after it the owner must not write. */
  readonly deadlineMs: number
}

/** What a running task needs of either. */
export interface Renewal {
  /** Throws Fenced when the lease is no longer ours. */
  renew(lease: Lease): Promise<Lease>
}

export interface Queue extends Renewal, AsyncDisposable {
  /** Takes a task that nobody holds or whose lease ran out; null: held. `above`: an epoch known from elsewhere (the sink's). */
  lease(task: string, owner: string, above?: number): Promise<Lease | null>
  /** Gives it back; nothing when it is no longer ours. */
  release(lease: Lease): Promise<void>
}

export type TaskKind = 'source' | 'sink'

/** A task that is to be run by whoever takes it. */
export interface Offer {
  readonly task: string
  readonly kind: TaskKind
  /** What a worker needs to run it. No secrets: the queue is no place for them. Another one ends who runs the task by the old one. */
  readonly data: Json
}

export interface Taken {
  readonly lease: Lease
  readonly offer: Offer
  /** Of the owners before, in a row. */
  readonly failures: number
}

export interface Release {
  /** Nobody takes it before. */
  readonly delayMs: number
  /** An epoch seen where the data lives: the next lease is above it (L1). */
  readonly above: number
  readonly failures: number
  readonly report: Json
}

export interface Offered extends Offer {
  readonly state: 'waiting' | 'held' | 'delayed'
  readonly report: Json
}

/** A worker, as it tells of itself. */
export interface Presence {
  readonly owner: string
  readonly kinds: readonly TaskKind[]
  /** Tasks that it runs at most; 0: it takes none for now. */
  readonly concurrency: number
  readonly held: Readonly<Record<TaskKind, number>>
}

/** Who is there, and what nobody has taken. */
export interface Fleet {
  readonly workers: readonly Presence[]
  readonly waiting: Readonly<Record<TaskKind, number>>
}

export interface TaskQueue extends Renewal, AsyncDisposable {
  /**
   * These are the tasks there are to be: makes what is missing, takes away what is not among them and not to be kept as it is.
   * Repeatable, by any number of hubs.
   */
  offer(offers: readonly Offer[], isKept?: (task: string) => boolean): Promise<void>
  list(): Promise<readonly Offered[]>
  /** Waits for a task of these kinds. null: the signal aborted. */
  take(owner: string, kinds: readonly TaskKind[], signal: AbortSignal): Promise<Taken | null>
  /** What hubs show of it. Answers false when it is wanted no more, or by other data. */
  report(taken: Taken, report: Json): Promise<boolean>
  /** Gives it back; nothing when it is no longer ours. */
  release(taken: Taken, release: Release): Promise<void>
  /** Says that this worker is there, until it is silent for as long as a lease lasts; answers with all that are. A hint. */
  present(worker: Presence): Promise<Fleet>
  /** It is not there any more. */
  leave(owner: string): Promise<void>
  /**
   * Takes away the tasks of a pipeline, and leaves word for the hubs that offer them: the mark, another one for each time that somebody
   * deletes it. Repeatable with the same mark, as long as tasks are left. A hint.
   */
  withdraw(pipeline: string, mark: string): Promise<void>
  /** Pipelines that were withdrawn in the last hours, with their marks. */
  withdrawn(): Promise<ReadonlyMap<string, string>>
}
