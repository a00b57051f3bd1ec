import { afterAll, beforeAll, describe } from 'vitest'
import { s3 } from '../../../connectors/s3/sink.ts'
import { definitionConformance } from '../../conform/definition.ts'
import { appendingSinkConformance } from '../../conform/sink.ts'
import { missingForS3, type S3Server, startS3 } from '../../servers/s3.ts'
import { objectCases } from '../object/cases.ts'
import { kitTarget } from '../object/objects.ts'
import { bucketTarget } from './bucket.ts'

definitionConformance(s3)

const missing = missingForS3()
describe.skipIf(missing !== null)(missing ?? 'on a real server', () => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3()
  }, 180_000)
  afterAll(() => server?.[Symbol.asyncDispose]())

  appendingSinkConformance({
    name: 's3',
    target: async () => kitTarget(bucketTarget(server)),
    bad: good => ({ ...good, after: '{"id":5,"name":' }),
  })

  describe('s3: objects', () => objectCases(() => bucketTarget(server)))
})
