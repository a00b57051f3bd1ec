/** Asks the hub that runs on a data directory, over its API. */
import { ConnectorError } from '../errors.ts'
import type { RunningHub } from '../hub/directory.ts'

const TIMEOUT_MS = 60_000

export async function ask<T>({ url, pid }: RunningHub, method: 'GET' | 'POST', path: string): Promise<T> {
  let answer: Response
  try {
    answer = await fetch(`${url}${path}`, { method, signal: AbortSignal.timeout(TIMEOUT_MS) })
  } catch (error) {
    throw new ConnectorError(
      'unavailable',
      `the hub at ${url} (pid ${pid}) does not answer: ${(error as Error).message}`,
      { cause: error },
    )
  }
  const body = (await answer.json()) as T & { error?: string; hint?: string | null }
  if (answer.ok) return body
  throw new ConnectorError(
    'config',
    body.error ?? `the hub answered ${answer.status}`,
    body.hint ? { hint: body.hint } : {},
  )
}
