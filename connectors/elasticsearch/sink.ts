/** Rows as documents of Elasticsearch 8 and newer. What it shares with OpenSearch stands in connectors/search/. */
import { z } from 'zod'
import { connection, targetText } from '../search/connection.ts'
import { searchSink } from '../search/search-sink.ts'
import { connectElasticsearch } from './client.ts'

export const elasticsearch = searchSink({
  name: 'elasticsearch',
  summary:
    'Keeps rows as documents in indexes of Elasticsearch 8 and 9, with mappings from the columns’ types.',
  connection: {
    ...connection,
    api_key: z.string().min(1).optional().meta({
      title: 'API key',
      description:
        'Base64 of id and key, as Elasticsearch hands it out (`encoded`); instead of user and password.',
      secret: true,
    }),
  },
  examples: [
    { title: 'One index for each table', config: { url: '${env:ELASTICSEARCH_URL}' } },
    {
      title: 'A cluster with a key, its own mapping and settings',
      config: {
        url: ['https://es1.example.com:9200', 'https://es2.example.com:9200'],
        api_key: '${env:ELASTICSEARCH_API_KEY}',
        ca: '/etc/ssl/es-ca.pem',
        index: 'shop-${table}',
        mapping: { fields: { 'products.description': { type: 'text', analyzer: 'english' } } },
        settings: { number_of_shards: 3, refresh_interval: '5s' },
      },
    },
  ],
  connect: connectElasticsearch,
  targetOf: targetText,
})
