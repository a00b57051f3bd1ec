/**
 * Elasticsearch's official clients as a `SearchClient`: the one of version 8 for servers of version 8, the one of version 9 for those
 * from 9 on, since neither speaks with all. The only importer of both.
 */
import { request as plain } from 'node:http'
import { request as secure } from 'node:https'
import type { Client } from '@elastic/elasticsearch'
import { ConnectorError } from '../../core/errors.ts'
import { callError, type SearchAnswer, type SearchClient, type SearchRequest } from '../search/client.ts'
import {
  type ConnectionConfig,
  connectionError,
  type Endpoint,
  endpointOf,
  targetText,
} from '../search/connection.ts'

export interface ElasticsearchConnection extends ConnectionConfig {
  readonly api_key?: string | undefined
}

type Constructor = typeof Client

const CONNECT_MS = 10_000

/** Throws `unavailable`, `auth`, or `config` when it is no Elasticsearch of version 8 or newer. */
export async function connectElasticsearch(config: ElasticsearchConnection): Promise<SearchClient> {
  const { version } = await rootOf(config)
  const number = version?.number ?? ''
  const major = Number(number.split('.')[0])
  if (version?.distribution !== undefined || !(major >= 8))
    throw new ConnectorError(
      'config',
      `${targetText(config)} is ${version?.distribution ?? 'Elasticsearch'} ${number}, and no Elasticsearch 8 or newer`,
      { hint: 'If it is OpenSearch: type: opensearch.' },
    )
  // Each is loaded when it is needed: they are large.
  const { Client: Fitting } =
    major >= 9 ? await import('@elastic/elasticsearch') : await import('elasticsearch-8')
  return open(Fitting as unknown as Constructor, config, number)
}

interface Root {
  readonly version?: { readonly number?: string; readonly distribution?: string }
}

/** `GET /` of the first node that answers, by neither client: which of them fits is what it is asked for. */
async function rootOf(config: ElasticsearchConnection): Promise<Root> {
  const { nodes, auth, ca } = endpointOf(config)
  const target = targetText(config)
  let failure: unknown
  for (const node of nodes)
    try {
      const { status, body } = await get(new URL(node), headersOf(config, auth), ca)
      if (status < 300) return body as Root
      throw callError({ product: 'elasticsearch', target }, 'connecting', status, body)
    } catch (error) {
      if (error instanceof ConnectorError) throw error
      failure = error
    }
  throw connectionError('elasticsearch', target, failure)
}

const headersOf = ({ api_key: key }: ElasticsearchConnection, auth: Endpoint['auth']) =>
  key !== undefined
    ? { authorization: `ApiKey ${key}` }
    : auth
      ? { authorization: `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}` }
      : {}

function get(url: URL, headers: Record<string, string>, ca: string | null): Promise<SearchAnswer> {
  const options = { headers, agent: false, timeout: CONNECT_MS, ...(ca === null ? {} : { ca }) } as const
  return new Promise((resolve, reject) => {
    const asking = (url.protocol === 'https:' ? secure : plain)(url, options, response => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', part => {
        text += part
      })
      response.on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: parsed(text) }))
    })
    asking.on('timeout', () => asking.destroy(new Error(`no answer within ${CONNECT_MS} ms`)))
    asking.on('error', reject)
    asking.end()
  })
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}

function open(Client: Constructor, config: ElasticsearchConnection, version: string): SearchClient {
  const { nodes, auth, ca } = endpointOf(config)
  const target = targetText(config)
  const client = new Client({
    nodes: [...nodes],
    ...(config.api_key !== undefined ? { auth: { apiKey: config.api_key } } : auth ? { auth } : {}),
    ...(ca === null ? {} : { tls: { ca } }),
    compression: config.compress,
    maxRetries: 0,
    name: 'millrace',
  })
  return {
    product: 'elasticsearch',
    version,
    target,
    request: request => send(client, target, request),
    [Symbol.asyncDispose]: () => client.close(),
  }
}

async function send(
  client: Client,
  target: string,
  { method, path, query, body, lines, timeoutMs, signal, retries = 0 }: SearchRequest,
): Promise<SearchAnswer> {
  try {
    const { statusCode, body: answer } = await client.transport.request(
      {
        method,
        path,
        ...(query ? { querystring: query } : {}),
        // Bytes are sent as they are, which its types do not say.
        ...(lines ? { bulkBody: lines as never } : body === undefined ? {} : { body: body as object }),
      },
      { meta: true, maxRetries: retries, requestTimeout: timeoutMs, ...(signal ? { signal } : {}) },
    )
    return { status: statusCode ?? 0, body: answer ?? null }
  } catch (thrown) {
    const { name, meta } = thrown as { name?: string; meta?: { statusCode?: number; body?: unknown } }
    if (name === 'ResponseError' && meta?.statusCode)
      return { status: meta.statusCode, body: meta.body ?? null }
    if (name === 'ProductNotSupportedError')
      throw new ConnectorError('config', `${target} is no Elasticsearch`, {
        cause: thrown,
        hint: 'If it is OpenSearch: type: opensearch.',
      })
    throw connectionError('elasticsearch', target, thrown)
  }
}
