/** Options that sinks of SQL databases share, and what stands beside a row's own columns. */
import { z } from 'zod'
import { badTableTemplate } from '../../core/format/template.ts'

/** Columns of ours. Their names are fixed, so that anybody's query finds them in every table. */
export const OURS = {
  version: 'millrace_version',
  origin: 'millrace_origin',
  op: 'millrace_op',
  committed: 'millrace_committed_at',
} as const

export const PROGRESS = 'millrace_progress'

export const sqlOptions = {
  mode: z.enum(['upsert', 'append']).default('upsert').meta({
    title: 'Mode',
    description:
      'upsert: the table holds the rows as they are, each with `millrace_version` and `millrace_origin`; older never replaces newer. append: each change is a row of its own, with `millrace_op` (c, u, d, r, sweep), `millrace_version`, `millrace_origin` and `millrace_committed_at`; a delete holds the columns that are known of it.',
  }),
  table: z
    .string()
    .min(1)
    .superRefine((text, context) => {
      const message = badTableTemplate(text)
      if (message !== null) context.addIssue({ code: 'custom', message })
    })
    .default('${table}')
    .meta({
      title: 'Table',
      description: 'Where rows go; `${table}`, `${schema}` and `${topic}` are filled per record.',
    }),
} as const

export type Mode = 'upsert' | 'append'
export interface SqlOptions {
  readonly mode: Mode
  readonly table: string
}
