/** `rename`: gives columns other names. Values stay. Not for columns of the key. */
import { z } from 'zod'
import { columnStep } from './columns.ts'
import { badField, fieldOf, isManyColumns } from './fields.ts'
import { defineTransform } from './verb.ts'

const isTwiceQualified = (from: string, to: string): boolean => {
  const prefix = from.slice(0, from.lastIndexOf('.') + 1)
  return prefix !== '' && to.startsWith(prefix)
}

const schema = z.strictObject({
  fields: z
    .record(z.string(), z.string().min(1))
    .superRefine((fields, context) => {
      if (Object.keys(fields).length === 0)
        context.addIssue({ code: 'custom', message: 'must name at least one column' })
      for (const [from, to] of Object.entries(fields)) {
        const complain = (message: string) =>
          context.addIssue({ code: 'custom', path: [from], input: to, message })
        const bad = badField(from)
        if (bad) complain(`the column to rename, "${from}", ${bad}`)
        else if (isManyColumns(from))
          complain(`"${from}" can stand for several columns, which would all get one name`)
        else if (isTwiceQualified(from, to))
          complain(`must be the new column's name alone: "${to.slice(to.lastIndexOf('.') + 1)}"`)
      }
    })
    .meta({
      title: 'Fields',
      description:
        'Old name: new name. The old one is `column`, `table.column` or `schema.table.column`; in table and schema `*` stands for any characters.',
    }),
})

export const rename = defineTransform({
  name: 'rename',
  summary: 'Gives columns other names.',
  schema,
  examples: [
    {
      title: 'A column of every table',
      options: { fields: { descr: 'description' } },
      before: '{"id":1,"descr":"Lamp"}',
      after: '{"id":1,"description":"Lamp"}',
    },
    {
      title: 'Of one table',
      options: { fields: { 'shop.products.descr': 'description' } },
      before: '{"id":1,"descr":"Lamp"}',
      after: '{"id":1,"description":"Lamp"}',
    },
  ],
  make({ fields }) {
    const names = Object.values(fields)
    return columnStep({
      name: 'rename',
      fields: Object.keys(fields).map(fieldOf),
      edit: (_, field) => ({ name: names[field]!, type: null, value: null }),
    })
  },
})
