/** What a seed decides before a run begins. */
import type { LedgerOptions } from './ledger.ts'
import { type Random, randomOf } from './random.ts'

export const PIPELINE = 'sim'

export interface Plan {
  readonly ledger: LedgerOptions
  readonly partitions: number
  readonly segmentBytes: number
  readonly kills: number
  readonly failChance: number
  readonly freezeChance: number
  readonly jumpChance: number
  readonly diskFaults: boolean
  readonly retain: boolean
  /** `log.retention.bytes` */
  readonly retainBytes: number | null
  /** `limits.log_bytes` */
  readonly limitBytes: number
  /** The policy at the limit. */
  readonly detaches: boolean
  readonly sinks: readonly ('sqlite' | 'memory')[]
  /** The memory sink gathers over batches. */
  readonly gathers: boolean
}

export function planOf(seed: number, random: Random): Plan {
  // Of a stream of its own, so that the seeds of seeds.txt are what they were; none of those has a limit.
  const later = randomOf(seed + 7_000_120)
  const isLimited = later.chance(0.35)
  const latest = randomOf(seed + 9_400_301)
  return {
    ledger: {
      seed,
      changes: random.int(10, 120) + (isLimited ? 60 : 0),
      keys: random.int(2, 12),
      badEvery: random.chance(0.5) ? random.int(5, 30) : 0,
      sweepEvery: random.chance(0.5) ? random.int(15, 60) : 0,
    },
    partitions: random.int(1, 3),
    segmentBytes: random.pick([512, 2_000, 1_000_000]),
    kills: random.int(0, 6),
    failChance: random.pick([0, 0.005, 0.02]),
    freezeChance: random.pick([0, 0.002, 0.01]),
    jumpChance: random.pick([0, 0.005]),
    diskFaults: random.chance(0.3),
    retain: random.chance(0.3),
    retainBytes: later.chance(0.25) ? later.int(0, 6_000) : null,
    limitBytes: isLimited ? later.int(2_000, 6_000) : Number.POSITIVE_INFINITY,
    detaches: isLimited && later.chance(0.5),
    sinks: random.pick([['sqlite'], ['memory'], ['sqlite', 'memory']] as const),
    gathers: latest.chance(0.4),
  }
}

export const sinkTasks = ({ sinks, partitions }: Plan): readonly string[] =>
  sinks.flatMap(sink =>
    Array.from({ length: partitions }, (_, partition) => `${PIPELINE}/${sink}/${partition}`),
  )
