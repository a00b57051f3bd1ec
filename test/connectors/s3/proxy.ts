/** Stands before a store, sees each request, and alters or answers what a test says. Everything else passes as it is. */
import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
}

export interface Proxy extends AsyncDisposable {
  readonly endpoint: string
  readonly seen: readonly Seen[]
  /** A status answers in the store's place; 'cut' ends the connection; headers replace those of the request. */
  act: (one: Seen) => number | 'cut' | IncomingHttpHeaders | null
}

export async function startProxy(target: string): Promise<Proxy> {
  const seen: Seen[] = []
  const server = createServer((incoming, answer) => {
    const one = { method: incoming.method!, url: incoming.url!, headers: incoming.headers }
    seen.push(one)
    const act = proxy.act(one)
    if (act === 'cut') return void incoming.socket.destroy()
    if (typeof act === 'number') {
      incoming.resume()
      incoming.on('end', () =>
        answer.writeHead(act).end(`<Error><Code>Simulated</Code><Message>${act}</Message></Error>`),
      )
      return
    }
    const { port, hostname } = new URL(target)
    const passed = request(
      { port, hostname, method: one.method, path: one.url, headers: act ?? one.headers },
      from => {
        answer.writeHead(from.statusCode!, from.headers)
        from.pipe(answer)
      },
    )
    passed.on('error', () => answer.destroy())
    incoming.pipe(passed)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const proxy: Proxy = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    act: () => null,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
  return proxy
}
