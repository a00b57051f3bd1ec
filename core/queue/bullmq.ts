/**
 * Tasks in Redis, handed out by BullMQ: a job for each task, which is never done. Whoever gets the job has its lock, and extends it; a
 * lock that runs out sends the job back to the others. The one file that imports bullmq; ioredis is known to hints.ts, too.
 *
 *   queues    <prefix>:<hub>-source, <prefix>:<hub>-sink       job id = task
 *   data      { offer, epoch, failures, isWanted }             progress: the last report
 *
 * Redis holds hints only (L2). Wiped, its tasks are offered again by the next look of a hub, with epochs that begin anew: the first
 * writer finds a higher one where the data lives, and says so when it gives the task back.
 */
import { randomUUID } from 'node:crypto'
import { type Job, Queue as JobQueue, type JobType, Worker } from 'bullmq'
import { Redis, type RedisOptions } from 'ioredis'
import type { Clock, Log } from '../connector.ts'
import { ConnectorError, Fenced } from '../errors.ts'
import type { Json } from '../record.ts'
import { type Hints, hintsIn } from './hints.ts'
import type { Fleet, Lease, Offer, Offered, Presence, Release, Taken, TaskKind, TaskQueue } from './queue.ts'

export interface BullQueueOptions {
  /** redis:// or rediss://, with user and password where they are asked for. */
  readonly url: string
  /** PEM text of the authority; null: those that Node.js trusts. */
  readonly ca: string | null
  /** Redis Sentinel: host:port of some sentinels, and the master's name. null: `url` is the server. */
  readonly sentinels: { readonly nodes: readonly string[]; readonly name: string } | null
  /** Starts the names of the queues. */
  readonly hub: string
  readonly lockMs: number
  /** How often it is looked for locks that ran out. */
  readonly stalledMs: number
  readonly clock: Clock
  readonly log: Log
}

interface Data {
  readonly offer: Offer
  readonly epoch: number
  readonly failures: number
  readonly isWanted: boolean
}
type TaskJob = Job<Data>

const KINDS: readonly TaskKind[] = ['source', 'sink']
const PREFIX = 'millrace'
const STATES: JobType[] = ['active', 'waiting', 'delayed', 'prioritized']
const POLL_MS = 100
const AGREED_MS = 10_000

interface State {
  readonly options: BullQueueOptions
  readonly redis: Redis
  readonly hints: Hints
  readonly queues: Readonly<Record<TaskKind, JobQueue<Data>>>
  readonly workers: Map<TaskKind, Worker<Data>>
  /** Task → what we offer of it, and when it was read and stood there as that. */
  readonly agreed: Map<string, { readonly offer: Offer; readonly atMs: number }>
  /** Task → the job that we hold, and the token of its lock. */
  readonly held: Map<string, { readonly job: TaskJob; readonly token: string }>
}

export async function openBullQueue(options: BullQueueOptions): Promise<TaskQueue> {
  const redis = connection(options)
  let last: Error | null = null
  // Each request that waits for it tells; of a connection that was refused only this does.
  redis.on('error', error => {
    last = error
  })
  const queueOf = (kind: TaskKind) =>
    new JobQueue<Data>(`${options.hub}-${kind}`, { connection: redis, prefix: PREFIX })
  try {
    await redis.connect()
  } catch (error) {
    redis.disconnect()
    throw redisError(last ?? error, options)
  }
  const state: State = {
    options,
    redis,
    hints: hintsIn({ redis, prefix: `${PREFIX}:${options.hub}`, silenceMs: options.lockMs }),
    queues: { source: queueOf('source'), sink: queueOf('sink') },
    workers: new Map(),
    agreed: new Map(),
    held: new Map(),
  }
  for (const queue of Object.values(state.queues)) queue.on('error', error => told(state, error))
  const guarded = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      throw redisError(error, options)
    }
  }
  return {
    offer: (offers, isKept = () => false) => guarded(offer(state, offers, isKept)),
    list: () => guarded(list(state)),
    take: (owner, kinds, signal) => guarded(take(state, owner, kinds, signal)),
    renew: lease => guarded(renew(state, lease)),
    report: (taken, report) => guarded(reported(state, taken, report)),
    release: (taken, release) => guarded(released(state, taken, release)),
    present: worker => guarded(present(state, worker)),
    leave: owner => guarded(state.hints.leave(owner)),
    withdraw: (pipeline, mark) => guarded(withdraw(state, pipeline, mark)),
    withdrawn: () => guarded(state.hints.withdrawn()),
    async [Symbol.asyncDispose]() {
      await Promise.all([...state.workers.values()].map(worker => worker.close(true)))
      await Promise.all(Object.values(state.queues).map(queue => queue.close()))
      redis.disconnect()
    },
  }
}

function connection({ url, ca, sentinels }: BullQueueOptions): Redis {
  const shared: RedisOptions = {
    lazyConnect: true,
    maxRetriesPerRequest: null, // as BullMQ asks for; our own patience is the lease's
    enableReadyCheck: true,
    retryStrategy: attempts => Math.min(1_000, attempts * 50),
    connectTimeout: 3_000,
    ...(ca === null ? {} : { tls: { ca } }),
  }
  return sentinels
    ? new Redis({
        ...shared,
        name: sentinels.name,
        sentinels: sentinels.nodes.map(node => ({
          host: node.slice(0, node.lastIndexOf(':')),
          port: Number(node.slice(node.lastIndexOf(':') + 1)),
        })),
        ...credentials(url),
      })
    : new Redis(url, shared)
}

function credentials(url: string): RedisOptions {
  const { username, password, pathname } = new URL(url)
  return {
    ...(username ? { username: decodeURIComponent(username) } : {}),
    ...(password ? { password: decodeURIComponent(password) } : {}),
    db: Number(pathname.slice(1)) || 0,
  }
}

const told = ({ options }: State, error: Error): void =>
  options.log.debug({ queue: options.hub }, `Redis: ${error.message}`)

function redisError(error: unknown, { url }: BullQueueOptions): Error {
  if (error instanceof ConnectorError || error instanceof Fenced) return error
  const { message } = error as Error
  const host = new URL(url).host
  if (/NOAUTH|WRONGPASS|NOPERM|invalid username-password/i.test(message))
    return new ConnectorError('auth', `Redis ${host}: ${message}`, {
      hint: 'See queue.url in hub.yaml: user and password.',
      cause: error,
    })
  return new ConnectorError('unavailable', `Redis ${host}: ${message}`, { cause: error })
}

const dataOf = (offer: Offer, before: Partial<Data> = {}): Data => ({
  offer,
  epoch: before.epoch ?? 0,
  failures: before.failures ?? 0,
  isWanted: true,
})
const isSame = (a: Offer, b: Offer): boolean => JSON.stringify(a.data) === JSON.stringify(b.data)

async function offer(
  state: State,
  offers: readonly Offer[],
  isKept: (task: string) => boolean,
): Promise<void> {
  for (const kind of KINDS) {
    const queue = state.queues[kind]
    const wanted = new Map(offers.filter(one => one.kind === kind).map(one => [one.task, one]))
    const there = new Set(await queue.getRanges(STATES, 0, -1)) // ids: those that are as they were are not read each time
    const missing = [...wanted.values()].filter(one => !there.has(one.task))
    // Of two hubs at once the second adds nothing: the job's id is the task's.
    if (missing.length > 0)
      await queue.addBulk(
        missing.map(one => ({
          name: 'task',
          data: dataOf(one),
          opts: { jobId: one.task, removeOnComplete: true, removeOnFail: true },
        })),
      )
    for (const task of there) {
      const one = wanted.get(task)
      if (one ? isAgreed(state, one) : isKept(task)) continue
      const job = (await queue.getJob(task)) as TaskJob | undefined
      if (job?.data?.offer) await adjust(queue, job, one) // else one that went while it was read
      if (one) state.agreed.set(task, { offer: one, atMs: state.options.clock.monotonicMs() })
      else state.agreed.delete(task)
    }
  }
}

/** It was read not long ago, and stood there as we offer it. Another hub that has another file for it is heard then. */
function isAgreed({ agreed, options }: State, offer: Offer): boolean {
  const known = agreed.get(offer.task)
  return (
    known !== undefined && options.clock.monotonicMs() - known.atMs < AGREED_MS && isSame(known.offer, offer)
  )
}

async function adjust(queue: JobQueue<Data>, job: TaskJob, wanted: Offer | undefined): Promise<void> {
  if (wanted && job.data.isWanted && isSame(wanted, job.data.offer)) return
  // Who runs it sees the new data with his next report, ends, and gives it back.
  if (wanted) {
    await job.updateData(dataOf(wanted, job.data))
    await job.promote().catch(() => {}) // it may not be delayed
    return
  }
  try {
    await job.updateData({ ...job.data, isWanted: false })
  } catch (error) {
    if (!isMissing(error)) throw error // Redis was wiped meanwhile
  }
  await queue.remove(job.id!).catch(() => 0) // held: its holder removes it
}

const isMissing = (error: unknown): boolean => (error as Error).message.startsWith('Missing key')

async function withdraw({ queues, hints }: State, pipeline: string, mark: string): Promise<void> {
  await hints.withdraw(pipeline, mark) // first: a hub that looks now must not offer again what goes
  for (const queue of Object.values(queues))
    for (const job of await jobsOf(queue))
      if (job.data.offer.task.startsWith(`${pipeline}/`)) await adjust(queue, job, undefined)
}

/** A worker that asks for no task is to learn of those that come back, too: who promotes and recovers them is whoever is there. */
async function present(state: State, worker: Presence): Promise<Fleet> {
  for (const kind of worker.kinds) workerOf(state, kind) // looks for leases that ran out
  const [workers, source, sink] = await Promise.all([
    state.hints.present(worker),
    waitingOf(state, 'source'),
    waitingOf(state, 'sink'),
  ])
  return { workers, waiting: { source, sink } }
}

/** BullMQ moves what is due only when somebody takes a task: its score is the millisecond, and twelve bits of order. */
async function waitingOf({ queues, redis, options }: State, kind: TaskKind): Promise<number> {
  const queue = queues[kind]
  const dueBelow = (Math.floor(options.clock.nowUs() / 1000) + 1) * 0x1000
  const [waiting, due] = await Promise.all([
    queue.getWaitingCount(),
    redis.zcount(queue.toKey('delayed'), '-inf', `(${dueBelow}`),
  ])
  return waiting + due
}

const jobsOf = async (queue: JobQueue<Data>): Promise<TaskJob[]> =>
  ((await queue.getJobs(STATES)) as (TaskJob | undefined)[]).filter(
    job => job?.data?.offer !== undefined, // one that went while it was read
  ) as TaskJob[]

async function list({ queues }: State): Promise<readonly Offered[]> {
  const states = { active: 'held', waiting: 'waiting', delayed: 'delayed' } as const
  const found: Offered[] = []
  for (const kind of KINDS)
    for (const [name, state] of Object.entries(states)) {
      const jobs = await queues[kind].getJobs([name as keyof typeof states])
      for (const job of jobs as (TaskJob | undefined)[])
        if (job?.data?.offer) found.push({ ...job.data.offer, state, report: (job.progress ?? null) as Json })
    }
  return found.sort((a, b) => (a.task < b.task ? -1 : 1))
}

function workerOf(state: State, kind: TaskKind): Worker<Data> {
  const known = state.workers.get(kind)
  if (known) return known
  const { hub, lockMs, stalledMs } = state.options
  // Jobs are got by hand, and their locks are extended by the task itself: what cannot extend it must not go on.
  const worker = new Worker<Data>(`${hub}-${kind}`, null, {
    connection: state.redis,
    prefix: PREFIX,
    autorun: false,
    lockDuration: lockMs,
    stalledInterval: stalledMs,
    maxStalledCount: Number.MAX_SAFE_INTEGER, // a lease that ran out is no failure of its task (L3)
  })
  worker.on('error', error => told(state, error))
  state.workers.set(kind, worker)
  void worker.startStalledCheckTimer().catch(error => told(state, error as Error))
  return worker
}

async function take(
  state: State,
  owner: string,
  kinds: readonly TaskKind[],
  signal: AbortSignal,
): Promise<Taken | null> {
  const { clock } = state.options
  while (!signal.aborted) {
    for (const kind of kinds) {
      const taken = await takeOne(state, owner, kind)
      if (taken) return taken
    }
    await clock.sleep(POLL_MS, signal)
  }
  return null
}

async function takeOne(state: State, owner: string, kind: TaskKind): Promise<Taken | null> {
  const { clock, lockMs } = state.options
  const token = randomUUID()
  const fromMs = clock.monotonicMs() // before the request: its lock cannot be older
  const job = (await workerOf(state, kind).getNextJob(token, { block: false })) as TaskJob | undefined
  if (!job) return null
  const { offer, failures, isWanted } = job.data
  if (!isWanted) {
    await job.moveToCompleted(null, token, false)
    return null
  }
  const epoch = job.data.epoch + 1
  await job.updateData({ ...job.data, epoch })
  state.held.set(offer.task, { job, token })
  return { lease: { task: offer.task, owner, epoch, deadlineMs: fromMs + lockMs }, offer, failures }
}

async function renew({ held, options }: State, lease: Lease): Promise<Lease> {
  const { clock, lockMs } = options
  const mine = held.get(lease.task)
  const fromMs = clock.monotonicMs()
  if (!mine || (await mine.job.extendLock(mine.token, lockMs)) !== 1)
    throw new Fenced(`the lease of ${lease.task} went to somebody else`)
  return { ...lease, deadlineMs: fromMs + lockMs }
}

async function reported({ queues, held }: State, { offer, lease }: Taken, report: Json): Promise<boolean> {
  const job = (await queues[offer.kind].getJob(offer.task)) as TaskJob | undefined
  if (!job || !held.has(lease.task)) return false
  await job.updateProgress(report as object)
  return job.data.isWanted && isSame(job.data.offer, offer)
}

async function released({ queues, held }: State, { offer, lease }: Taken, release: Release): Promise<void> {
  const mine = held.get(lease.task)
  held.delete(lease.task)
  if (!mine) return
  const { job, token } = mine
  try {
    const now = (await queues[offer.kind].getJob(offer.task)) as TaskJob | undefined
    if (!now || now.data.epoch !== lease.epoch) return // somebody else's by now, or gone
    if (!now.data.isWanted) return void (await job.moveToCompleted(null, token, false))
    await now.updateData({
      ...now.data,
      epoch: Math.max(now.data.epoch, release.above),
      failures: release.failures,
    })
    await now.updateProgress(release.report as object)
    if (release.delayMs > 0 && isSame(now.data.offer, offer))
      await job.moveToDelayed(Date.now() + release.delayMs, token)
    else await job.moveToWait(token)
  } catch (error) {
    if (!isMissing(error) && !/lock/i.test((error as Error).message)) throw error // its lock ran out meanwhile
  }
}
