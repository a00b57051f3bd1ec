/** What a call was refused with; null where it was not. */
import type { ConnectorError } from '../../core/errors.ts'

export const refusalOf = (call: Promise<unknown>): Promise<ConnectorError | null> =>
  call.then(
    () => null,
    error => error as ConnectorError,
  )
