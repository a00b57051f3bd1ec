/** `hub.yaml`: what a hub is apart from its pipelines. All of it optional; never read as a pipeline. */
import { z } from 'zod'
import { Secrets } from '../secrets.ts'
import { readYaml, type YamlFile } from './document.ts'
import { inOrder, type Mistake } from './mistake.ts'
import { HUB_NOT_BUILT } from './not-built.ts'
import { misplacedReferences } from './placeholders.ts'
import type { ReferenceSources } from './reference.ts'
import { sizeSchema } from './schema.ts'
import { validated } from './validate.ts'

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
    log: z
      .strictObject({
        type: z.enum(['embedded']).default('embedded').meta({
          title: 'Type',
          description: 'embedded: files in the data directory.',
        }),
        linger_ms: z.int().min(0).max(10_000).default(2).meta({
          title: 'Linger',
          description: 'How long a write waits for others to share one sync to disk.',
        }),
        batch_bytes: sizeSchema.prefault('1MB').meta({
          title: 'Batch',
          description: 'A write that has grown to this size waits no longer.',
        }),
      })
      .prefault({})
      .meta({ title: 'Log', description: 'Where changes are kept between source and sinks.' }),
    queue: z
      .strictObject({
        type: z.enum(['embedded']).default('embedded').meta({
          title: 'Type',
          description: 'embedded: tasks run in this process.',
        }),
      })
      .prefault({})
      .meta({ title: 'Queue', description: 'Who runs which task.' }),
  })
  .meta({ title: 'Hub', description: 'A hub of Millrace.' })

export interface HubConfig {
  readonly name: string
  readonly dataDir: string
  readonly api: { readonly host: string; readonly port: number }
  readonly log: { readonly type: 'embedded'; readonly lingerMs: number; readonly batchBytes: number }
  readonly queue: { readonly type: 'embedded' }
}

const configOf = ({ name, data_dir, api, log, queue }: z.output<typeof hubSchema>): HubConfig => ({
  name,
  dataDir: data_dir,
  api,
  log: { type: log.type, lingerMs: log.linger_ms, batchBytes: log.batch_bytes },
  queue,
})

export interface ParseHubOptions extends ReferenceSources {
  readonly secrets?: Secrets
}

/** An empty text gives the defaults; so does one with mistakes, which nobody should go on with. */
export function parseHub(
  file: YamlFile,
  { secrets = new Secrets(), ...sources }: ParseHubOptions,
): { config: HubConfig; mistakes: readonly Mistake[] } {
  const defaults = configOf(hubSchema.parse({}))
  const read = readYaml(file, sources)
  if (!read.tree) return { config: defaults, mistakes: inOrder(read.mistakes) }
  const { value, mistakes } = validated(hubSchema, read.tree, read, { secrets, notBuilt: HUB_NOT_BUILT })
  const misplaced = misplacedReferences(read.tree, read, sources.env, false)
  return {
    config: value ? configOf(value) : defaults,
    mistakes: inOrder([...read.mistakes, ...mistakes, ...misplaced]),
  }
}
