/** Changes as objects in S3, or in any store that speaks like it, exactly once. Needs conditional writes (If-None-Match). */
import { HeadBucketCommand } from '@aws-sdk/client-s3'
import { ConnectorError } from '../../core/errors.ts'
import { objectSink } from '../object/object-sink.ts'
import { nameOf, place } from './config.ts'
import { s3Error, statusOf } from './error.ts'
import { connect, refuseHalfKeys, s3Store } from './store.ts'

export const s3 = objectSink({
  name: 's3',
  summary: 'Writes changes as files of JSON Lines, CSV, Avro or Parquet into a bucket of S3, exactly once.',
  place,
  examples: [
    {
      title: 'JSON Lines, gzipped, by the role of the machine',
      config: { bucket: 'lake', compression: 'gzip' },
    },
    {
      title: 'Parquet by day of the change, into MinIO',
      config: {
        bucket: 'lake',
        prefix: 'shop',
        endpoint: 'http://localhost:9000',
        access_key_id: 'minio',
        secret_access_key: '${env:S3_SECRET}',
        format: 'parquet',
        partition: { by: 'time', pattern: 'day=YYYY-MM-DD', zone: 'Europe/Berlin' },
      },
    },
  ],
  async open(config, _, signal) {
    refuseHalfKeys(config)
    return s3Store(connect(config), config, signal)
  },
  nameOf: config => (config.endpoint === undefined ? nameOf(config) : `${config.endpoint} ${nameOf(config)}`),
  async check(_, config) {
    const client = connect(config)
    try {
      await client.send(new HeadBucketCommand({ Bucket: config.bucket }))
    } catch (error) {
      if (statusOf(error) === 404)
        throw new ConnectorError('config', `there is no bucket ${config.bucket}`, {
          hint: `Make it: aws s3 mb s3://${config.bucket}`,
          cause: error,
        })
      throw s3Error(error, `looking at the bucket ${config.bucket}`)
    } finally {
      client.destroy()
    }
  },
  describe: ({ storage_class, encryption, tags }) => ({
    ...(storage_class === undefined ? {} : { storage_class }),
    ...(encryption === undefined ? {} : { encryption }),
    ...(Object.keys(tags).length === 0 ? {} : { tags }),
  }),
})
