/** OpenSearch's official client as a `SearchClient`. Its only importer. */
import type { Client } from '@opensearch-project/opensearch'
import { ConnectorError } from '../../core/errors.ts'
import { callError, type SearchAnswer, type SearchClient, type SearchRequest } from '../search/client.ts'
import { type ConnectionConfig, connectionError, endpointOf, targetText } from '../search/connection.ts'

export interface AwsConfig {
  readonly region: string
  readonly service: 'es' | 'aoss'
  readonly access_key_id: string
  readonly secret_access_key: string
  readonly session_token?: string | undefined
}

export interface OpensearchConnection extends ConnectionConfig {
  readonly aws?: AwsConfig | undefined
}

const CONNECT_MS = 10_000

/** Throws `unavailable`, `auth`, or `config` when it is no OpenSearch. */
export async function connectOpensearch(config: OpensearchConnection): Promise<SearchClient> {
  const { Client } = await import('@opensearch-project/opensearch')
  const { nodes, auth, ca } = endpointOf(config)
  const target = targetText(config)
  const client = new Client({
    nodes: [...nodes],
    ...(config.aws ? await signing(config.aws) : auth ? { auth } : {}),
    ...(ca === null ? {} : { ssl: { ca } }),
    ...(config.compress ? { compression: 'gzip' as const } : {}),
    maxRetries: 0,
    name: 'millrace',
  })
  const found: SearchClient = {
    product: 'opensearch',
    version: 'unknown',
    target,
    request: request => send(client, target, request),
    [Symbol.asyncDispose]: () => client.close(),
  }
  return { ...found, version: await versionOf(found, nodes.length, config.aws?.service === 'aoss') }
}

/** Requests signed for AWS (Signature Version 4). */
async function signing({ region, service, access_key_id, secret_access_key, session_token }: AwsConfig) {
  const { AwsSigv4Signer } = await import('@opensearch-project/opensearch/aws-v3')
  return AwsSigv4Signer({
    region,
    service,
    getCredentials: async () => ({
      accessKeyId: access_key_id,
      secretAccessKey: secret_access_key,
      ...(session_token === undefined ? {} : { sessionToken: session_token }),
    }),
  })
}

/** The serverless kind does not say what it is. */
async function versionOf(client: SearchClient, nodes: number, isServerless: boolean): Promise<string> {
  try {
    if (isServerless) return 'serverless'
    const { status, body } = await client.request({
      method: 'GET',
      path: '/',
      timeoutMs: CONNECT_MS,
      retries: nodes - 1,
    })
    if (status >= 300) throw callError(client, 'connecting', status, body)
    const { version } = body as { version?: { number?: string; distribution?: string } }
    if (version?.distribution === 'opensearch') return version.number ?? 'unknown'
    throw new ConnectorError('config', `${client.target} is no OpenSearch`, {
      hint: 'If it is Elasticsearch: type: elasticsearch.',
    })
  } catch (error) {
    await client[Symbol.asyncDispose]()
    throw error
  }
}

async function send(
  client: Client,
  target: string,
  { method, path, query, body, lines, timeoutMs, signal, retries = 0 }: SearchRequest,
): Promise<SearchAnswer> {
  const answering = client.transport.request(
    {
      method,
      path,
      ...(query ? { querystring: query } : {}),
      ...(lines ? { bulkBody: lines } : body === undefined ? {} : { body: body as object }),
    } as never,
    { maxRetries: retries, requestTimeout: timeoutMs },
  )
  const onStop = () => answering.abort()
  signal?.addEventListener('abort', onStop, { once: true })
  if (signal?.aborted) onStop()
  try {
    const { statusCode, body: answer } = await answering
    return { status: statusCode ?? 0, body: answer ?? null }
  } catch (thrown) {
    const { name, meta } = thrown as { name?: string; meta?: { statusCode?: number; body?: unknown } }
    if (name === 'ResponseError' && meta?.statusCode)
      return { status: meta.statusCode, body: meta.body ?? null }
    throw connectionError('opensearch', target, thrown)
  } finally {
    signal?.removeEventListener('abort', onStop)
  }
}
