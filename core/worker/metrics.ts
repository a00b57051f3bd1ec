/** The numbers of one task, in memory: what status, the page and the logs read. Nothing is decided by them. */
import type { Metrics } from '../connector.ts'

export interface Numbers extends Metrics {
  get(name: string): number
  all(): Readonly<Record<string, number>>
}

export function numbers(): Numbers {
  const values = new Map<string, number>()
  return {
    add: (name, by) => void values.set(name, (values.get(name) ?? 0) + by),
    set: (name, to) => void values.set(name, to),
    get: name => values.get(name) ?? 0,
    all: () => Object.fromEntries(values),
  }
}
