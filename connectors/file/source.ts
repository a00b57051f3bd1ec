/** Rows of the files of a directory, and of those that come. */
import { basename, resolve } from 'node:path'
import { z } from 'zod'
import { objectSource } from '../object/object-source.ts'
import { fileReading } from './reading.ts'

export const fileSource = objectSource({
  name: 'file',
  summary: 'Reads files of JSON Lines, CSV or Parquet in a directory as rows, and those that come.',
  place: {
    directory: z.string().min(1).meta({
      title: 'Directory',
      description: 'All below it is read, but `lost+found`. It must be there.',
    }),
  },
  examples: [
    { title: 'A folder for each table', config: { directory: '/data/exports' } },
    {
      title: 'The newest of each order, from CSV',
      config: {
        directory: '/data/orders',
        pattern: '*.csv.gz',
        table: 'orders',
        key: ['id'],
        columns: { id: 'int8', total: 'numeric', placed_at: 'timestamptz' },
        order: 'modified',
      },
    },
  ],
  open: ({ directory }) => fileReading(directory),
  holderOf: ({ directory }) => basename(resolve(directory)) || 'files',
})
