/** Rows as documents of OpenSearch. What it shares with Elasticsearch stands in connectors/search/. */
import { z } from 'zod'
import { connection, targetText } from '../search/connection.ts'
import { searchSink } from '../search/search-sink.ts'
import { connectOpensearch } from './client.ts'

const aws = z
  .strictObject({
    region: z.string().min(1).meta({ title: 'Region', description: 'As eu-central-1.' }),
    service: z.enum(['es', 'aoss']).default('es').meta({
      title: 'Service',
      description: 'es: OpenSearch Service. aoss: its serverless kind.',
    }),
    access_key_id: z.string().min(1).meta({ title: 'Key id', description: 'As ${env:AWS_ACCESS_KEY_ID}.' }),
    secret_access_key: z.string().min(1).meta({
      title: 'Key',
      description: 'As ${env:AWS_SECRET_ACCESS_KEY}.',
      secret: true,
    }),
    session_token: z.string().min(1).optional().meta({
      title: 'Session token',
      description: 'Of temporary credentials.',
      secret: true,
    }),
  })
  .optional()
  .meta({
    title: 'AWS',
    description: 'Requests are signed (Signature Version 4), instead of user and password.',
  })

export const opensearch = searchSink({
  name: 'opensearch',
  summary: 'Keeps rows as documents in indexes of OpenSearch 2 and 3, with mappings from the columns’ types.',
  connection: { ...connection, aws },
  examples: [
    { title: 'One index for each table', config: { url: '${env:OPENSEARCH_URL}' } },
    {
      title: 'On AWS',
      config: {
        url: 'https://search-shop.eu-central-1.es.amazonaws.com',
        aws: {
          region: 'eu-central-1',
          access_key_id: '${env:AWS_ACCESS_KEY_ID}',
          secret_access_key: '${env:AWS_SECRET_ACCESS_KEY}',
        },
      },
    },
  ],
  connect: connectOpensearch,
  targetOf: targetText,
})
