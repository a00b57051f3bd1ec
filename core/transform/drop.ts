/** `drop`: leaves columns out. Not for columns of the key; to leave out whole tables name fewer in `source.tables` or `only`. */
import { z } from 'zod'
import { columnStep } from './columns.ts'
import { fieldList, fieldOf } from './fields.ts'
import { defineTransform } from './verb.ts'

export const drop = defineTransform({
  name: 'drop',
  summary: 'Leaves columns out.',
  schema: z.strictObject({
    fields: fieldList.meta({
      title: 'Fields',
      description:
        'Columns to leave out, as `column`, `table.column` or `schema.table.column`; `*` stands for any characters.',
    }),
  }),
  examples: [
    {
      title: 'What nobody searches for',
      options: { fields: ['cost', '*_internal'] },
      before: '{"id":1,"name":"Lamp","cost":"7.50","note_internal":"x"}',
      after: '{"id":1,"name":"Lamp"}',
    },
  ],
  make: options => columnStep({ name: 'drop', fields: options.fields.map(fieldOf), edit: () => null }),
})
