/** The server that the cases of the sink write to, one after another. */
import type { RedisReply, RedisServer } from '../../servers/redis.ts'
import { type Writers, writersOf } from '../writing.ts'
import { openSink } from './reading.ts'

export interface Kept extends Writers {
  server(): RedisServer
  /** What it answers to a command. */
  asked(...command: string[]): Promise<RedisReply>
  /** Closes the writers and takes all keys away. */
  anew(): Promise<void>
}

/** `server`: it is started when the tests begin. */
export function keptOn(server: () => RedisServer): Kept {
  const writers = writersOf((over, context) => openSink({ url: server().url, ...over }, context))
  return {
    ...writers,
    server,
    asked: (...command) => server().command(...command),
    async anew() {
      await writers.closeAll()
      await server().command('FLUSHALL')
    },
  }
}
