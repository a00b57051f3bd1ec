/** One worker of the simulated fleet (fleet.ts), from its start to its kill: its client, the log and all tasks of the pipeline. */
import { setMaxListeners } from 'node:events'
import type { Clock, Context, Reader } from '../../core/connector.ts'
import { type KafkaLog, openKafkaEntryLog, openKafkaLog } from '../../core/log/kafka/log.ts'
import type { KafkaSettings } from '../../core/log/kafka/settings.ts'
import type { EntryLog, LogOffset } from '../../core/log/log.ts'
import { resumeAt } from '../../core/pump.ts'
import type { ChangeRecord, LogRecord } from '../../core/record.ts'
import { type Opened, startTask, type Task } from '../../core/worker/task.ts'
import type { SimBroker } from './broker.ts'
import { type Faults, lost, pausedDead, pausedReader, pausedWriter } from './faults.ts'
import { type Ground, type Handles, lettersOf, noted, openSource, openSqlite, silent } from './ground.ts'
import { PIPELINE } from './plan.ts'
import type { SimQueue } from './queue.ts'
import { simKafka } from './wire.ts'

export interface Cuts {
  brokerMs: number
  queueMs: number
}

export interface Fleet extends Ground {
  readonly broker: SimBroker
  readonly queue: SimQueue
  readonly workers: Worker[]
  readonly cuts: Cuts[]
}

export interface Worker {
  readonly life: { alive: boolean; frozenUntilMs: number }
  readonly handles: Handles
  readonly stop: AbortController
  log: KafkaLog | null
  dead: EntryLog | null
  tasks: readonly Task[]
}

const settings: KafkaSettings = {
  hub: 'sim',
  brokers: ['sim:9092'],
  topicPrefix: '',
  tls: null,
  sasl: null,
  producer: {
    batchSizeBytes: 600, // several record batches of a transaction
    lingerMs: 0,
    compression: 'none',
    retryBackoffMs: 10,
    requestTimeoutMs: 1_000,
    transactionTimeoutMs: 10_000,
  },
  consumer: {
    maxPollRecords: 50,
    maxPollIntervalMs: 60_000,
    fetchMaxWaitMs: 100,
    fetchMaxBytes: 1 << 20,
    maxPartitionFetchBytes: 1 << 20,
  },
  replicationFactor: -1,
  topicConfig: {},
}

interface Parts {
  readonly fleet: Fleet
  readonly worker: Worker
  readonly clock: Clock
  readonly log: KafkaLog
  readonly dead: EntryLog
  readonly failChance: number
}

/** `failed`: what it met that it may not. */
export function startWorker(
  fleet: Fleet,
  cuts: Cuts,
  faulty: boolean,
  failed: (error: Error) => void,
): Worker {
  const worker: Worker = {
    life: { alive: true, frozenUntilMs: 0 },
    handles: [],
    stop: new AbortController(),
    log: null,
    dead: null,
    tasks: [],
  }
  setMaxListeners(0, worker.stop.signal)
  const open = async () => {
    const clock = fleet.scheduler.clock(worker.life)
    for (;;)
      try {
        return await openWorker(fleet, worker, clock, cuts, faulty)
      } catch (error) {
        if ((error as { kind?: string }).kind !== 'unavailable') throw error
        await clock.sleep(30)
      }
  }
  open().catch(failed)
  return worker
}

async function openWorker(
  fleet: Fleet,
  worker: Worker,
  clock: Clock,
  cuts: Cuts,
  faulty: boolean,
): Promise<void> {
  const { scheduler, random, plan, broker, queue } = fleet
  const failChance = faulty ? plan.failChance : 0
  const line = { random, clock, failChance, pause: () => scheduler.step(worker.life) }
  const kafka = simKafka({ ...line, broker, cutUntilMs: () => cuts.brokerMs })
  const shared = { kafka, settings, clock, log: silent, compression: 'none' as const }
  const log = await openKafkaLog({
    ...shared,
    name: PIPELINE,
    partitions: plan.partitions,
    retentionHours: 1e6,
    retention: null,
  })
  const dead = await openKafkaEntryLog({ ...shared, pipeline: PIPELINE })
  worker.log = log
  worker.dead = dead
  const common = {
    pipeline: PIPELINE,
    owner: `worker-${fleet.workers.indexOf(worker)}`,
    queue: queue.client({ ...line, cutUntilMs: () => cuts.queueMs }),
    clock,
    random: random.next,
    log: silent,
    retry: { maxAttempts: 3, backoffMs: 20, maxBackoffMs: 200 },
    signal: worker.stop.signal,
  }
  const parts: Parts = { fleet, worker, clock, log, dead, failChance }
  worker.tasks = [
    startTask<ChangeRecord>({
      ...common,
      name: `${PIPELINE}/source`,
      open: context => openSource(fleet, parts, faultsOf(parts), context),
    }),
    ...plan.sinks.flatMap(sink =>
      Array.from({ length: plan.partitions }, (_, partition) =>
        startTask<LogRecord>({
          ...common,
          name: `${PIPELINE}/${sink}/${partition}`,
          open: context => openSink(parts, sink, partition, context),
        }),
      ),
    ),
  ]
}

const faultsOf = ({ fleet: { scheduler, random }, worker, failChance }: Parts): Faults => ({
  pause: () => scheduler.step(worker.life),
  maybeFail(what) {
    if (random.chance(failChance)) throw lost(what)
  },
})

async function openSink(
  parts: Parts,
  sink: 'sqlite' | 'memory',
  partition: number,
  context: Context,
): Promise<Opened<LogRecord>> {
  const { fleet, worker, log, dead } = parts
  const faults = faultsOf(parts)
  const target =
    sink === 'memory' ? fleet.memory.open(context) : await openSqlite(fleet, context, worker.handles)
  const writer = pausedWriter(target, faults, true)
  const progress = log.progress(context, sink, partition)
  const from = (await resumeAt(writer, progress)) as unknown as LogOffset | null
  if (from) fleet.positions.set(context.task, from)
  const reader = await log.reader({
    consumer: context.task,
    partition,
    from: from as never,
    maxRecords: fleet.random.int(1, 9),
    signal: context.signal,
  })
  const whole = nothingSkipped(reader, fleet, partition, context.task, from)
  return {
    reader: noted(pausedReader(whole, faults), fleet, context),
    writer,
    progress,
    dead: pausedDead(lettersOf(dead, context, sink), faults),
  }
}

/** Between what a task had and what it reads next the broker holds no committed record (V5). */
function nothingSkipped(
  reader: Reader,
  { broker, owners }: Fleet,
  partition: number,
  task: string,
  from: LogOffset | null,
): Reader {
  const due = new Map(Object.entries(from?.next ?? {}))
  return {
    ...reader,
    async *[Symbol.asyncIterator]() {
      for await (const batch of reader) {
        for (const { topic, offset } of batch.records) {
          const before = due.get(topic) ?? 0
          const between = broker.topics.get(topic)![partition]!.slice(before, offset)
          if (offset < before) owners.finds.push(`${task} read ${topic} at ${offset}, and ${before} was due`)
          if (between.some(one => one.message && one.transaction.state === 'committed'))
            owners.finds.push(
              `${task} read ${topic} at ${offset}, and left out what stands from ${before} on`,
            )
          due.set(topic, offset + 1)
        }
        yield batch
      }
    },
  }
}

export function kill(worker: Worker): void {
  worker.life.alive = false
  for (const handle of worker.handles.splice(0)) handle.close()
}
