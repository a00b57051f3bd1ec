/**
 * What the writer needs of a cluster: HTTP requests to it. Elasticsearch's and OpenSearch's official clients are brought to this
 * shape in their own folders; nothing else here knows them.
 */
import { ConnectorError } from '../../core/errors.ts'

export interface SearchRequest {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  /** Encoded, with its leading slash. */
  readonly path: string
  readonly query?: Readonly<Record<string, string | number | boolean>>
  readonly body?: unknown
  /** Of a bulk, instead of `body`: JSON texts, one a line, in UTF-8. */
  readonly lines?: Buffer
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  /** Nodes that may be tried after one that does not answer; default: none. Only for what may be done twice. */
  readonly retries?: number
}

export interface SearchAnswer {
  readonly status: number
  /** Parsed; null when it was empty, text when it was no JSON. */
  readonly body: unknown
}

export interface SearchClient extends AsyncDisposable {
  readonly product: 'elasticsearch' | 'opensearch'
  /** "9.5.3". */
  readonly version: string
  /** Where it connects to, without user or password, for messages. */
  readonly target: string
  /** Whatever the status. Throws `unavailable` when no answer came: nobody knows then what was done. */
  request(request: SearchRequest): Promise<SearchAnswer>
}

/** Enough for whatever is no bulk. */
export const CALL_MS = 10_000
/** All of those may be done twice. */
export const CALL_RETRIES = 2

/** What a cluster says of an error, in a request or in an item of a bulk. */
export interface Told {
  readonly type: string
  readonly reason: string
}

/** `{"error":{"type":…,"reason":…,"caused_by":{…}}}`; old or foreign answers have only text. */
export function toldBy(body: unknown): Told {
  const error = (body as { error?: unknown } | null)?.error ?? body
  if (typeof error !== 'object' || error === null)
    return { type: '', reason: String(error ?? '').slice(0, 300) }
  const { type, reason, caused_by: cause } = error as { type?: string; reason?: string; caused_by?: unknown }
  const deeper = cause ? toldBy({ error: cause }) : null
  // The outermost reason names the field, the innermost what was wrong with it.
  const reasons = [reason ?? '', deeper?.reason ?? ''].filter(text => text !== '')
  return { type: type ?? deeper?.type ?? '', reason: [...new Set(reasons)].join(': ') }
}

/** The body of a call that must succeed (404 answers null where `isOptional`). Throws as `callError` says. */
export async function call<T>(
  client: SearchClient,
  what: string,
  request: Omit<SearchRequest, 'timeoutMs'> & { readonly timeoutMs?: number },
  isOptional = false,
): Promise<T | null> {
  const { status, body } = await client.request({ timeoutMs: CALL_MS, retries: CALL_RETRIES, ...request })
  if (status < 300) return body as T
  if (status === 404 && isOptional) return null
  throw callError(client, what, status, body)
}

/** A refused call as our kinds of error. */
export function callError(
  { target, product }: Pick<SearchClient, 'target' | 'product'>,
  what: string,
  status: number,
  body: unknown,
): ConnectorError {
  const { type, reason } = toldBy(body)
  const message = `${product} ${target}: ${what}: ${status}${type === '' ? '' : ` ${type}`}${reason === '' ? '' : `: ${reason}`}`
  if (isBlocked(type, reason))
    return new ConnectorError('unavailable', message, {
      hint: 'The cluster lets nobody write: most likely a disk is above its high or flood-stage watermark. Make room; writing goes on by itself.',
    })
  if (status === 401)
    return new ConnectorError('auth', message, { hint: 'Check username and password, or api_key.' })
  if (status === 403)
    return new ConnectorError('auth', message, {
      hint: 'The user lacks a right: Millrace needs `monitor` on the cluster, and `create_index`, `manage`, `read` and `write` on its indexes.',
    })
  if (status === 429) return new ConnectorError('throttled', message)
  if (status >= 500 || status === 408) return new ConnectorError('unavailable', message)
  return new ConnectorError('config', message)
}

/**
 * index.blocks.read_only, read_only_allow_delete, write; cluster.blocks.*; a cluster without a master; and OpenSearch's
 * cluster.blocks.create_index, which it sets by itself while every node's disk is above the high watermark.
 */
export const isBlocked = (type: string, reason: string): boolean =>
  /^(cluster|index_create)_block_exception$/.test(type) || /FORBIDDEN\/(5|6|8|10|12|13)\//.test(reason)
