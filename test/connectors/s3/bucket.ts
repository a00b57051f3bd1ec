/** A bucket of a real server as a place for the tests of object sinks, read by a client of its own. */
import { GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import { s3 } from '../../../connectors/s3/sink.ts'
import type { S3Server } from '../../servers/s3.ts'
import type { ObjectTarget } from '../object/objects.ts'

export const clientOf = ({ endpoint, accessKeyId, secretAccessKey }: S3Server): S3Client =>
  new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    requestHandler: { httpAgent: { keepAlive: false } },
  })

export const placeOf = (server: S3Server, bucket: string) => ({
  bucket,
  endpoint: server.endpoint,
  access_key_id: server.accessKeyId,
  secret_access_key: server.secretAccessKey,
})

/** What this server leaves of a write in whose midst it was killed, under a name of its own. */
const DIRT = /-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function bucketTarget(server: S3Server, prefix = 'lake/shop'): ObjectTarget {
  const bucket = server.bucket()
  const client = clientOf(server)
  const place = { ...placeOf(server, bucket), prefix }
  const keys = async (): Promise<string[]> => {
    const found: string[] = []
    let token: string | undefined
    do {
      const page = await client.send(
        new ListObjectsV2Command({ Bucket: bucket, ...(token ? { ContinuationToken: token } : {}) }),
      )
      for (const { Key } of page.Contents ?? []) found.push(Key!)
      token = page.NextContinuationToken
    } while (token)
    return found.map(key => {
      if (prefix !== '' && !key.startsWith(`${prefix}/`)) throw new Error(`${key} is outside of the prefix`)
      return prefix === '' ? key : key.slice(prefix.length + 1)
    })
  }
  return {
    sink: s3,
    place,
    open: (options, context) => s3.open(s3.config.parse({ ...place, ...options }) as never, context),
    async objects() {
      const objects = new Map<string, Buffer>()
      for (const name of (await keys()).filter(one => !one.startsWith('_millrace/') && !DIRT.test(one))) {
        const Key = prefix === '' ? name : `${prefix}/${name}`
        const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }))
        objects.set(name, Buffer.from(await Body!.transformToByteArray()))
      }
      return objects
    },
    manifests: async () => (await keys()).filter(one => one.startsWith('_millrace/') && !DIRT.test(one)),
    async [Symbol.asyncDispose]() {
      client.destroy()
    },
  }
}
