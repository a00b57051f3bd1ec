/**
 * What workers and hubs tell each other in Redis beside the tasks. All of it is said again and may be lost at any moment (L2).
 *
 *   <prefix>:<hub>-workers      hash: owner → { worker, until_ms } on the clock of Redis, whoever asks takes out who is late
 *   <prefix>:<hub>-withdrawn    hash: pipeline → mark; the whole of it goes a day after the last word
 */
import type { Redis } from 'ioredis'
import type { Presence } from './queue.ts'

export interface HintsOptions {
  readonly redis: Redis
  /** Starts the names of the keys. */
  readonly prefix: string
  /** Who says nothing for so long is not there any more. */
  readonly silenceMs: number
}

export interface Hints {
  present(worker: Presence): Promise<readonly Presence[]>
  leave(owner: string): Promise<void>
  withdraw(pipeline: string, mark: string): Promise<void>
  withdrawn(): Promise<ReadonlyMap<string, string>>
}

const WITHDRAWN_MS = 86_400_000

/** One request says, forgets and answers. Time is that of Redis: clocks of machines differ. */
const PRESENT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode({ worker = ARGV[2], until_ms = now + ARGV[3] }))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local here = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local one = cjson.decode(all[i + 1])
  if one.until_ms > now then here[#here + 1] = one.worker else redis.call('HDEL', KEYS[1], all[i]) end
end
return here`

export function hintsIn({ redis, prefix, silenceMs }: HintsOptions): Hints {
  const [workers, withdrawn] = [`${prefix}-workers`, `${prefix}-withdrawn`]
  return {
    async present(worker) {
      const text = JSON.stringify(worker)
      const all = (await redis.eval(PRESENT, 1, workers, worker.owner, text, silenceMs)) as string[]
      return all.map(one => JSON.parse(one) as Presence)
    },
    async leave(owner) {
      await redis.hdel(workers, owner)
    },
    async withdraw(pipeline, mark) {
      await redis.multi().hset(withdrawn, pipeline, mark).pexpire(withdrawn, WITHDRAWN_MS).exec()
    },
    withdrawn: async () => new Map(Object.entries(await redis.hgetall(withdrawn))),
  }
}
