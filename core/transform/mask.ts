/**
 * `mask`: puts a text, null or a SHA-256 in the place of values; NULL stays NULL. Under `source.transforms` the values never
 * touch the disk. A SHA-256 lets equal values be told equal, and values of a small set be guessed: it is no encryption.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { plain, quote } from '../row.ts'
import { columnStep } from './columns.ts'
import { fieldList, fieldOf } from './fields.ts'
import { defineTransform } from './verb.ts'

const sha256 = (raw: string): string => quote(createHash('sha256').update(plain(raw)).digest('hex'))

/** Raw JSON text in, raw JSON text out. */
function maskOf(text: string | null): (raw: string) => string {
  if (text === 'sha256') return raw => (raw === 'null' ? raw : sha256(raw))
  if (text === null) return () => 'null'
  const masked = quote(text)
  return raw => (raw === 'null' ? raw : masked)
}

export const mask = defineTransform({
  name: 'mask',
  summary: 'Puts a text, null or a hash in the place of values.',
  schema: z.strictObject({
    fields: fieldList.meta({
      title: 'Fields',
      description:
        'Columns to mask, as `column`, `table.column` or `schema.table.column`; `*` stands for any characters.',
    }),
    with: z.union([z.string(), z.null()]).default('***').meta({
      title: 'With',
      description:
        'A text; null; or sha256: the hexadecimal SHA-256 of the value as text (equal values stay equal, and can be guessed where there are few). NULL stays NULL.',
    }),
  }),
  examples: [
    {
      title: 'A text',
      options: { fields: ['email'], with: '***' },
      before: '{"id":1,"email":"ada@example.com"}',
      after: '{"id":1,"email":"***"}',
    },
    {
      title: 'A hash, to count or join by',
      options: { fields: ['shop.customers.email'], with: 'sha256' },
      before: '{"id":1,"email":"ada@example.com"}',
      after: '{"id":1,"email":"b5fc85e55755f9e0d030a10ab4429b6b2944855f9a0d60077fe832becbc41d72"}',
    },
    {
      title: 'Nothing',
      options: { fields: ['customers.*_phone'], with: null },
      before: '{"id":1,"work_phone":"+49 30 1234"}',
      after: '{"id":1,"work_phone":null}',
    },
  ],
  make: options =>
    columnStep({
      name: 'mask',
      fields: options.fields.map(fieldOf),
      edit: name => ({ name, type: options.with === null ? null : 'text', value: maskOf(options.with) }),
    }),
})
