/**
 * Topics that people write themselves: rows come over HTTP and the command line, and go into the log by the hub that is asked. Nothing
 * is read here.
 */
import { defineSource, type SourcePlan } from '../../core/connector.ts'
import { ConnectorError } from '../../core/errors.ts'
import type { DeclaredRows } from '../../core/format/declared.ts'
import { config, type TopicConfig } from './config.ts'
import { writtenTopic } from './rows.ts'
import { columnsOf, declaredRows, tableNameOf } from './schema.ts'

export const produce = defineSource({
  name: 'produce',
  summary: 'Takes rows that people bring, over HTTP and with `millrace produce`.',
  config,
  examples: [
    {
      title: 'A topic of JSON rows; two columns have types, the others are as they come',
      config: {
        topics: [{ table: 'shop.orders', key: ['id'], columns: { id: 'int8', total: 'numeric' } }],
      },
    },
    {
      title: 'Rows as schemas declare them',
      config: {
        topics: [
          { table: 'shop.orders', key: ['id'], format: 'avro', schema_file: 'orders.avsc' },
          {
            table: 'shop.returns',
            key: ['id'],
            format: 'protobuf',
            schema_file: 'returns.proto',
            message: 'Return',
          },
        ],
      },
    },
  ],
  async check({ topics }) {
    for (const topic of topics) declaredRows(topic)
  },
  async plan({ topics }): Promise<SourcePlan> {
    return {
      tables: topics.map(topic => ({
        // Columns that come with the rows are not known now, named ones neither all there are.
        table: { ...tableNameOf(topic), key: topic.key, columns: columnsOf(declaredRows(topic)) },
        rows: null,
      })),
      upstream: [],
    }
  },
  topics: ({ topics }) => topics.map(topic => writtenTopic(topic, once(topic))),
  async open() {
    throw new ConnectorError('bug', 'nothing is read from a source of type produce: it is written')
  },
})

/** The schema is read at the first record, and then kept. */
function once(topic: TopicConfig): () => DeclaredRows | null {
  let rows: DeclaredRows | null | undefined
  return () => {
    if (rows === undefined) rows = declaredRows(topic)
    return rows
  }
}
