/**
 * What a worker looks at beside its tasks: how many of them are its share (L3), and whether its event loop keeps up with its leases.
 *
 *   look       says that it is there, and learns who else is and what waits. Below its share it takes; above it one task ends at a batch
 *              boundary, when two looks say so, nothing waits, and none ends already: so that tasks move one by one and stay
 *   watch      an event loop that stood still for more than a quarter of the lock: all tasks are given back, to be leased anew
 *
 * Neither is needed for safety. A share is a hint that everybody may lose; and a worker whose loop stands still writes nothing late, for
 * each write looks at the lease's deadline on the monotonic clock first. But its renewals come late, too: they are due at a third of the
 * lock, and a timer and an answer that are each a quarter late still leave a sixth. Beyond that its leases run out in the middle of
 * batches, again and again, which are then done twice; given back in time they go on elsewhere.
 */
import type { Clock, Log } from '../connector.ts'
import { asConnectorError } from '../errors.ts'
import type { Fleet, TaskKind, TaskQueue } from '../queue/queue.ts'
import { type Share, sharesOf } from './share.ts'

export interface Holding {
  readonly task: string
  readonly kind: TaskKind
  isRunning(): boolean
  isEnding(): boolean
  /** At the next batch boundary; then it is given back at once. */
  end(): void
}

export interface BalanceParts {
  readonly queue: TaskQueue
  readonly clock: Clock
  readonly log: Log
  readonly owner: string
  readonly kinds: readonly TaskKind[]
  readonly concurrency: number
  readonly lockMs: number
  /** How long the event loop stood still at most since this was asked last. */
  readonly loopDelayMs: () => number
  readonly signal: AbortSignal
}

export interface Balance {
  /** Kinds of which it may take one now. */
  wanted(): readonly TaskKind[]
  /** Resolves when the worker stops and the others know. */
  readonly done: Promise<void>
}

interface State extends BalanceParts {
  readonly held: ReadonlySet<Holding>
  /** Before that it takes nothing. */
  hasLooked: boolean
  /** null: not known, and so as many as it may. */
  share: Share | null
  /** Since when tasks have waited at each look. */
  readonly waitingMs: Record<TaskKind, number | null>
  readonly surplusLooks: Record<TaskKind, number>
  pausedUntilMs: number
}

const LOOK_MS = 1_000
const LEAVE_MS = 1_000
const KINDS: readonly TaskKind[] = ['source', 'sink']

/** `changed`: what is wanted may be something else now. */
export function keepBalance(parts: BalanceParts, held: ReadonlySet<Holding>, changed: () => void): Balance {
  const state: State = {
    ...parts,
    held,
    hasLooked: false,
    share: null,
    waitingMs: { source: null, sink: null },
    surplusLooks: { source: 0, sink: 0 },
    pausedUntilMs: Number.NEGATIVE_INFINITY,
  }
  const looking = lookAgain(state, changed)
  void watch(state, changed)
  // A queue that is away answers when it is back: a worker that stops waits for no look of it.
  const done = stopped(state).then(() => Promise.race([looking, parts.clock.sleep(LEAVE_MS)]))
  return { wanted: () => wanted(state), done }
}

const countOf = (held: ReadonlySet<Holding>, kind: TaskKind): number =>
  [...held].filter(one => one.kind === kind).length
const isPaused = ({ clock, pausedUntilMs }: State): boolean => clock.monotonicMs() < pausedUntilMs

function wanted(state: State): readonly TaskKind[] {
  const { held, share, kinds, concurrency, hasLooked } = state
  if (!hasLooked || held.size >= concurrency || isPaused(state)) return []
  return kinds.filter(kind => share === null || countOf(held, kind) < share[kind])
}

async function lookAgain(state: State, changed: () => void): Promise<void> {
  const { queue, owner, clock, log, signal, lockMs } = state
  while (!signal.aborted) {
    await lookOnce(state).catch(error => {
      state.share = null
      log.warn({ owner }, `who else is there: ${asConnectorError(error).message}`)
    })
    state.hasLooked = true
    changed()
    await clock.sleep(Math.min(LOOK_MS, lockMs / 10), signal)
  }
  await queue.leave(owner).catch(() => {}) // it is gone soon anyway: it is silent
}

const stopped = ({ signal }: State): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

async function lookOnce(state: State): Promise<void> {
  const { queue, owner, kinds, concurrency, held } = state
  const fleet = await queue.present({
    owner,
    kinds,
    concurrency: isPaused(state) ? 0 : concurrency,
    held: { source: countOf(held, 'source'), sink: countOf(held, 'sink') },
  })
  const share = sharesOf(fleet).get(owner) ?? null
  state.share = share && {
    source: mayHave(state, fleet, share, 'source'),
    sink: mayHave(state, fleet, share, 'sink'),
  }
  if (share) for (const kind of KINDS) handBack(state, fleet, share, kind)
}

/** Nobody waits for an answer who is alone, and none is left waiting by somebody who tells of room and takes nothing. */
function mayHave(
  { owner, clock, waitingMs, lockMs }: State,
  fleet: Fleet,
  share: Share,
  kind: TaskKind,
): number {
  const isAlone = !fleet.workers.some(one => one.owner !== owner && one.kinds.includes(kind))
  const nowMs = clock.monotonicMs()
  waitingMs[kind] = fleet.waiting[kind] === 0 ? null : (waitingMs[kind] ?? nowMs)
  const isLate = nowMs - (waitingMs[kind] ?? nowMs) > lockMs
  return isAlone || isLate ? Number.POSITIVE_INFINITY : share[kind]
}

function handBack(state: State, { waiting }: Fleet, share: Share, kind: TaskKind): void {
  const { held, surplusLooks, log, owner } = state
  const has = countOf(held, kind)
  surplusLooks[kind] = has > share[kind] && waiting[kind] === 0 ? surplusLooks[kind] + 1 : 0
  if (surplusLooks[kind] < 2 || [...held].some(one => one.isEnding())) return
  const last = [...held].filter(one => one.kind === kind && one.isRunning()).at(-1)
  if (!last) return
  surplusLooks[kind] = 0
  log.info(
    { task: last.task, owner, held: has, share: share[kind] },
    `${last.task} is handed back: ${owner} has ${has} tasks of its kind, and its share is ${share[kind]}`,
  )
  last.end()
}

async function watch(state: State, changed: () => void): Promise<void> {
  const { clock, signal, lockMs, loopDelayMs, held, log, owner } = state
  loopDelayMs() // what starting cost is no news
  while (!signal.aborted) {
    await clock.sleep(lockMs / 20, signal)
    const delayMs = Math.round(loopDelayMs())
    if (signal.aborted || delayMs <= lockMs / 4 || held.size === 0) continue
    state.pausedUntilMs = clock.monotonicMs() + lockMs / 4 // others first
    log.warn(
      {
        owner,
        event_loop_delay_ms: delayMs,
        lock_ms: lockMs,
        tasks: held.size,
        hint: 'Give this worker fewer tasks (--concurrency) or more CPU, or raise queue.lock_ms in hub.yaml.',
      },
      `the event loop of ${owner} stood still for ${delayMs} ms, more than a quarter of the lock: its tasks give way, and are leased anew`,
    )
    for (const one of held) one.end()
    changed()
  }
}
