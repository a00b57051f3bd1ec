/** Every connector: one import and one line each. */
import type { Sink, Source } from '../core/connector.ts'
import { elasticsearch } from './elasticsearch/sink.ts'
import { file } from './file/sink.ts'
import { fileSource } from './file/source.ts'
import { generate } from './generate/source.ts'
import { kafka } from './kafka/sink.ts'
import { kafkaTopics } from './kafka/source.ts'
import { mariadb } from './mariadb/sink.ts'
import { mysql } from './mysql/sink.ts'
import { opensearch } from './opensearch/sink.ts'
import { postgresSink } from './postgres/sink.ts'
import { postgres } from './postgres/source.ts'
import { produce } from './produce/source.ts'
import { redis } from './redis/sink.ts'
import { redisStreams } from './redis/source.ts'
import { s3 } from './s3/sink.ts'
import { s3Source } from './s3/source.ts'
import { sqlite } from './sqlite/sink.ts'
import { stdout } from './stdout/sink.ts'

const byName = <T extends { readonly name: string }>(list: readonly T[]): ReadonlyMap<string, T> =>
  new Map(list.map(one => [one.name, one]))

export const connectors = {
  // The config's type is known to each connector alone; whoever opens one hands it what its own zod schema gave.
  sources: byName<Source>([
    fileSource,
    generate as unknown as Source,
    kafkaTopics as unknown as Source,
    postgres as unknown as Source,
    produce as unknown as Source,
    redisStreams as unknown as Source,
    s3Source,
  ]),
  sinks: byName<Sink>([
    elasticsearch,
    file,
    kafka as unknown as Sink,
    mariadb as unknown as Sink,
    mysql as unknown as Sink,
    opensearch,
    postgresSink as unknown as Sink,
    redis as unknown as Sink,
    s3,
    sqlite as unknown as Sink,
    stdout as unknown as Sink,
  ]),
} as const
