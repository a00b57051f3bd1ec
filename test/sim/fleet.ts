/**
 * The same tasks on several machines: the production log on a simulated cluster of Kafka (broker.ts), leases from a simulated queue (queue.ts), two or three
 * workers that compete for every task.
 *
 *   world (survives kills)     broker, queue, sqlite file, memory store, ledger
 *   └ worker                   client, log, tasks; killed and begun anew, frozen over its lease, cut off from the broker or the queue
 *
 * The queue is wiped or goes back in time, requests and answers are lost, Produce comes twice. After the last change all workers are
 * killed, and one without faults drains everything; then the checks of check.ts are made, against the ledger and the broker's own account.
 */
import { simBroker } from './broker.ts'
import { checkDead, checkLog, checkSinks, readLog, versionWatch } from './check.ts'
import { type Fleet, kill, startWorker } from './fleet-worker.ts'
import { groundOf, refuseMistakes } from './ground.ts'
import { PIPELINE, type Plan, planOf } from './plan.ts'
import { simQueue } from './queue.ts'
import { randomOf } from './random.ts'
import type { Life } from './scheduler.ts'

const LEASE_MS = 1_500
const MAX_STEPS = 400_000

function fleetOf(seed: number): Fleet {
  const random = randomOf(seed + 5_500_501)
  const plan: Plan = {
    ...planOf(seed, random),
    kills: random.int(0, 5),
    failChance: random.pick([0, 0.003, 0.01]),
  }
  const ground = groundOf(plan, random)
  return {
    ...ground,
    broker: simBroker(random, ground.scheduler.nowMs),
    queue: simQueue(LEASE_MS),
    workers: [],
    cuts: Array.from({ length: random.int(2, 3) }, () => ({ brokerMs: 0, queueMs: 0 })),
  }
}

const living = ({ workers }: Fleet) => workers.flatMap(one => (one.life.alive ? one.tasks : []))

/** No sink's task has a committed record before it. */
function isDrained({ plan, positions, broker, workers }: Fleet): boolean {
  const isEnded = workers.some(
    one =>
      one.life.alive &&
      one.tasks.some(task => task.name === `${PIPELINE}/source` && task.state() === 'ended'),
  )
  if (!isEnded) return false
  const topics = [...broker.topics.keys()].filter(name => name.startsWith(`${PIPELINE}.sim.`))
  return plan.sinks.every(sink =>
    topics.every(topic =>
      broker.topics.get(topic)!.every((entries, partition) => {
        const next = positions.get(`${PIPELINE}/${sink}/${partition}`)?.next[topic] ?? 0
        return !entries.slice(next).some(one => one.message && one.transaction.state !== 'aborted')
      }),
    ),
  )
}

const hasOpen = ({ broker }: Fleet): boolean =>
  [...broker.topics].some(([topic, all]) =>
    all.some((entries, partition) => broker.stableEnd(topic, partition) < entries.length),
  )

function shake(fleet: Fleet, restart: (index: number) => void, kills: { left: number; done: number }): void {
  const { random, plan, scheduler, workers, cuts, queue } = fleet
  const nowMs = scheduler.nowMs()
  if (kills.left > 0 && random.chance(0.002)) {
    kills.left--
    kills.done++
    restart(random.int(0, cuts.length - 1))
  }
  if (random.chance(plan.freezeChance / 4))
    random.pick(workers).life.frozenUntilMs = nowMs + random.int(50, 4 * LEASE_MS)
  if (random.chance(plan.failChance / 10)) random.pick(cuts).brokerMs = nowMs + random.int(20, 3 * LEASE_MS)
  if (random.chance(plan.failChance / 10)) random.pick(cuts).queueMs = nowMs + random.int(20, 3 * LEASE_MS)
  if (random.chance(0.001)) queue.note()
  if (random.chance(plan.failChance / 20)) queue.wipe()
  if (random.chance(plan.failChance / 20)) queue.goBack()
  if (random.chance(plan.jumpChance / 4)) scheduler.jump(random.int(-5_000, 5_000))
}

export interface FleetOutcome {
  readonly steps: number
  readonly kills: number
}

/** Every failure names the seed. */
export async function runFleetSeed(seed: number): Promise<FleetOutcome> {
  const fleet = fleetOf(seed)
  try {
    const kills = await troubled(fleet)
    await drained(fleet)
    return { steps: fleet.scheduler.steps, kills }
  } catch (error) {
    throw new Error(
      `fleet seed ${seed}: ${(error as Error).message}\nplan ${JSON.stringify(fleet.plan)}; ${standing(fleet)}`,
      { cause: error },
    )
  } finally {
    for (const worker of fleet.workers) kill(worker)
    fleet.dispose()
  }
}

async function troubled(fleet: Fleet): Promise<number> {
  const { scheduler, random, workers, cuts, plan } = fleet
  let failure: Error | undefined
  const fail = (error: Error) => {
    failure ??= error
  }
  const start = (index: number) => {
    workers[index] = startWorker(fleet, cuts[index]!, true, fail)
  }
  for (const index of cuts.keys()) start(index)
  const kills = { left: plan.kills, done: 0 }
  const watch = versionWatch(fleet)
  const until = random.int(1_000, 30_000)
  scheduler.onTick = () => {
    refuseMistakes(fleet, living(fleet))
    shake(
      fleet,
      index => {
        kill(workers[index]!)
        start(index)
      },
      kills,
    )
    if (random.chance(0.005)) watch()
  }
  await scheduler.run(() => failure !== undefined || isDrained(fleet) || scheduler.steps > until, MAX_STEPS)
  if (failure) throw failure
  return kills.done
}

async function drained(fleet: Fleet): Promise<void> {
  const { scheduler, workers, plan } = fleet
  for (const worker of workers) kill(worker)
  workers.length = 0
  let failure: Error | undefined
  let isDone = false
  const worker = startWorker(fleet, { brokerMs: 0, queueMs: 0 }, false, error => {
    failure = error
  })
  workers.push(worker)
  scheduler.onTick = () => refuseMistakes(fleet, living(fleet))
  const whole = async () => {
    const life: Life = worker.life
    // What an appender of dead letters had begun when it was killed hides what others wrote behind it, until its transaction times out.
    while (!isDrained(fleet) || hasOpen(fleet)) await scheduler.sleep(life, 20)
    const records = await readLog({ log: worker.log! })
    checkLog(records, plan.ledger, plan.partitions, false)
    const still = { dead: worker.dead!, detached: { has: () => false } }
    checkSinks(fleet, still)
    await checkDead(fleet, still, records)
  }
  whole().then(
    () => {
      isDone = true
    },
    error => {
      failure = error as Error
    },
  )
  await scheduler.run(() => isDone || failure !== undefined, MAX_STEPS + scheduler.steps)
  if (failure) throw failure
}

/** Where everybody stood, for who has to find out why. */
const standing = ({ workers, positions, broker }: Fleet): string =>
  JSON.stringify({
    tasks: workers.flatMap(one =>
      one.tasks.map(task => `${task.name} ${task.state()} ${task.error()?.message ?? ''}`),
    ),
    positions: Object.fromEntries(positions),
    ends: Object.fromEntries(
      [...broker.topics].map(([topic, all]) => [topic, all.map(entries => entries.length)]),
    ),
  })
