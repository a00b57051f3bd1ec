/**
 * POST /api/v1/topics/{topic}: rows that people bring, answered when they are durable.
 *
 *   200   { topic, records }
 *   400   { error, hint, record }    a record that cannot be taken, counted from 0; then nothing of the request is written
 *   404   no such topic              413   larger than 16 MB           415   not a format of the topic
 *   503   the log is full or away: nothing is said of the rows; with the same Idempotency-Key they are written once
 *
 * Only media types that a page of another site cannot send without asking first are taken.
 */
import type { FastifyInstance } from 'fastify'
import { asConnectorError, type ConnectorError } from '../errors.ts'
import type { Hub } from './hub.ts'
import { UnknownTopic, UnknownType } from './produce.ts'
import { BadRecord } from './producer.ts'

export const BODY_BYTES = 16 << 20
const KEY_CHARACTERS = 255

/** Stands before what is wrong with it. */
export const recordWords = (index: number): string => `record ${index}: `

interface Route {
  readonly Params: { readonly topic: string }
}

export async function topicRoutes(server: FastifyInstance, hub: Hub): Promise<void> {
  await server.register(async scope => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser(
      '*',
      { parseAs: 'buffer', bodyLimit: BODY_BYTES },
      async (_: unknown, body: Buffer) => body,
    )
    scope.setErrorHandler(async (thrown, _, reply) => {
      const [code, error] = answerOf(thrown)
      const of = error instanceof BadRecord ? { record: error.index } : null
      const message = of ? `${recordWords(of.record)}${error.message}` : error.message
      await reply.code(code).send({ error: message, hint: error.hint ?? null, ...of })
    })
    scope.post<Route>('/api/v1/topics/:topic', async ({ params: { topic }, headers, body }, reply) => {
      const key = headers['idempotency-key']
      if (key !== undefined && (key.length === 0 || key.length > KEY_CHARACTERS))
        return reply.code(400).send({
          error: `an Idempotency-Key of ${key.length} characters`,
          hint: `It has 1 to ${KEY_CHARACTERS}.`,
        })
      const type = (headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase()
      const request = { body: (body as Buffer | null) ?? Buffer.alloc(0), type, key: (key as string) ?? null }
      return { topic, records: await hub.produce(topic, request) }
    })
  })
}

function answerOf(thrown: unknown): readonly [code: number, error: Pick<ConnectorError, 'message' | 'hint'>] {
  if ((thrown as { code?: string }).code === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return [
      413,
      { message: `the body is larger than ${BODY_BYTES} bytes`, hint: 'Send the rows in several requests.' },
    ]
  const error = asConnectorError(thrown)
  if (error instanceof UnknownTopic) return [404, error]
  if (error instanceof UnknownType) return [415, error]
  if (error.kind === 'bug') return [500, error]
  return [error.kind === 'data' ? 400 : 503, error]
}
