/** Runs one seed: lives that are killed, then one without faults, then the checks. Every failure names the seed. */
import { checkDead, checkLog, checkPlaces, checkSinks, readLog, versionWatch } from './check.ts'
import { refuseMistakes } from './ground.ts'
import { PIPELINE, sinkTasks } from './plan.ts'
import { type Process, startProcess, type World, worldOf } from './world.ts'

const MAX_STEPS = 60_000

export interface Outcome {
  readonly steps: number
  readonly kills: number
  /** Tasks that were let go at the limit. */
  readonly detached: number
}

export async function runSeed(seed: number): Promise<Outcome> {
  const world = worldOf(seed)
  let kills = 0
  try {
    for (; kills < world.plan.kills; kills++) if (await liveUntilKilled(world)) break
    const detached = await drain(world)
    return { steps: world.scheduler.steps, kills, detached }
  } catch (error) {
    throw new Error(
      `seed ${seed}, after ${kills} kills: ${(error as Error).message}\nplan ${JSON.stringify(world.plan)}`,
      { cause: error },
    )
  } finally {
    world.dispose()
  }
}

function isDrained({ plan, positions }: World, process: Process | undefined): boolean {
  if (
    process?.tasks
      .filter(task => task.name === `${PIPELINE}/source`)
      .some(task => task.state() === 'ended') !== true
  )
    return false
  const ends = process.log.endsNow()
  return plan.sinks.every(sink =>
    ends.every(({ topic, partition, end }) => {
      const task = `${PIPELINE}/${sink}/${partition}`
      return process.detached.has(task) || (positions.get(task)?.next[topic] ?? 0) >= end
    }),
  )
}

function hourly(world: World, process: Process | undefined): void {
  const { random, plan } = world
  if (!process || !(plan.retain || plan.retainBytes !== null) || !random.chance(0.01)) return
  process.log.retain().catch(() => {}) // a full disk may fail it; it is tried again
}

/** True: everything was drained before the kill. */
async function liveUntilKilled(world: World): Promise<boolean> {
  const { scheduler, random, disk } = world
  const life = { alive: true, frozenUntilMs: 0 }
  const handles: { close(): void }[] = []
  const killAt = scheduler.steps + random.int(1, random.pick([30, 300, 1_500]))
  const watch = versionWatch(world)
  let process: Process | undefined
  let failure: Error | undefined
  scheduler.onTick = () => {
    refuseMistakes(world, process?.tasks ?? [], process?.detached.has)
    hourly(world, process)
    if (random.chance(0.02)) watch()
  }
  startProcess(world, life, true, handles).then(
    started => {
      process = started
    },
    error => {
      failure = error as Error
    },
  )
  await scheduler.run(
    () => failure !== undefined || scheduler.steps >= killAt || isDrained(world, process),
    MAX_STEPS,
  )
  if (failure && (failure as { kind?: string }).kind !== 'unavailable') throw failure
  const drained = isDrained(world, process)
  life.alive = false
  for (const handle of handles) handle.close()
  // A killed process leaves its pages to the system; only a lost machine loses what was not synced.
  if (random.chance(0.6)) disk.crash()
  return drained
}

/** Answers how many tasks are detached. */
async function drain(world: World): Promise<number> {
  const { scheduler, plan, disk } = world
  disk.crash()
  const life = { alive: true, frozenUntilMs: 0 }
  disk.heal()
  const handles: { close(): void }[] = []
  let process: Process | undefined
  let failure: Error | undefined
  let done = false
  scheduler.onTick = () => refuseMistakes(world, process?.tasks ?? [], process?.detached.has)
  const whole = async () => {
    process = await startProcess(world, life, false, handles)
    while (!isDrained(world, process)) await scheduler.sleep(life, 10)
    const isWhole = !plan.retain && plan.retainBytes === null && plan.limitBytes === Number.POSITIVE_INFINITY
    const records = await readLog(process)
    if (isWhole) checkLog(records, plan.ledger, plan.partitions)
    else checkPlaces(records)
    checkSinks(world, process)
    await checkDead(world, process, isWhole ? records : null)
    await process.stop()
  }
  whole().then(
    () => {
      done = true
    },
    error => {
      failure = error as Error
    },
  )
  await scheduler
    .run(() => done || failure !== undefined, MAX_STEPS + scheduler.steps)
    .catch(error => {
      throw new Error(`${(error as Error).message}; ${describe(world, process)}`)
    })
  const detached = sinkTasks(plan).filter(task => process?.detached.has(task))
  for (const handle of handles) handle.close()
  if (failure) throw failure
  return detached.length
}

/** Where everybody stood, for who has to find out why. */
const describe = ({ positions }: World, process: Process | undefined): string =>
  JSON.stringify({
    tasks: process?.tasks.map(task => `${task.name} ${task.state()} ${task.error()?.message ?? ''}`),
    positions: Object.fromEntries(positions),
    ends: process?.log.endsNow(),
  })
