/** `hub.yaml`: what a hub is apart from its pipelines. All of it optional; never read as a pipeline. */
import { z } from 'zod'
import { Secrets } from '../secrets.ts'
import { type Read, readYaml, type Tree, type YamlFile } from './document.ts'
import { type HubLog, hubLogSchema, KAFKA_ONLY } from './hub-log-schema.ts'
import { type HubQueue, hubQueueSchema } from './hub-queue-schema.ts'
import { inOrder, type Mistake } from './mistake.ts'
import { HUB_NOT_BUILT } from './not-built.ts'
import { misplacedReferences } from './placeholders.ts'
import type { ReferenceSources } from './reference.ts'
import { treeAt, validated } from './validate.ts'

export const hubSchema = z
  .strictObject({
    name: z
      .string()
      .regex(
        /^[a-z][a-z0-9-]{0,39}$/,
        'must be of a-z, 0-9 and -, begin with a letter, and be at most 40 long',
      )
      .default('millrace')
      .meta({ title: 'Name', description: 'Of this hub.' }),
    data_dir: z.string().min(1).default('.millrace').meta({
      title: 'Data directory',
      description: 'Logs and state, from the current directory. One hub owns it. `--data-dir` wins over it.',
    }),
    api: z
      .strictObject({
        host: z.string().min(1).default('127.0.0.1').meta({
          title: 'Host',
          description:
            'The address to listen at. There is no login: leave it local, or put a proxy before it.',
        }),
        port: z
          .int()
          .min(0)
          .max(65_535)
          .default(4000)
          .meta({ title: 'Port', description: '0: any free one.' }),
      })
      .prefault({})
      .meta({ title: 'API', description: 'REST API and page.' }),
    log: hubLogSchema,
    queue: hubQueueSchema,
  })
  .meta({ title: 'Hub', description: 'A hub of Millrace.' })

export interface HubConfig {
  readonly name: string
  readonly dataDir: string
  readonly api: { readonly host: string; readonly port: number }
  readonly log: {
    readonly lingerMs: number
    readonly batchBytes: number
    /** null: the embedded log. */
    readonly kafka: HubLog | null
  }
  /** null: tasks run in this process. */
  readonly queue: HubQueue | null
}

const configOf = ({ name, data_dir, api, log, queue }: z.output<typeof hubSchema>): HubConfig => ({
  name,
  dataDir: data_dir,
  api,
  log: {
    lingerMs: log.linger_ms,
    batchBytes: log.batch_bytes,
    kafka: log.type === 'kafka' ? log : null,
  },
  queue: queue.type === 'bullmq' ? queue : null,
})

/** Where the tasks of a hub are run: in the process that reads the file, or by workers. */
export type RunsTasks = 'here' | 'workers'

export interface ParseHubOptions extends ReferenceSources {
  readonly secrets?: Secrets
  /** What the command at hand does: the file must say the same. */
  readonly runsTasks?: RunsTasks | undefined
}

/** An empty text gives the defaults; so does one with mistakes, which nobody should go on with. */
export function parseHub(
  file: YamlFile,
  { secrets = new Secrets(), runsTasks, ...sources }: ParseHubOptions,
): { config: HubConfig; mistakes: readonly Mistake[] } {
  const defaults = configOf(hubSchema.parse({}))
  const read = readYaml(file, sources)
  if (!read.tree) {
    const embedded = runsTasks === 'workers' ? [read.mistakeAt(0, NEEDS_QUEUE)] : []
    return { config: defaults, mistakes: inOrder([...read.mistakes, ...embedded]) }
  }
  const { value, mistakes: found } = validated(hubSchema, read.tree, read, {
    secrets,
    notBuilt: HUB_NOT_BUILT,
  })
  const mistakes = [...found]
  const idle = kafkaOnly(read.tree).map(([key, at]) =>
    read.mistakeAt(at, `"${key}" in log is of Kafka, and log.type is embedded`),
  )
  if (value?.queue.type === 'bullmq' && value.log.type !== 'kafka')
    mistakes.push(
      read.mistakeAt(
        treeAt(read.tree, ['queue', 'type'])!.at,
        'queue.type is "bullmq": it needs log.type kafka, for workers on several machines share no files',
      ),
    )
  else if (value) mistakes.push(...elsewhere(value.queue.type, read.tree, read, runsTasks))
  const misplaced = misplacedReferences(read.tree, read, sources.env, false)
  return {
    config: value ? configOf(value) : defaults,
    mistakes: inOrder([...read.mistakes, ...mistakes, ...misplaced, ...idle]),
  }
}

const NEEDS_QUEUE =
  'queue.type is embedded: workers need queue.type bullmq and log.type kafka. To run everything in one process: `millrace up`'

/** A file that says another command runs its tasks. */
function elsewhere(
  type: 'embedded' | 'bullmq',
  tree: Tree,
  { mistakeAt }: Read,
  runsTasks: RunsTasks | undefined,
): Mistake[] {
  const at = (treeAt(tree, ['queue', 'type']) ?? treeAt(tree, ['queue']) ?? tree).at
  if (runsTasks === 'workers' && type === 'embedded') return [mistakeAt(at, NEEDS_QUEUE)]
  if (runsTasks === 'here' && type === 'bullmq')
    return [
      mistakeAt(
        at,
        'queue.type is "bullmq": workers run the tasks, and this command would run them here. Start `millrace hub` and `millrace worker`, or take `queue` out of the file',
      ),
    ]
  return []
}

/** Keys that would do nothing: whoever wrote them thinks that they do. */
function kafkaOnly(tree: Tree): [key: string, at: number][] {
  const log = treeAt(tree, ['log'])
  const type = treeAt(tree, ['log', 'type'])
  if (log?.kind !== 'dict' || (type?.kind === 'leaf' && type.value === 'kafka')) return []
  return KAFKA_ONLY.flatMap(key => {
    const entry = log.entries.get(key)
    return entry ? [[key, entry.at] as [string, number]] : []
  })
}
