/** What is done again with backoff until it works, or until somebody ends it: how pipelines are admitted, in both hubs. */
import { setMaxListeners } from 'node:events'
import type { Clock, Log } from '../connector.ts'
import { asConnectorError, type ConnectorError } from '../errors.ts'
import type { ParsedPipeline } from '../pipeline/schema.ts'
import { backoffMs } from '../worker/backoff.ts'

export interface TryingParts {
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
}

export interface Trying {
  readonly definition: ParsedPipeline
  /** Resolves when it worked or was ended; never rejects. */
  readonly done: Promise<void>
  /** Resolves when nothing of it goes on. Repeatable. */
  end(): Promise<void>
}

export interface Tried {
  /** Of the pipeline alone: whoever works by it asks it before anything that lasts. */
  attempt(signal: AbortSignal): Promise<void>
  failed(error: ConnectorError): void
}

export function keepTrying(parts: TryingParts, definition: ParsedPipeline, tried: Tried): Trying {
  const stop = new AbortController()
  setMaxListeners(0, stop.signal) // a check may have any number of connections
  const done = tryAgain(parts, definition, stop.signal, tried)
  return {
    definition,
    done,
    end() {
      stop.abort()
      return done
    },
  }
}

async function tryAgain(
  { clock, log, random }: TryingParts,
  { name, errors: { retry } }: ParsedPipeline,
  signal: AbortSignal,
  { attempt, failed }: Tried,
): Promise<void> {
  for (let count = 1; !signal.aborted; count++)
    try {
      return await attempt(signal)
    } catch (thrown) {
      if (signal.aborted) return
      const error = asConnectorError(thrown)
      failed(error)
      log.error(
        { pipeline: name, kind: error.kind, attempt: count, hint: error.hint },
        `${name} does not start: ${error.message}`,
      )
      await clock.sleep(backoffMs(retry, count, random()), signal)
    }
}
