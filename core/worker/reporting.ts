/**
 * A task whose writer keeps the position tells it to a second place too, where lag tools look (K3). That is only a report: made beside the
 * pump, now and then and at the end, never gone on from, and what goes wrong with it is no failure of the task.
 */
import { assertLease, type Context, type Offset, type Reader } from '../connector.ts'
import { ConnectorError, Fenced } from '../errors.ts'
import type { Progress } from '../pump.ts'
import type { ChangeRecord } from '../record.ts'

export interface ReportingOptions {
  readonly context: Context
  /** Where the task goes on. */
  readonly from: Offset | null
  /** Another one after each failure. */
  open(): Progress
}

interface State extends ReportingOptions {
  readonly stop: AbortController
  latest: Offset | null
  told: Offset | null
  progress: Progress | null
  hasWarned: boolean
  wake: () => void
}

const REPORT_MS = 2_000
const AGAIN_MS = 30_000
/** A task that ends does not wait longer for it. */
const LAST_MS = 3_000

export function reporting<R extends ChangeRecord>(reader: Reader<R>, options: ReportingOptions): Reader<R> {
  const state: State = {
    ...options,
    stop: new AbortController(),
    latest: options.from,
    told: null,
    progress: null,
    hasWarned: false,
    wake() {},
  }
  const telling = tell(state)
  return {
    [Symbol.asyncIterator]: () => reader[Symbol.asyncIterator](),
    async commit(offset) {
      await reader.commit?.(offset)
      state.latest = offset
      state.wake()
    },
    async [Symbol.asyncDispose]() {
      try {
        await reader[Symbol.asyncDispose]()
      } finally {
        state.stop.abort()
        state.wake()
        const enough = new AbortController()
        await Promise.race([telling, options.context.clock.sleep(LAST_MS, enough.signal)])
        enough.abort()
        await state.progress?.[Symbol.asyncDispose]?.()
      }
    },
  }
}

/** Until it is stopped; what is new then is told once more. */
async function tell(state: State): Promise<void> {
  const { context, stop } = state
  for (;;) {
    const isLast = stop.signal.aborted
    if (state.latest !== state.told) {
      const isTold = await toldNow(state)
      if (!isLast) await context.clock.sleep(isTold ? REPORT_MS : AGAIN_MS, stop.signal)
    } else if (!isLast)
      await new Promise<void>(resolve => {
        state.wake = resolve
      })
    if (isLast) return
  }
}

async function toldNow(state: State): Promise<boolean> {
  const { context, latest } = state
  try {
    assertLease(context) // opening it would fence who has the task now
    state.progress ??= await opened(state)
    await state.progress.save(latest!)
    state.told = latest
    return true
  } catch (error) {
    const failed = state.progress
    state.progress = null
    await failed?.[Symbol.asyncDispose]?.().then(undefined, () => {}) // of no use any more
    const { task, log } = context
    const message = `${task} runs, and its position cannot be told to lag tools: ${(error as Error).message}`
    const hint = error instanceof ConnectorError ? error.hint : undefined
    if (state.hasWarned || error instanceof Fenced || state.stop.signal.aborted) log.debug({ task }, message)
    else log.warn({ task, hint }, message)
    state.hasWarned = true
    return false
  }
}

async function opened({ open }: State): Promise<Progress> {
  const progress = open()
  try {
    await progress.load()
  } catch (error) {
    // What stands there is of another log: it is overwritten.
    if (error instanceof ConnectorError && error.kind === 'offset_lost') return progress
    await progress[Symbol.asyncDispose]?.()
    throw error
  }
  return progress
}
