/**
 * Stands before a real cluster and spoils what a script says: answers 429, 503, 413 and the like as real clusters answered them
 * (test/golden/search/), no answer at all, half of one, cut connections; before the cluster has seen the request or after. Also looks
 * at the credentials of each request. Everything else passes unaltered.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

export type Fault =
  /** Not passed on: the client gets this. */
  | { readonly kind: 'answer'; readonly status: number; readonly body: unknown }
  /** Not passed on, and never answered. */
  | { readonly kind: 'silence' }
  /** Passed on and carried out, and never answered. */
  | { readonly kind: 'lost' }
  /** Passed on and carried out; the answer ends in its middle, with its connection. */
  | { readonly kind: 'half' }
  /** Passed on and carried out; some items of the answer are missing. */
  | { readonly kind: 'fewer' }
  /** Passed on when this resolves. */
  | { readonly kind: 'held'; readonly until: Promise<void> }
  /** The connection ends without a word, before anything was passed on. */
  | { readonly kind: 'cut' }
  /** Of a bulk's items this share is not passed on, and answered with this. */
  | { readonly kind: 'items'; readonly share: number; readonly item: unknown; readonly status: number }

export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

export interface FaultyCluster extends AsyncDisposable {
  readonly url: string
  readonly seen: readonly Seen[]
  /** What becomes of the n-th bulk, from 0; null: it passes. */
  script: (n: number, seen: Seen) => Fault | null
  /** Why a request is refused with 401; null: it may pass. */
  refuse: (seen: Seen) => string | null
  /** Requests that the user lacks the right to: 403. */
  forbid: (seen: Seen) => boolean
}

export async function faultyCluster(behind: string): Promise<FaultyCluster> {
  const sockets = new Set<Socket>()
  const seen: Seen[] = []
  let bulks = 0
  const server: Server = createServer((incoming, outgoing) => {
    const parts: Buffer[] = []
    incoming.on('data', part => parts.push(part as Buffer))
    incoming.on('end', () => {
      const one: Seen = {
        method: incoming.method!,
        path: incoming.url!,
        headers: incoming.headers,
        body: Buffer.concat(parts),
      }
      seen.push(one)
      const reason = cluster.refuse(one)
      const fault = /\/_bulk/.test(one.path) ? cluster.script(bulks++, one) : null
      if (cluster.forbid(one))
        answer(outgoing, 403, {
          error: { type: 'security_exception', reason: 'action is unauthorized' },
          status: 403,
        })
      else if (reason === null) act(fault, one, behind, outgoing)
      else answer(outgoing, 401, { error: { type: 'security_exception', reason }, status: 401 })
    })
  })
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const cluster: FaultyCluster = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    script: () => null,
    refuse: () => null,
    forbid: () => false,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
  return cluster
}

/** The header by which Elasticsearch's clients know it. */
function answer(outgoing: ServerResponse, status: number, body: unknown): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  outgoing.writeHead(status, { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' })
  outgoing.end(text)
}

function act(fault: Fault | null, seen: Seen, behind: string, outgoing: ServerResponse): void {
  const through = (status: number, headers: IncomingMessage['headers'], body: Buffer) => {
    outgoing.writeHead(status, headers)
    outgoing.end(body)
  }
  const half: Took = (status, headers, body) => {
    outgoing.writeHead(status, { ...headers, 'content-length': body.length })
    outgoing.write(body.subarray(0, Math.floor(body.length / 2)), () => outgoing.socket?.destroy())
  }
  const fewer: Took = (status, _, body) => {
    const told = JSON.parse(body.toString()) as { items?: unknown[] }
    answer(outgoing, status, { ...told, items: told.items?.slice(1) })
  }
  if (fault === null) pass(seen, behind, through)
  else if (fault.kind === 'answer') answer(outgoing, fault.status, fault.body)
  else if (fault.kind === 'cut') outgoing.socket?.destroy()
  else if (fault.kind === 'held') void fault.until.then(() => pass(seen, behind, through))
  else if (fault.kind === 'lost') pass(seen, behind, () => {})
  else if (fault.kind === 'half') pass(seen, behind, half)
  else if (fault.kind === 'fewer') pass(seen, behind, fewer)
  else if (fault.kind === 'items') someItems(fault, seen, behind, outgoing)
}

type Took = (status: number, headers: IncomingMessage['headers'], body: Buffer) => void

function pass({ method, path, headers, body }: Seen, behind: string, took: Took): void {
  const passing = request(
    new URL(path, behind),
    { method, headers: { ...headers, host: new URL(behind).host } },
    response => {
      const parts: Buffer[] = []
      response.on('data', part => parts.push(part as Buffer))
      response.on('end', () => took(response.statusCode!, response.headers, Buffer.concat(parts)))
    },
  )
  passing.on('error', () =>
    took(503, {}, Buffer.from('{"error":{"type":"","reason":"the cluster behind is away"}}')),
  )
  passing.end(body)
}

/** Operations of one line (delete) and of two. */
function operationsOf(body: Buffer): string[] {
  const lines = body.toString().split('\n').slice(0, -1)
  const operations: string[] = []
  for (let i = 0; i < lines.length; i++) {
    const isDelete = lines[i]!.startsWith('{"delete"')
    operations.push(isDelete ? `${lines[i]}\n` : `${lines[i]}\n${lines[++i]}\n`)
  }
  return operations
}

function someItems(
  { share, item, status }: Extract<Fault, { kind: 'items' }>,
  seen: Seen,
  behind: string,
  outgoing: ServerResponse,
): void {
  const operations = operationsOf(seen.body)
  const every = Math.max(1, Math.round(1 / share))
  const isSpoilt = (_: unknown, i: number) => i % every === 0
  const spoilt = (i: number) => ({
    [operations[i]!.startsWith('{"delete"') ? 'delete' : 'index']: { status, error: item },
  })
  const rest = operations.filter((_, i) => !isSpoilt(_, i))
  const answerWith = (passed: unknown[]) => {
    const items = operations.map((_, i) => (isSpoilt(_, i) ? spoilt(i) : passed.shift()))
    answer(outgoing, 200, { errors: true, items })
  }
  if (rest.length === 0) {
    answerWith([])
    return
  }
  const body = Buffer.from(rest.join(''))
  const headers = { ...seen.headers, 'content-length': String(body.length) }
  pass({ ...seen, body, headers }, behind, (_, __, told) =>
    answerWith((JSON.parse(told.toString()) as { items: unknown[] }).items),
  )
}
