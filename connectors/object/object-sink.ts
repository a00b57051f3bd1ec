/** What all object sinks are, but for their store: check, plan, writer, forget. */
import { z } from 'zod'
import type { Context, Sink, SinkTarget, TableAtSink } from '../../core/connector.ts'
import { asConnectorError, ConnectorError } from '../../core/errors.ts'
import { checkFileOptions } from '../../core/format/file.ts'
import type { Json, Table } from '../../core/record.ts'
import { fileOptions, type ObjectConfig, refuseLostPartition, shared } from './config.ts'
import { envelopeOf } from './envelope.ts'
import { safe } from './layout.ts'
import { forget } from './manifests.ts'
import type { ObjectStore, StoreParts } from './store.ts'
import { openObjectWriter } from './writer.ts'

/** Small: what is gathered is bytes the sooner, and a third of the time went into collecting what larger ones left. */
const BATCH = { records: 2_500, bytes: 2 << 20 }
const TICK_MS = 1_000

export interface ObjectSinkParts<K extends z.ZodRawShape> extends StoreParts<z.output<z.ZodObject<K>>> {
  readonly name: string
  readonly summary: string
  /** The options of the store. */
  readonly place: K
  readonly examples: readonly { readonly title: string; readonly config: Json }[]
}

export function objectSink<K extends z.ZodRawShape>(parts: ObjectSinkParts<K>): Sink {
  const { name, summary, place, examples, open, nameOf } = parts
  type Place = z.output<z.ZodObject<K>>
  const using = async <T>(config: unknown, context: Context, work: (store: ObjectStore) => Promise<T>) => {
    await using store = await open(config as Place, context.task, context.signal)
    return work(store)
  }
  return {
    name,
    summary,
    config: z.strictObject({ ...place, ...shared }).superRefine(refuseLostPartition),
    examples: examples as Sink['examples'],
    keyed: () => false,
    delivery: () => 'exactly_once',
    batch: BATCH,
    tickMs: TICK_MS,
    // Topics hold the name of their pipeline, and names of objects those of topics: only sinks of one pipeline can meet.
    target: (config, { schema, name: table }) => `${nameOf(config as Place)} ${schema}.${table}`,
    async check(config, context) {
      checkFileOptions(fileOptions(config as unknown as ObjectConfig))
      await using(config, context, async store => {
        await parts.check(store, config as Place)
        await probe(store, context)
      })
    },
    plan: (config, tables, context) =>
      using(config, context, store =>
        planned(store, config as unknown as ObjectConfig, parts.describe(config as Place), tables),
      ),
    async open(config, context) {
      const store = await open(config as Place, context.task, context.signal)
      try {
        return await openObjectWriter(store, name, config as unknown as ObjectConfig, context)
      } catch (error) {
        await store[Symbol.asyncDispose]()
        throw error
      }
    },
    async forget(config, tasks, context) {
      try {
        await using(config, context, store => forget(store, tasks))
      } catch (error) {
        const { kind, message } = asConnectorError(error)
        if (kind !== 'unavailable' && kind !== 'auth') throw error
        context.log.warn({ tasks }, `${message}: manifests of ${tasks.join(', ')} stay there`)
      }
    },
  }
}

/** That it may be written, read, listed and removed, and that of two creates of one name the second is refused: all rests on that. */
async function probe(store: ObjectStore, { clock, pipeline }: Context): Promise<void> {
  const name = `_millrace/check-${pipeline}-${clock.nowUs()}-${process.pid}.json`
  const bytes = Buffer.from('{"check":1}')
  await store.create(name, bytes).catch(async error => {
    await store.remove(name).catch(() => {}) // it may be there all the same; what failed before is what is told
    throw error
  })
  try {
    if (await store.create(name, Buffer.from('{"check":2}')))
      throw new ConnectorError(
        'config',
        `${store.name} ignores If-None-Match: it lets an object be created twice`,
        {
          hint: 'Exactly once rests on it. AWS S3, MinIO, Ceph (Squid), R2 and s3proxy keep it; an older store must be brought up to date.',
        },
      )
    const found = await store.list('_millrace/', name.slice(0, -1))
    if (!(await store.read(name))?.equals(bytes) || !found.includes(name))
      throw new ConnectorError('config', `${store.name} does not show what was written a moment ago`, {
        hint: 'Exactly once rests on it: use a store with strong consistency, and no cache in front.',
      })
  } finally {
    await store.remove(name)
  }
}

async function planned(
  store: ObjectStore,
  config: ObjectConfig,
  place: { readonly [name: string]: Json },
  tables: readonly TableAtSink[],
): Promise<readonly SinkTarget[]> {
  checkFileOptions(fileOptions(config))
  const targets: SinkTarget[] = []
  for (const { table, topic } of tables) {
    refuseMissingFields(config, table)
    const folder = folderFor(config, table, topic)
    const { format, compression } = fileOptions(config)
    targets.push({
      name: `${store.name}/${folder}`,
      tables: [`${table.schema}.${table.name}`],
      exists: (await store.list(folder, undefined, 1)).length > 0,
      definition: {
        ...place,
        format,
        compression,
        columns: envelopeOf(config)
          .columns(table)
          .map(({ name, type }) => `${name} ${type}`),
        deletes: config.deletes === 'write' ? 'are records' : 'are left out',
        sweeps:
          config.sweeps === 'write'
            ? 'a TRUNCATE is a record: what stands in objects is never taken away'
            : 'a TRUNCATE is left out: what stands in objects is never taken away',
      },
      differences: [],
    })
  }
  return targets
}

/** What of the path is the same for all records of a table. */
const folderFor = ({ path }: ObjectConfig, { schema, name }: Table, topic: string): string =>
  path
    .replaceAll('${topic}', topic)
    .replaceAll('${schema}', safe(schema))
    .replaceAll('${table}', safe(name))
    .replace(/\$\{partition\}.*$/s, '')

function refuseMissingFields({ partition }: ObjectConfig, { schema, name, columns }: Table): void {
  const { by, fields, time_field: field } = partition
  const named = by === 'field' ? fields : by === 'time' && field !== undefined ? [field] : []
  const missing = named.filter(one => columns.length > 0 && !columns.some(column => column.name === one))
  if (missing.length === 0) return
  throw new ConnectorError(
    'config',
    `${schema}.${name} has no column ${missing.join(', ')}, by which the sink parts it`,
    {
      hint: 'Give tables without it a sink of their own, with "only"; a source that learns columns from what it reads must have it in its `columns`.',
    },
  )
}
