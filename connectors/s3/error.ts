/** What errors of an S3 store are to us. */
import { ConnectorError, Fenced } from '../../core/errors.ts'

interface Answer {
  readonly name?: string
  readonly message?: string
  readonly $metadata?: { readonly httpStatusCode?: number }
}

export const statusOf = (error: unknown): number => (error as Answer).$metadata?.httpStatusCode ?? 0

const AUTH = /AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|Credentials/
const THROTTLED = /SlowDown|Throttl|TooManyRequests|RequestLimitExceeded/

/** `what`: "writing x to s3://bucket". */
export function s3Error(error: unknown, what: string): Error {
  if (error instanceof ConnectorError || error instanceof Fenced) return error
  const { name = '', message = String(error) } = error as Answer
  const status = statusOf(error)
  const told = `${what}: ${name === 'Error' || name === '' ? '' : `${name}: `}${message}${status ? ` (${status})` : ''}`
  const as = (kind: ConnectorError['kind'], hint?: string) =>
    new ConnectorError(kind, told, { cause: error, ...(hint === undefined ? {} : { hint }) })
  if (name === 'InvalidObjectState')
    return as(
      'config',
      'The object is archived: restore it (aws s3api restore-object), or leave it out by `pattern`.',
    )
  if (AUTH.test(name) || status === 401 || status === 403)
    return as(
      'auth',
      'Check the keys or the role, and that it has s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on the bucket.',
    )
  if (name === 'NoSuchBucket') return as('config', 'Make the bucket, or mend its name.')
  if (THROTTLED.test(name) || status === 429 || status === 503) return as('throttled')
  if (status === 301 || status === 307 || /AuthorizationHeaderMalformed|PermanentRedirect/.test(name))
    return as('config', 'The bucket is in another region: set `region`.')
  if (status === 501 || name === 'NotImplemented')
    return as('config', 'The store does not know this: leave out `tags`, `storage_class` or `encryption`.')
  if (name === 'InvalidStorageClass' || /KMS/.test(name)) return as('config')
  if (status === 0 || status >= 500 || status === 408 || status === 409 || /Timeout/.test(name))
    return as('unavailable')
  return as('bug')
}
