/** As much of Redis' protocol (RESP 2) as checks need, so that they owe nothing to the client library of the code under test. */
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { connect as connectSecurely } from 'node:tls'

/** An error within a list stays one; alone it is thrown. */
export type RedisReply = string | number | null | Error | RedisReply[]

export interface RedisTarget {
  readonly host: string
  readonly port: number
  readonly password?: string | undefined
  /** Path of the certificate of the authority that signed the server's: with TLS. */
  readonly ca?: string | undefined
}

/** On a connection of its own, so that none is left of a server that was killed. */
export function command(target: RedisTarget, args: readonly string[]): Promise<RedisReply> {
  const { password } = target
  const requests = password === undefined ? [args] : [['AUTH', password], args]
  return new Promise((done, fail) => {
    const socket = open(target)
    let received = Buffer.alloc(0)
    const replies: RedisReply[] = []
    socket.on('error', fail)
    socket.on('close', () => fail(new Error('the connection was closed before the answer')))
    socket.on('data', (part: Buffer) => {
      received = Buffer.concat([received, part])
      for (let next = read(received, 0); next; next = read(received, 0)) {
        received = received.subarray(next.end)
        replies.push(next.reply)
      }
      const bad = replies.find(one => one instanceof Error)
      if (bad) fail(bad)
      else if (replies.length === requests.length) done(replies.at(-1)!)
      else return
      socket.destroy()
    })
    socket.write(requests.map(encode).join(''))
  })
}

function open({ host, port, ca }: RedisTarget): Socket {
  if (ca === undefined) return connect(port, host)
  return connectSecurely({ host, port, ca: readFileSync(ca, 'utf8') })
}

const encode = (args: readonly string[]): string =>
  `*${args.length}\r\n${args.map(one => `$${Buffer.byteLength(one)}\r\n${one}\r\n`).join('')}`

/** Null: it has not all come yet. */
function read(from: Buffer, at: number): { reply: RedisReply; end: number } | null {
  const lineEnd = from.indexOf('\r\n', at)
  if (lineEnd < 0) return null
  const line = from.toString('utf8', at + 1, lineEnd)
  const end = lineEnd + 2
  switch (String.fromCharCode(from[at]!)) {
    case '+':
      return { reply: line, end }
    case '-':
      return { reply: new Error(line), end }
    case ':':
      return { reply: Number(line), end }
    case '$':
      return readBulk(from, end, Number(line))
    case '*':
      return readList(from, end, Number(line))
    default:
      throw new Error(`no reply begins like ${from.toString('latin1', at, lineEnd)}`)
  }
}

function readBulk(from: Buffer, at: number, length: number): ReturnType<typeof read> {
  if (length < 0) return { reply: null, end: at }
  const end = at + length + 2
  return end <= from.length ? { reply: from.toString('utf8', at, at + length), end } : null
}

function readList(from: Buffer, at: number, length: number): ReturnType<typeof read> {
  if (length < 0) return { reply: null, end: at }
  const reply: RedisReply[] = []
  let end = at
  while (reply.length < length) {
    const next = read(from, end)
    if (!next) return null
    reply.push(next.reply)
    end = next.end
  }
  return { reply, end }
}
