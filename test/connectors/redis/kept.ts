/** The server that the cases of the sink write to, one after another. */
import type { RedisReply, RedisServer } from '../../servers/redis.ts'
import { type Place, placeOf } from '../writing.ts'
import { openSink } from './reading.ts'

export interface Kept extends Place {
  server(): RedisServer
  /** What it answers to a command. */
  asked(...command: string[]): Promise<RedisReply>
}

/** `server`: it is started when the tests begin. */
export function keptOn(server: () => RedisServer): Kept {
  const asked = (...command: string[]) => server().command(...command)
  const place = placeOf(
    (over, context) => openSink({ url: server().url, ...over }, context),
    () => asked('FLUSHALL'),
  )
  return { ...place, server, asked }
}
