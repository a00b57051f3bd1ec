/**
 * Stands between a client and a server of any protocol, byte for byte, and cuts all connections at the call that a test names: a call is
 * what the client writes at once.
 *
 *   before   the call is not handed on       ─▶ the server knows nothing of it
 *   behind   it is, and the answer is lost   ─▶ the server has done it, or does it yet
 *
 * Or it answers a call itself, in the server's words, and the server hears nothing of it.
 */
import { connect, createServer, type Socket } from 'node:net'

export interface Cut {
  /** From 0, over all connections. */
  readonly call: number
  readonly where: 'before' | 'behind'
}

export interface WireProxy extends AsyncDisposable {
  readonly port: number
  /** Counts calls anew; the cut is made once. */
  arm(cut: Cut | null, delayMs?: number): void
  /** What `answer` makes of a call goes to the client in the server's place; null: the server's turn. */
  answerInstead(answer: ((call: Buffer) => Buffer | null) | null): void
  /** Whether the armed cut was made. */
  wasCut(): boolean
  calls(): number
}

export async function startWireProxy(toPort: number, port = 0): Promise<WireProxy> {
  const sockets = new Set<Socket>()
  let cut: Cut | null = null
  let [calls, delayMs] = [0, 0]
  let answerOf: (call: Buffer) => Buffer | null = () => null
  let isDone = false
  let isAnswerLost = false
  const cutAll = () => {
    isDone = true
    isAnswerLost = false
    for (const socket of sockets) socket.destroy()
  }
  const server = createServer(client => {
    const upstream = connect(toPort, '127.0.0.1')
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
    client.on('data', chunk => {
      const isTheOne = !isDone && cut?.call === calls++
      if (isTheOne && cut!.where === 'before') return cutAll()
      if (isTheOne) isAnswerLost = true
      const answer = answerOf(chunk)
      if (answer) client.write(answer)
      else upstream.write(chunk)
    })
    upstream.on('data', chunk => {
      if (isAnswerLost) return cutAll()
      if (delayMs > 0) setTimeout(() => client.writable && client.write(chunk), delayMs)
      else client.write(chunk)
    })
  })
  await new Promise<void>(done => server.listen(port, '127.0.0.1', done))
  const address = server.address()
  return {
    port: typeof address === 'object' && address ? address.port : port,
    arm(next, ms = 0) {
      cut = next
      delayMs = ms
      calls = 0
      isDone = false
      isAnswerLost = false
    },
    answerInstead(answer) {
      answerOf = answer ?? (() => null)
    },
    wasCut: () => isDone,
    calls: () => calls,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise(done => server.close(done))
    },
  }
}
