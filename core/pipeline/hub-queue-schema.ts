/** `queue` of hub.yaml: tasks run in one process, or workers take them from Redis. */
import { z } from 'zod'

export const hubQueueSchema = z
  .strictObject({
    type: z.enum(['embedded', 'bullmq']).default('embedded').meta({
      title: 'Type',
      description:
        'embedded: tasks run in this process. bullmq: workers take them from Redis; needs `log.type: kafka`.',
    }),
    url: z
      .string()
      .regex(/^rediss?:\/\/\S+$/, 'must be redis://host:port or rediss://host:port')
      .optional()
      .meta({
        title: 'URL',
        description:
          'bullmq only, and then needed: `redis://user:password@host:6379/0`, `rediss://` for TLS.',
        secret: true,
      }),
    ca: z.string().min(1).optional().meta({
      title: 'Authority',
      description:
        'bullmq only. Who signed the certificate of Redis. A PEM file; the path is from the current directory.',
    }),
    sentinel: z
      .strictObject({
        nodes: z
          .array(z.string().regex(/^[^\s:/]+:\d{1,5}$/, 'must be host:port'))
          .min(1)
          .meta({ title: 'Nodes', description: 'host:port of some sentinels.' }),
        name: z.string().min(1).meta({ title: 'Name', description: 'What the sentinels call the master.' }),
      })
      .optional()
      .meta({
        title: 'Sentinel',
        description: 'bullmq only. Who knows the master; user, password and database are those of `url`.',
      }),
    lock_ms: z.int().min(1_000).max(600_000).default(5_000).meta({
      title: 'Lock',
      description: 'bullmq only. A worker that says nothing for so long loses its tasks.',
    }),
  })
  .superRefine((queue, context) => {
    if (queue.type === 'bullmq' && !queue.url)
      context.addIssue({ code: 'custom', path: ['url'], message: 'is needed' })
  })
  .prefault({})
  .meta({ title: 'Queue', description: 'Who runs which task.' })

export type HubQueue = z.output<typeof hubQueueSchema>
