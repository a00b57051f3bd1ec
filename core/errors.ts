/**
 * One error class, seven kinds, and one table from kind to policy. Connectors classify; only `worker/task.ts` decides.
 * `Fenced` is no error: somebody newer owns the task.
 */

export type ErrorKind = 'config' | 'auth' | 'unavailable' | 'throttled' | 'data' | 'offset_lost' | 'bug'

export interface Policy {
  /** backoff: again for ever, shown as failing after `max_attempts`. halt: until the file or a command changes it. reject: `on_reject`. */
  readonly action: 'backoff' | 'halt' | 'reject'
}

export const POLICY: Readonly<Record<ErrorKind, Policy>> = {
  unavailable: { action: 'backoff' },
  throttled: { action: 'backoff' },
  auth: { action: 'backoff' },
  bug: { action: 'backoff' },
  config: { action: 'halt' },
  offset_lost: { action: 'halt' },
  data: { action: 'reject' },
}

export interface ConnectorErrorOptions extends ErrorOptions {
  /** What the reader can do about it: a statement, a setting, a command. */
  readonly hint?: string
}

/** A connector from outside may bring a copy of Millrace of its own: what an error is stands on it, whichever copy made it. */
const ERROR = Symbol.for('millrace.ConnectorError')
const FENCED = Symbol.for('millrace.Fenced')
const isMarked = (thing: unknown, mark: symbol): boolean =>
  typeof thing === 'object' && thing !== null && mark in thing
const isInstance = Function.prototype[Symbol.hasInstance]

/** `message`: what happened, to what, with which value. `hint`: what to do. Never a secret in either. */
export class ConnectorError extends Error {
  override readonly name = 'ConnectorError'
  readonly kind: ErrorKind
  readonly hint: string | undefined
  constructor(kind: ErrorKind, message: string, options: ConnectorErrorOptions = {}) {
    super(message, options)
    this.kind = kind
    this.hint = options.hint
  }
  get [ERROR](): true {
    return true
  }
  /** A subclass is nobody's but ours. */
  static override [Symbol.hasInstance](thing: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: which class is asked is the question
    return this === ConnectorError ? isMarked(thing, ERROR) : isInstance.call(this, thing)
  }
}

/** A newer owner of the task has written (P2, L1): end quietly; the task is leased anew, above `epoch`. */
export class Fenced extends Error {
  override readonly name = 'Fenced'
  /** The epoch found where the data lives; 0: not known. */
  readonly epoch: number
  constructor(message: string, epoch = 0) {
    super(message)
    this.epoch = epoch
  }
  get [FENCED](): true {
    return true
  }
  static override [Symbol.hasInstance](thing: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: which class is asked is the question
    return this === Fenced ? isMarked(thing, FENCED) : isInstance.call(this, thing)
  }
}

/** Anything that is not classified is our mistake. */
export const asConnectorError = (error: unknown): ConnectorError =>
  error instanceof ConnectorError
    ? error
    : new ConnectorError('bug', error instanceof Error ? error.message : String(error), { cause: error })
