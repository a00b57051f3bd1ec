/**
 * Whether a request is signed as AWS asks for (Signature Version 4): computed anew from the key, by Amazon's description of the
 * canonical request ("Create a signed AWS API request", IAM User Guide).
 */
import { createHash, createHmac } from 'node:crypto'
import type { Seen } from '../servers/search-faults.ts'

export interface AwsKey {
  readonly id: string
  readonly secret: string
  readonly region: string
  readonly service: string
}

const sha = (data: Buffer | string): string => createHash('sha256').update(data).digest('hex')
const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text).digest()
/** Each of a path's parts is encoded once more than it stands in the request. */
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, char => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)

/** Why the signature is wrong; null: it is right. */
export function badSignature({ method, path, headers, body }: Seen, key: AwsKey): string | null {
  const parts =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
      String(headers.authorization ?? ''),
    )
  if (!parts) return `no signature: ${String(headers.authorization)}`
  const [, id, day, region, service, names, signature] = parts
  if (id !== key.id || region !== key.region || service !== key.service)
    return `signed by ${id} for ${region}/${service}`
  const signed = names!.split(';')
  for (const needed of ['host', 'x-amz-date']) if (!signed.includes(needed)) return `${needed} is not signed`
  const url = new URL(path, 'http://host')
  const query = [...url.searchParams].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort()
  const canonical = [
    method,
    url.pathname.split('/').map(encode).join('/'),
    query.join('&'),
    ...signed.map(
      name =>
        `${name}:${String(headers[name] ?? '')
          .trim()
          .replace(/\s+/g, ' ')}`,
    ),
    '',
    names,
    sha(body),
  ].join('\n')
  const scope = `${day}/${region}/${service}/aws4_request`
  const text = ['AWS4-HMAC-SHA256', String(headers['x-amz-date']), scope, sha(canonical)].join('\n')
  const signing = [day!, region!, service!, 'aws4_request'].reduce<Buffer | string>(hmac, `AWS4${key.secret}`)
  const expected = hmac(signing, text).toString('hex')
  return expected === signature ? null : `the signature does not match:\n${canonical}`
}
