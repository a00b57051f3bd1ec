/**
 * The YAML of a pipeline as one zod schema, made of what the connectors and transforms say of themselves; and what a parsed
 * pipeline is. Positions, references and rules between keys are parse.ts's.
 */
import { z } from 'zod'
import type { Sink, Source } from '../connector.ts'
import { COMPRESSIONS, type Compression, missingCompression } from '../log/log.ts'
import { type Step, transforms } from '../transform/transform.ts'

/** Which connectors there are, by their `type:`; handed in by who starts the program. */
export interface Registry {
  readonly sources: ReadonlyMap<string, Source>
  readonly sinks: ReadonlyMap<string, Sink>
  /** Why what a file names is not among them, by its place (`source.type`, `sinks[].type`) and its `type:` (external.ts). */
  readonly refused?: Refused
}
export type Refused = Readonly<Record<string, ReadonlyMap<string, string>>>

export interface ParsedSource {
  readonly connector: Source
  /** What the connector's own schema made of its keys. */
  readonly config: unknown
  /** Before the log. */
  readonly transforms: readonly Step[]
}

export interface ParsedSink {
  readonly name: string
  readonly connector: Sink
  readonly config: unknown
  /** Tables this sink takes, as "schema.table" with `*`; null: all. */
  readonly only: readonly string[] | null
  /** After the log: the pipeline's, then the sink's own. */
  readonly transforms: readonly Step[]
}

export interface ParsedPipeline {
  readonly name: string
  readonly description: string
  /** As it was given to the parser. */
  readonly file: string
  readonly source: ParsedSource
  readonly log: {
    readonly partitions: number
    readonly compression: Compression
    readonly retention: { readonly hours: number; readonly bytes?: number | undefined }
  }
  readonly sinks: readonly ParsedSink[]
  readonly errors: {
    readonly retry: {
      readonly maxAttempts: number
      readonly backoffMs: number
      readonly maxBackoffMs: number
    }
    readonly onReject: 'dead_letter' | 'halt'
  }
  readonly limits: { readonly logBytes: number; readonly policy: 'alert' | 'detach_sink' }
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}

/** `500MB`, `10 GiB`, `1.5TB`, `1048576`; null: it is no size. */
export function bytesOf(size: string | number): number | null {
  const parts = String(size).match(/^(\d+(?:\.\d+)?)\s*([a-z]*)$/i)
  const unit = parts ? UNITS[parts[2]!.toLowerCase()] : undefined
  if (unit === undefined) return null
  const bytes = Math.floor(Number(parts![1]) * unit)
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : null
}

/** A size in bytes, written for people. */
export const sizeSchema = z
  .union([z.number(), z.string()], { error: 'must be a size, as 500MB, 10GB or 2GiB' })
  .refine(size => bytesOf(size) !== null, 'must be a size, as 500MB, 10GB or 2GiB')
  .transform(size => bytesOf(size)!)

/** Why a table pattern of `only` cannot be read; null: it can. */
function badTable(pattern: string): string | null {
  if (/["'\s?[\]{}!]/.test(pattern)) return 'must be schema.table; only * is a wildcard'
  return /^[^.]+\..+$/.test(pattern) ? null : 'must be schema.table; * stands for any characters'
}

const stepsSchema = z
  .array(
    z
      .strictObject(
        Object.fromEntries(
          [...transforms.values()].map(({ name, schema, summary }) => [
            name,
            schema.optional().meta({ title: name, description: summary }),
          ]),
        ),
      )
      .refine(step => Object.keys(step).length === 1, {
        error: `must be one verb with its options: ${[...transforms.keys()].join(', ')}`,
      })
      .meta({ minProperties: 1, maxProperties: 1 }),
  )
  .default([])

/** What `stepsSchema` gives. */
export type ParsedSteps = readonly Readonly<Record<string, unknown>>[]

export const stepsOf = (steps: ParsedSteps): readonly Step[] =>
  steps.flatMap(step =>
    Object.entries(step).map(([verb, options]) => transforms.get(verb)!.make(options as never)),
  )

const only = z
  .array(
    z.string().superRefine((pattern, context) => {
      const bad = badTable(pattern)
      if (bad) context.addIssue({ code: 'custom', message: bad })
    }),
  )
  .min(1)
  .optional()
  .meta({
    title: 'Only',
    description: 'The tables this sink takes, as schema.table; `*` stands for any characters. Default: all.',
  })

const sinkName = z
  .string()
  .regex(
    /^[a-z][a-z0-9_-]{0,39}$/,
    'must be of a-z, 0-9, - and _, begin with a letter, and be at most 40 long',
  )
  .refine(name => name !== 'source', 'cannot be "source": that is what the task of the source is called')
  .optional()
  .meta({ title: 'Name', description: 'Of this sink, unique in the pipeline. Default: its type.' })

const typeOf = (name: string, summary: string) =>
  z.literal(name).meta({ title: 'Type', description: summary })

/** One branch for each connector, chosen by `type`. */
function byType<K extends z.ZodRawShape>(all: ReadonlyMap<string, Source | Sink>, shared: K) {
  const branches = [...all].map(([type, { summary, config }]) => {
    const clash = Object.keys({ type: true, ...shared }).find(key => key in config.shape)
    if (clash) throw new TypeError(`connector ${type}: "${clash}" is a key of pipelines, not of connectors`)
    return config
      .safeExtend({ type: typeOf(type, summary), ...shared })
      .meta({ title: type, description: summary })
  })
  const [first, ...rest] = branches
  return first ? z.discriminatedUnion('type', [first, ...rest]) : z.never()
}

const log = z
  .strictObject({
    partitions: z.int().min(1).max(256).default(1).meta({
      title: 'Partitions',
      description:
        'Parts of each topic, by key; each sink runs one task for each. Cannot be changed once the pipeline exists.',
    }),
    compression: z
      .enum(COMPRESSIONS)
      .superRefine((compression, context) => {
        const message = missingCompression(compression)
        if (message) context.addIssue({ code: 'custom', message })
      })
      .default('lz4')
      .meta({
        title: 'Compression',
        description:
          'Of the log on disk; may be changed at any time. gzip is smaller and slower than lz4; zstd is the smallest, and needs Node.js 22.15 or newer; snappy is near lz4.',
      }),
    retention: z
      .strictObject({
        hours: z.number().positive().max(1_000_000).default(168).meta({
          title: 'Hours',
          description: 'How long changes stay in the log. What a sink has not read stays longer.',
        }),
        bytes: sizeSchema.optional().meta({
          title: 'Size',
          description:
            'While the log is larger, as 500MB, 10GB or 2GiB, what every sink has read goes before its time. Default: only at `limits.log_bytes`.',
        }),
      })
      .prefault({})
      .meta({ title: 'Retention', description: 'When the log lets go of changes.' }),
  })
  .prefault({})
  .meta({ title: 'Log', description: 'The log between source and sinks.' })

const errors = z
  .strictObject({
    retry: z
      .strictObject({
        max_attempts: z.int().min(1).default(10).meta({
          title: 'Attempts',
          description: 'After so many failures in a row a task is shown as failing. It goes on trying.',
        }),
        backoff_ms: z.int().min(1).default(200).meta({
          title: 'First wait',
          description: 'Before the second attempt; each further wait is up to twice as long.',
        }),
        max_backoff_ms: z
          .int()
          .min(1)
          .default(30_000)
          .meta({ title: 'Longest wait', description: 'Between attempts.' }),
      })
      .prefault({})
      .meta({ title: 'Retry', description: 'When something is away, throttled or refuses us.' }),
    on_reject: z.enum(['dead_letter', 'halt']).default('dead_letter').meta({
      title: 'Rejected records',
      description:
        'A record that a sink or a transform cannot take. dead_letter: set aside in the log `<name>.dead`, the rest goes on. halt: the task stops.',
    }),
  })
  .prefault({})
  .meta({ title: 'Errors', description: 'What happens when something goes wrong.' })

const limits = z
  .strictObject({
    log_bytes: sizeSchema.prefault('50GB').meta({
      title: 'Log size',
      description:
        'The most the log may take on disk, as 500MB, 10GB or 2GiB. At the limit what every sink has read is deleted, however young it is; when that is not enough, `policy` says what happens.',
    }),
    policy: z.enum(['alert', 'detach_sink']).default('alert').meta({
      title: 'At the limit',
      description:
        'alert: nothing is dropped, the source waits until the sinks have caught up. detach_sink: the source goes on, and each sink task that has not read the oldest part of the log is let go for good; `status` shows it as detached, and it needs a new snapshot.',
    }),
  })
  .prefault({})
  .meta({ title: 'Limits', description: 'How much disk the pipeline may take.' })

export function pipelineSchema({ sources, sinks }: Registry) {
  return z
    .strictObject({
      name: z
        .string()
        .regex(
          /^[a-z][a-z0-9-]{0,39}$/,
          'must be of a-z, 0-9 and -, begin with a letter, and be at most 40 long',
        )
        .meta({
          title: 'Name',
          description:
            'Of the pipeline: topics are `<name>.<schema>.<table>`; slot, publication and messages in PostgreSQL `millrace_<name>`.',
        }),
      description: z.string().default('').meta({ title: 'Description', description: 'For people.' }),
      source: byType(sources, {
        transforms: stepsSchema.meta({
          title: 'Transforms before the log',
          description: 'What must never touch the disk; each is one verb with its options.',
        }),
      }).meta({ title: 'Source', description: 'The database that is followed.' }),
      log,
      transforms: stepsSchema.meta({
        title: 'Transforms',
        description: 'After the log, before each sink; each is one verb with its options.',
      }),
      sinks: z
        .array(
          byType(sinks, {
            name: sinkName,
            only,
            transforms: stepsSchema.meta({
              title: 'Transforms of this sink',
              description: 'After those of the pipeline; each is one verb with its options.',
            }),
          }),
        )
        .default([])
        .meta({
          title: 'Sinks',
          description: 'Where changes go. May be empty: then the topics are the result.',
        }),
      errors,
      limits,
    })
    .meta({ title: 'Pipeline', description: 'A pipeline of Millrace.' })
}

export type PipelineYaml = z.output<ReturnType<typeof pipelineSchema>>
