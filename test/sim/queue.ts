/** A simulated queue of leases, which anything may happen to: it is asked over a network, and forgets or goes back in time. */
import type { Clock } from '../../core/connector.ts'
import { ConnectorError, Fenced } from '../../core/errors.ts'
import type { Lease, Queue } from '../../core/queue/queue.ts'
import type { Random } from './random.ts'

interface Held {
  readonly owner: string
  readonly epoch: number
  readonly untilMs: number
}

export interface SimQueue {
  /** What a worker talks to. */
  client(line: Line): Queue
  /** Everything is gone. */
  wipe(): void
  /** As it was when it was last noted. */
  goBack(): void
  note(): void
}

export interface Line {
  readonly random: Random
  readonly clock: Clock
  readonly failChance: number
  pause(): Promise<void>
  cutUntilMs(): number
}

const away = (what: string) => new ConnectorError('unavailable', `simulated: ${what}`)

export function simQueue(leaseMs: number): SimQueue {
  let held = new Map<string, Held>()
  let noted = new Map<string, Held>()
  return {
    wipe: () => held.clear(),
    note: () => {
      noted = new Map(held)
    },
    goBack: () => {
      held = new Map(noted)
    },
    client(line) {
      const { clock, random, failChance } = line
      const ask = async <T>(what: string, act: () => T): Promise<T> => {
        await line.pause()
        if (clock.monotonicMs() < line.cutUntilMs() || random.chance(failChance))
          throw away(`${what} was lost`)
        const answer = act()
        await line.pause()
        if (random.chance(failChance)) throw away(`the answer to ${what} was lost`)
        return answer
      }
      // The owner counts from before it asked, and so never longer than the queue does.
      const leaseOf = (task: string, owner: string, epoch: number, askedMs: number): Lease => ({
        task,
        owner,
        epoch,
        deadlineMs: askedMs + leaseMs,
      })
      return {
        async lease(task, owner, above = 0) {
          const askedMs = clock.monotonicMs()
          return ask('lease', () => {
            const now = held.get(task)
            if (now && now.untilMs > clock.monotonicMs()) return null
            const epoch = Math.max(now?.epoch ?? 0, above) + 1
            held.set(task, { owner, epoch, untilMs: clock.monotonicMs() + leaseMs })
            return leaseOf(task, owner, epoch, askedMs)
          })
        },
        async renew({ task, owner, epoch }) {
          const askedMs = clock.monotonicMs()
          return ask('renew', () => {
            const now = held.get(task)
            if (now?.owner !== owner || now.epoch !== epoch || now.untilMs <= clock.monotonicMs())
              throw new Fenced(`${task} is not ${owner}'s any more`)
            held.set(task, { owner, epoch, untilMs: clock.monotonicMs() + leaseMs })
            return leaseOf(task, owner, epoch, askedMs)
          })
        },
        release: ({ task, owner, epoch }) =>
          ask('release', () => {
            const now = held.get(task)
            if (now?.owner === owner && now.epoch === epoch) held.set(task, { ...now, untilMs: 0 })
          }),
        async [Symbol.asyncDispose]() {},
      }
    },
  }
}
