/** Changes as files of a directory, exactly once. */
import { z } from 'zod'
import { objectSink } from '../object/object-sink.ts'
import { fileStore } from './store.ts'

export const file = objectSink({
  name: 'file',
  summary: 'Writes changes as files of JSON Lines, CSV, Avro or Parquet into a directory, exactly once.',
  place: {
    directory: z.string().min(1).meta({
      title: 'Directory',
      description: 'Made when missing. Its file system must have hard links.',
    }),
  },
  examples: [
    { title: 'JSON Lines, a folder for each topic', config: { directory: '.millrace/files' } },
    {
      title: 'Parquet in folders by country, a file a minute',
      config: {
        directory: '.millrace/lake',
        format: 'parquet',
        partition: { by: 'field', fields: ['country'] },
        rotate: { open_ms: 60_000 },
      },
    },
  ],
  open: ({ directory }, task) => fileStore(directory, task),
  nameOf: ({ directory }) => directory,
  async check() {},
  describe: () => ({}),
})
