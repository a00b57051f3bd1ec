/**
 * Names of what stands beside the rows, and which slot of a cluster they are in.
 *
 *   millrace:position:<task><tag>      millrace:versions:<task>:<topic><tag>      millrace:forget:…      millrace:places:…
 *   millrace:members:<pipeline>/<sink>:<topic><tag>      of all its tasks: rows of several may have a member in common
 *
 * `<tag>`: nothing on one server; {shop} where all keys of a template have that tag; else, in a cluster, a tag for each slot, so that a
 * row's version stands where the row does and both change in one step.
 */
import calculateSlot from 'cluster-key-slot'

export interface TableNames {
  readonly versions: string
  readonly forget: string
  readonly places: string
  readonly members: string
}

export const positionName = (task: string, tag: string): string => `millrace:position:${task}${tag}`

export const tableNames = (task: string, topic: string, tag: string): TableNames => {
  const of = `${task}:${topic}${tag}`
  return {
    versions: `millrace:versions:${of}`,
    forget: `millrace:forget:${of}`,
    places: `millrace:places:${of}`,
    members: `millrace:members:${task.slice(0, task.lastIndexOf('/'))}:${topic}${tag}`,
  }
}

/** All sorted sets of versions of a pipeline, for SCAN: by its topics, which may have a prefix. What it takes of others only raises the floor. */
export const versionsPattern = (pipeline: string): string => `millrace:versions:*:*${pipeline}.*`

export const slotOf = (key: string): number => calculateSlot(key)

const SLOTS = 16_384
let tags: string[] | null = null

/** A text whose slot is this one. */
export function tagOfSlot(slot: number): string {
  if (!tags) {
    tags = []
    for (let found = 0, i = 0; found < SLOTS; i++) {
      const text = i.toString(36)
      const at = calculateSlot(text)
      if (tags[at] !== undefined) continue
      tags[at] = text
      found++
    }
  }
  return tags[slot]!
}
