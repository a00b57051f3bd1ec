/** Rows of the objects in a bucket of S3, or of any store that speaks like it, and of those that come. */
import { objectSource } from '../object/object-source.ts'
import { sourcePlace } from './config.ts'
import { s3Reading } from './reading.ts'
import { refuseHalfKeys } from './store.ts'

export const s3Source = objectSource({
  name: 's3',
  summary: 'Reads objects of JSON Lines, CSV or Parquet in a bucket of S3 as rows, and those that come.',
  place: sourcePlace,
  examples: [
    {
      title: 'A folder for each table, by the role of the machine',
      config: { bucket: 'lake', prefix: 'exports' },
    },
    {
      title: 'Parquet of MinIO, as it comes',
      config: {
        bucket: 'lake',
        prefix: 'orders',
        endpoint: 'http://localhost:9000',
        access_key_id: 'minio',
        secret_access_key: '${env:S3_SECRET}',
        format: 'parquet',
        table: 'orders',
        key: ['id'],
        order: 'modified',
      },
    },
  ],
  open(config, signal) {
    refuseHalfKeys(config)
    return s3Reading(config, signal)
  },
  holderOf: ({ bucket, prefix }) => prefix.split('/').at(-1) || bucket,
})
