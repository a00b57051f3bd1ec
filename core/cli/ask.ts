/** Asks the hub that runs on a data directory, over its API. */
import { ConnectorError } from '../errors.ts'
import type { RunningHub } from '../hub/directory.ts'
import { BadRecord } from '../hub/producer.ts'
import { recordWords } from '../hub/topics.ts'

const TIMEOUT_MS = 60_000

export interface Sent {
  readonly body: Buffer
  readonly headers: Readonly<Record<string, string>>
}

/** Throws `BadRecord` where one of what was sent is refused. */
export async function ask<T>(
  { url, pid }: RunningHub,
  method: 'GET' | 'POST',
  path: string,
  sent?: Sent,
): Promise<T> {
  let answer: Response
  try {
    answer = await fetch(`${url}${path}`, { method, signal: AbortSignal.timeout(TIMEOUT_MS), ...sent })
  } catch (error) {
    throw new ConnectorError(
      'unavailable',
      `the hub at ${url} (pid ${pid}) does not answer: ${(error as Error).message}`,
      { cause: error },
    )
  }
  const body = (await answer.json()) as T & { error?: string; hint?: string | null; record?: number }
  if (answer.ok) return body
  const { error = `the hub answered ${answer.status}`, hint, record } = body
  const options = hint ? { hint } : {}
  if (record !== undefined)
    throw new BadRecord(record, {
      message: error.slice(recordWords(record).length),
      hint: hint ?? undefined,
    })
  throw new ConnectorError(answer.status === 503 ? 'unavailable' : 'config', error, options)
}
