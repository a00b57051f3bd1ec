/** The numbers of one task, in memory: what status, the page, the logs and Prometheus read. Nothing is decided by them. */
import type { Metrics } from '../connector.ts'

/** Upper bounds; what is above the last is counted behind it. */
export const BUCKETS_SECONDS: readonly number[] = [
  0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200,
]

export interface Histogram {
  /** Of each bucket alone, and of what is above the last. */
  readonly counts: readonly number[]
  readonly sum: number
}
export type Histograms = Readonly<Record<string, Histogram>>

export interface Numbers extends Metrics {
  get(name: string): number
  all(): Readonly<Record<string, number>>
  /** As if `times` records had come, each after `seconds`. */
  observe(name: string, seconds: number, times: number): void
  histograms(): Histograms
}

const empty = () => ({ counts: Array<number>(BUCKETS_SECONDS.length + 1).fill(0), sum: 0 })

export function numbers(): Numbers {
  const values = new Map<string, number>()
  const histograms = new Map<string, { readonly counts: number[]; sum: number }>()
  return {
    add: (name, by) => void values.set(name, (values.get(name) ?? 0) + by),
    set: (name, to) => void values.set(name, to),
    get: name => values.get(name) ?? 0,
    all: () => Object.fromEntries(values),
    observe(name, seconds, times) {
      const histogram = histograms.get(name) ?? empty()
      histograms.set(name, histogram)
      const at = BUCKETS_SECONDS.findIndex(bound => seconds <= bound)
      histogram.counts[at < 0 ? BUCKETS_SECONDS.length : at]! += times
      histogram.sum += seconds * times
    },
    histograms: () => Object.fromEntries(histograms),
  }
}
