/** What stands under `sinks:` of a pipeline with `type: postgres`. */
import { z } from 'zod'
import { sqlOptions } from '../sql/config.ts'

export const sinkConfig = z.strictObject({
  url: z.string().min(1).meta({
    title: 'URL',
    description:
      "postgres://user:password@host:port/database, with libpq's parameters sslmode (disable, allow, prefer, require, verify-ca, verify-full), sslrootcert, sslcert, sslkey, application_name, connect_timeout. The role makes tables in the schema, or may write those that are there.",
    secret: true,
  }),
  schema: z.string().min(1).default('public').meta({
    title: 'Schema',
    description:
      'Where the tables are, and `millrace_progress` with the positions of the tasks; made when missing.',
  }),
  ...sqlOptions,
})
export type SinkConfig = z.output<typeof sinkConfig>
