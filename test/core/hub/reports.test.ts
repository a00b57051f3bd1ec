/** What workers tell through the queue holds no secret: whoever reads Redis reads it. */
import { describe, expect, it } from 'vitest'
import { ConnectorError } from '../../../core/errors.ts'
import { readReport, reportOf, unopened } from '../../../core/hub/reports.ts'
import { numbers } from '../../../core/worker/metrics.ts'
import type { Task } from '../../../core/worker/task.ts'

const error = new ConnectorError('auth', 'no user at postgres://me:hunter22@db/shop', {
  hint: "ALTER ROLE me PASSWORD 'hunter22'",
})
const redact = (text: string) => text.replaceAll('hunter22', '***')
const task = (failure: ConnectorError | null): Task => ({
  name: 'p/source',
  metrics: numbers(),
  state: () => 'failing',
  error: () => failure,
  done: Promise.resolve(),
})
const nothing = { position: null, target: null }

describe('reports', () => {
  it('show an error and its hint without secrets, of a task that runs and of one that could not be begun', () => {
    for (const report of [reportOf(task(error), 'w', nothing, redact), unopened('w', error, redact)])
      expect(readReport(report)).toMatchObject({
        owner: 'w',
        state: 'failing',
        error: 'no user at postgres://me:***@db/shop',
        hint: "ALTER ROLE me PASSWORD '***'",
      })
  })

  it('of a task without an error say nothing of one', () => {
    expect(readReport(reportOf(task(null), 'w', nothing, redact))).toMatchObject({ error: null, hint: null })
  })
})
